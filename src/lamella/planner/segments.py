"""What a run of nodes `[i, j)` of an order asks of the function that it becomes, and what that costs.

A slice's inputs are the values made before `i`, or given by the caller, that it uses; its outputs are the values that
it makes and that are used from `j` on, or by the caller. A value goes straight to each slice that uses it, so it counts
once where it is made and once in every slice that uses it. Weights and what constant nodes make are never sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lamella.planner.cost import Load
from lamella.planner.cuts import Cuts
from lamella.planner.flow import Flow
from lamella.planner.residency import held_bytes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Fits = Callable[[float, float], bool]
"""Whether bytes that weights take and bytes of activations fit a function. If some do, smaller ones do."""

_WEIGHTS, _HELD = 0, 1  # rows of sums, of bytes and of counts
_INLINE, _LARGE, _COUNT = 2, 3, 4  # values taken; in rows that much further down, values given
_GIVEN = 3
_SUMS = 8
_MOST_PAIRS = 100_000  # whose loads are made at a time, if they are those of several ends
_EXACT = 1024  # sums of multiples of 1 / 1024 byte have no rounding, in whatever order

Change = tuple[int, int, int, int, float]
"""What segments ask for more from an end on: behind which unit, row of the sums, first start, end of starts, amount."""


@dataclass(frozen=True)
class SplitLoad:
    """A way to run one node as several functions side by side.

    Attributes:
        parts: How many; at least two, and each option of a node has another number.
        load: What the largest part asks of its function.
    """

    parts: int
    load: Load


@dataclass(frozen=True)
class _Sent:
    """A value that may go from one slice to another.

    Attributes:
        size: Its bytes.
        made: Where in the order it is made; -1 for a model input.
        used: Where it is used, ascending.
        wanted: Whether it is an output of the model.
    """

    size: int
    made: int
    used: tuple[int, ...]
    wanted: bool


class Segments:
    """The loads of all runs of nodes between two legal cuts.

    Args:
        flow: The model's nodes.
        cuts: One order of them.
        sizes: Bytes of each value; one without a size counts as empty.
        node_ms: Milliseconds of each node on one virtual processor of the platform, by index in the graph. Those of the
            constant nodes behind a node are added to its own.
        inline_bytes: A value up to this size travels in the request, a larger one as an object.
        splits: For positions `p` of the order, how the node there may be split: options of the segment `[p, p + 1)`.
        held: For weights by name, how many times their bytes they take in memory; 1 where it is not said.

    Attributes:
        flow: As given.
        cuts: As given.
        positions: The legal cuts, with both ends.
        splits: As given, for those nodes that a legal cut parts from both neighbours.
    """

    def __init__(
        self,
        flow: Flow,
        cuts: Cuts,
        sizes: Mapping[str, int],
        node_ms: Sequence[float],
        *,
        inline_bytes: int,
        splits: Mapping[int, Sequence[SplitLoad]] | None = None,
        held: Mapping[str, float] | None = None,
    ) -> None:
        self.flow, self.cuts, self.held = flow, cuts, held or {}
        self.positions = (0, *cuts.positions, len(cuts.order))
        self._inline_bytes = inline_bytes
        self._loads: dict[tuple[int, int], Load] = {}
        with_constants = [(*flow.needs[index], index) for index in cuts.order]
        self._node_ms = [sum(node_ms[i] for i in nodes) for nodes in with_constants]
        self._nodes = [len(nodes) for nodes in with_constants]
        self._sent = _sent(flow, cuts.order, sizes)
        legal = set(self.positions)
        self.splits = {p: tuple(found) for p, found in (splits or {}).items() if {p, p + 1} <= legal}

    def load(self, start: int, end: int) -> Load:
        """The load of the nodes `[start, end)` of the order, computed from scratch, once: O(values of the model)."""
        if (start, end) not in self._loads:
            self._loads[start, end] = self._load(start, end)
        return self._loads[start, end]

    def _load(self, start: int, end: int) -> Load:
        taken = [v for v in self._sent if v.made < start and any(start <= p < end for p in v.used)]
        given = [v for v in self._sent if start <= v.made < end and (v.wanted or v.used[-1:] >= (end,))]
        inline = [v.size for v in (*taken, *given) if v.size <= self._inline_bytes]
        fetched = [v.size for v in taken if v.size > self._inline_bytes]
        put = [v.size for v in given if v.size > self._inline_bytes]
        weights, activations = self.cuts.needs(start, end)
        unique = {name: size for pairs in self.cuts.weights[start:end] for name, size in pairs}
        return Load(
            compute_ms=sum(self._node_ms[start:end]),
            nodes=sum(self._nodes[start:end]),
            weights_bytes=weights,
            held_bytes=held_bytes(unique, self.held),
            activations_bytes=activations,
            inline_bytes=sum(inline),
            object_in_bytes=sum(fetched),
            object_out_bytes=sum(put),
            objects_in=len(fetched),
            objects_out=len(put),
        )

    def load_of(self, start: int, end: int, parts: int) -> Load:
        """The load of a segment's only function, or, if it is split, of the largest of its parts."""
        if parts == 1:
            return self.load(start, end)
        return next(option.load for option in self.splits[start] if option.parts == parts)

    def ending_at(self, fits: Fits | None = None) -> Iterator[tuple[int, Integers, Load]]:
        """All loads, by their end: for each legal cut but the first, ascending, `(end, starts, loads of the starts)`.

        The arrays are read-only.

        Args:
            fits: Leaves out starts whose weights and activations do not fit; they never return for a later end.
        """
        places = np.array(self.positions, np.int64)
        for block in self.blocks(fits, pairs=_MOST_PAIRS):
            starts = np.arange(block.low, block.behind - 1)
            load, low = block.loads(starts), 0
            for row, end in enumerate(range(block.first + 1, block.behind)):
                held, alive = (np.asarray(array)[row] for array in (load.held_bytes, load.activations_bytes))
                while fits is not None and block.low + low < end and not fits(float(held[low]), float(alive[low])):
                    low += 1
                kept = slice(low, end - block.low)
                arrays = [np.asarray(getattr(load, field.name))[row, kept] for field in fields(Load)]
                for array in arrays:
                    array.flags.writeable = False
                yield self.positions[end], places[starts[kept]], Load(*arrays)

    def blocks(self, fits: Fits | None = None, *, ends: int = 32, pairs: float = np.inf) -> Iterator[Block]:
        """All legal cuts but the first, ascending, as ends of segments, some at a time.

        Args:
            fits: Leaves out starts whose weights and activations do not fit the first of some ends, nor any later one.
            ends: At most how many ends at a time.
            pairs: At most how many segments that end there, if it is more than one end.
        """
        block = Block(self)
        while block.behind < len(self.positions):
            block.advance(ends, pairs, fits)
            yield block

    def units(self) -> list[tuple[dict[str, int], int]]:
        """Between each two neighbouring legal cuts: bytes of weights by name, and of activations at their worst."""
        cuts = self.cuts
        return [
            ({name: size for pairs in cuts.weights[a:b] for name, size in pairs}, max(cuts.alive[a:b], default=0))
            for a, b in pairwise(self.positions)
        ]

    def changes(self) -> list[Change]:
        """How the sums of segments grow and shrink from end to end."""
        found: list[Change] = []
        last_use: dict[str, int] = {}
        for unit, (weights, _) in enumerate(self.units()):
            for name, size in weights.items():
                starts = last_use.get(name, -1) + 1, unit + 1
                last_use[name] = unit
                held = round(size * self.held.get(name, 1.0) * _EXACT) / _EXACT
                found += (unit, _WEIGHTS, *starts, size), (unit, _HELD, *starts, held)
        for value in self._sent:
            kinds = ((_LARGE, value.size), (_COUNT, 1)) if value.size > self._inline_bytes else ((_INLINE, value.size),)
            made = self._unit(value.made)
            known = made  # segments that start up to here make the value, or count it as an input already
            for unit in dict.fromkeys(self._unit(p) for p in value.used):
                if unit > known:
                    found += ((unit, row, known + 1, unit + 1, amount) for row, amount in kinds)
                    known = unit
            if made >= 0 and (value.wanted or known > made):
                found += ((made, row + _GIVEN, 0, made + 1, amount) for row, amount in kinds)
                if not value.wanted:
                    found += ((known, row + _GIVEN, 0, made + 1, -amount) for row, amount in kinds)
        return found

    def running_totals(self) -> tuple[Floats, Floats]:
        """Milliseconds and nodes before each position."""
        ends = np.array(self.positions, np.int64)
        compute, nodes = (np.cumsum([0.0, *values])[ends] for values in (self._node_ms, self._nodes))
        return compute, nodes

    def _unit(self, position: int) -> int:
        return bisect_right(self.positions, position) - 1


class Block:
    """The segments that end at some legal cuts next to each other. Starts and ends are indices of the positions.

    Sums of the segments that end at `first` are kept for all starts; those of the ends behind it are made when they are
    asked for, of what changes from there on.

    Attributes:
        low: The first start.
        first: The last position before the ends.
        behind: The first position behind the ends.
        compute_ms: Milliseconds of the nodes before each position.
    """

    def __init__(self, segments: Segments) -> None:
        self.low = self.first = 0
        self.behind = 1
        units = segments.units()
        self.compute_ms, self._nodes = segments.running_totals()
        self._alive = np.array([alive for _, alive in units], np.float64)
        self._sums, self._activations = np.zeros((_SUMS, len(units))), np.zeros(len(units))
        changes = sorted(segments.changes())
        self._unit, self._row, self._start, self._until = (
            np.array([change[i] for change in changes], np.int64) for i in range(4)
        )
        self._amount = np.array([change[4] for change in changes], np.float64)
        self._edges = np.searchsorted(self._unit, np.arange(len(units) + 1))

    @property
    def ends(self) -> Integers:
        """The ends."""
        return np.arange(self.first + 1, self.behind)

    def advance(self, ends: int, pairs: float, fits: Fits | None) -> None:
        """Go on to the next ends."""
        last = self.behind - 1
        if last > self.first:
            self._sums[:, self.low : last] += self._changes(np.arange(self.low, last), at_once=True)[:, 0]
            alive = np.maximum.accumulate(self._alive[self.first : last][::-1])[::-1]
            before = self._activations[self.low : self.first]
            np.maximum(before, alive[0], out=before)
            self._activations[self.first : last] = alive
        self.first = last
        while fits is not None and self.low < last:
            if fits(float(self._sums[_HELD, self.low]), float(self._activations[self.low])):
                break
            self.low += 1
        count = max(1, int(min(ends, pairs / (last + 1 - self.low))))
        self.behind = min(last + 1 + count, len(self._alive) + 1)

    def loads(self, starts: Integers) -> Load:
        """The loads `[ends, starts]`; those where a start, ascending, is no less than the end mean nothing."""
        return self._load(self._totals(starts), starts)

    def least(self, first: Integers) -> Load:
        """For runs of starts up to `first`: for each end, at most what any of the segments asks for, `[ends, runs]`.

        A segment asks for no less than one that starts later and ends with it, but for the values that it takes: of
        these, it asks for no less than one that starts with it and ends earlier.

        Args:
            first: The first start of each run, ascending.
        """
        last = np.append(first[1:] - 1, self.first)
        totals = self._totals(last)
        taken = self._sums[_INLINE : _INLINE + _GIVEN, : self.first + 1]
        totals[_INLINE : _INLINE + _GIVEN] = np.minimum.reduceat(taken, first, axis=1)[:, None]
        return self._load(totals, last)

    def _load(self, totals: Floats, starts: Integers) -> Load:
        compute, nodes = (sums[self.ends, None] - sums[starts] for sums in (self.compute_ms, self._nodes))
        units = self.ends - 1
        alive = np.where(units[:, None] >= starts, self._alive[units, None], 0)
        activations = np.maximum(np.maximum.accumulate(alive, axis=0), self._activations[starts])
        weights, held, inline_in, bytes_in, count_in, inline_out, bytes_out, count_out = totals
        inline = inline_in + inline_out
        return Load(compute, nodes, weights, held, activations, inline, bytes_in, bytes_out, count_in, count_out)

    def _totals(self, starts: Integers) -> Floats:
        """`[sums, ends, starts]`."""
        totals: Floats = self._changes(starts) + self._sums[:, None, starts]
        return totals

    def _changes(self, starts: Integers, *, at_once: bool = False) -> Floats:
        """What the units before each end add, `[sums, ends, starts]`; or all, for the last end only."""
        some = slice(*self._edges[[self.first, self.behind - 1]])
        edges, place = np.unique(np.concatenate([self._start[some], self._until[some]]), return_inverse=True)
        count, width = 1 if at_once else len(self.ends), len(edges) + 1  # the first is what begins before any edge
        line = self._row[some] * count + (0 if at_once else self._unit[some] - self.first)
        amounts = np.concatenate([self._amount[some], -self._amount[some]])
        steps = np.bincount(np.tile(line, 2) * width + place + 1, amounts, _SUMS * count * width)
        changes = steps.reshape(_SUMS, count, width).cumsum(axis=2).cumsum(axis=1)
        found: Floats = changes[:, :, np.searchsorted(edges, starts, side="right")]
        return found


def _sent(flow: Flow, order: Sequence[int], sizes: Mapping[str, int]) -> list[_Sent]:
    """The values that may travel: model inputs that are used, and what placed nodes make."""
    graph, maker = flow.model.graph, flow.maker
    wanted = {value.name for value in graph.outputs}
    made: dict[str, int] = {}
    used: dict[str, list[int]] = {}
    for position, index in enumerate(order):
        for name in dict.fromkeys(graph.nodes[index].uses):
            if name not in graph.initializers and maker.get(name, -1) not in flow.constant:
                used.setdefault(name, []).append(position)
        made.update((name, position) for name in graph.nodes[index].outputs if name)
    return [
        _Sent(sizes.get(name, 0), made.get(name, -1), tuple(used.get(name, ())), name in wanted)
        for name in made.keys() | used.keys()
        if name in used or name in wanted
    ]
