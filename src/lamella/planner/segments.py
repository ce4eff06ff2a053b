"""What a run of nodes `[i, j)` of an order asks of the function that it becomes, and what that costs.

A slice's inputs are the values made before `i`, or given by the caller, that it uses; its outputs are the values that
it makes and that are used from `j` on, or by the caller. A value goes straight to each slice that uses it, so it counts
once where it is made and once in every slice that uses it. Weights and what constant nodes make are never sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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

_INLINE, _IN, _OUT = slice(0, 1), slice(1, 3), slice(3, 5)  # rows of a window's tensors: bytes, then a count


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
        with_constants = [(*flow.needs[index], index) for index in cuts.order]
        self._node_ms = [sum(node_ms[i] for i in nodes) for nodes in with_constants]
        self._nodes = [len(nodes) for nodes in with_constants]
        self._sent = _sent(flow, cuts.order, sizes)
        legal = set(self.positions)
        self.splits = {p: tuple(found) for p, found in (splits or {}).items() if {p, p + 1} <= legal}

    def load(self, start: int, end: int) -> Load:
        """The load of the nodes `[start, end)` of the order, computed from scratch: O(values of the model)."""
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

        Costs O(starts) for each weight and value of the nodes between two cuts. The arrays are read-only and hold until
        the next ones are asked for.

        Args:
            fits: Leaves out starts whose weights and activations do not fit; they never return for a later end.
        """
        ends = np.array(self.positions, np.int64)
        compute, nodes = (np.cumsum([0.0, *values])[ends] for values in (self._node_ms, self._nodes))
        window = _Window(self, len(ends) - 1)
        for unit in range(len(ends) - 1):
            window.extend(unit)
            if fits is not None:
                window.shrink(unit + 1, fits)
            kept = slice(window.low, unit + 1)
            yield (
                self.positions[unit + 1],
                ends[kept],
                Load(compute[unit + 1] - compute[kept], nodes[unit + 1] - nodes[kept], *window.rows(kept)),
            )

    def units(self) -> list[tuple[dict[str, int], int]]:
        """Between each two neighbouring legal cuts: bytes of weights by name, and of activations at their worst."""
        cuts = self.cuts
        return [
            ({name: size for pairs in cuts.weights[a:b] for name, size in pairs}, max(cuts.alive[a:b], default=0))
            for a, b in pairwise(self.positions)
        ]

    def changes(self) -> list[list[tuple[slice, int, int, Floats]]]:
        """For each unit, what it changes for segments that end behind it: rows, first start, end of starts, sum."""
        found: list[list[tuple[slice, int, int, Floats]]] = [[] for _ in self.positions[1:]]
        for value in self._sent:
            large = value.size > self._inline_bytes
            added = np.array([[value.size], [1]] if large else [[value.size]], np.float64)
            taken, given = (_IN, _OUT) if large else (_INLINE, _INLINE)
            made = self._unit(value.made)
            known = made  # segments that start up to here make the value, or count it as an input already
            for unit in dict.fromkeys(self._unit(p) for p in value.used):
                if unit > known:
                    found[unit].append((taken, known + 1, unit + 1, added))
                    known = unit
            if made >= 0 and (value.wanted or known > made):
                found[made].append((given, 0, made + 1, added))
                if not value.wanted:
                    found[known].append((given, 0, made + 1, -added))
        return found

    def _unit(self, position: int) -> int:
        return bisect_right(self.positions, position) - 1


class _Window:
    """Sums over units, for all starts at once and an end that moves on."""

    def __init__(self, segments: Segments, count: int) -> None:
        self.low = 0
        self._units, self._changes = segments.units(), segments.changes()
        self._weights, self._activations, self._tensors = np.zeros((2, count)), np.zeros(count), np.zeros((5, count))
        self._shares = segments.held
        self._last_use: dict[str, int] = {}

    def extend(self, unit: int) -> None:
        """Move the end behind `unit`."""
        weights, peak = self._units[unit]
        everywhere = np.zeros((2, 1))
        for name, size in weights.items():
            first = self._last_use.get(name, -1) + 1
            self._last_use[name] = unit
            added = np.array([[size], [size * self._shares.get(name, 1.0)]])
            if first <= self.low:
                everywhere += added
            else:
                self._weights[:, first : unit + 1] += added
        self._weights[:, self.low : unit + 1] += everywhere
        np.maximum(self._activations[self.low : unit + 1], peak, out=self._activations[self.low : unit + 1])
        for rows, first, behind, added in self._changes[unit]:
            self._tensors[rows, max(first, self.low) : behind] += added

    def shrink(self, end: int, fits: Fits) -> None:
        """Leave out the first starts, as long as they do not fit."""
        while self.low < end and not fits(float(self._weights[1, self.low]), float(self._activations[self.low])):
            self.low += 1

    def rows(self, kept: slice) -> list[Floats]:
        """Weights, what they take, activations, inline bytes, bytes in and out, objects in and out."""
        inline, bytes_in, count_in, bytes_out, count_out = self._tensors
        arrays = (*self._weights, self._activations, inline, bytes_in, bytes_out, count_in, count_out)
        views = [array[kept] for array in arrays]
        for view in views:
            view.flags.writeable = False
        return views


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
