"""What a run of nodes `[i, j)` of an order asks of the function that it becomes, and what that costs.

A slice's inputs are the values made before `i`, or given by the caller, that it uses; its outputs are the values that
it makes and that are used from `j` on, or by the caller. A value goes straight to each slice that uses it, so it counts
once where it is made and once in every slice that uses it. Weights and what constant nodes make are never sent.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from lamella.errors import PlanError
from lamella.planner.cost import WORKFLOW_GB, ColdStart, CostModel, Load
from lamella.planner.cuts import Cuts
from lamella.planner.flow import Flow
from lamella.planner.residency import held_bytes
from lamella.platforms.base import MB

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

ROUNDING = 1e-12
"""What sums of the same numbers in another order may differ by, relatively."""

STEP_MB = 64
"""Memory sizes above the least that a slice needs are tried at multiples of this."""

Fits = Callable[[float, float], bool]
"""Whether bytes that weights take and bytes of activations fit a function. If some do, smaller ones do."""

_INLINE, _IN, _OUT = slice(0, 1), slice(1, 3), slice(3, 5)  # rows of a window's tensors: bytes, then a count


@dataclass(frozen=True)
class SplitOption:
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
        splits: Mapping[int, Sequence[SplitOption]] | None = None,
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


@dataclass(frozen=True)
class Rows:
    """Several segments, or ways to split one, as arrays of one length.

    Attributes:
        start: Where each begins, as an index of the positions.
        end: Where it ends.
        parts: Functions that run it side by side.
        workflow: Whether it is one function of several.
        load: What its function, or the largest, asks for.
    """

    start: Integers
    end: Integers
    parts: Floats
    workflow: npt.NDArray[np.bool_]
    load: Load

    def __len__(self) -> int:
        return len(self.start)

    @property
    def places(self) -> slice | Integers:
        """The starts, as a slice where they follow each other."""
        first, behind = int(self.start[0]), int(self.start[-1]) + 1
        return slice(first, behind) if behind - first == len(self) else self.start

    def least_of(self, first: Integers) -> Rows:
        """One row for each run of rows that begins at `first`, with the least of everything that they ask for."""
        some = self.take(first)
        return replace(some, load=Load(*(np.minimum.reduceat(array, first) for array in _arrays(self.load))))

    def take(self, index: Integers | npt.NDArray[np.bool_] | tuple[slice, None]) -> Rows:
        """Some of them; or, for `(slice, None)`, all as a column, which is priced at many sizes at a time."""
        return Rows(
            self.start[index], self.end[index], self.parts[index], self.workflow[index], _picked(self.load, index)
        )


@dataclass(frozen=True)
class Priced:
    """Rows at memory sizes: when they can begin, how long they take then, what they cost, whether that may be."""

    ready_ms: Floats
    ms: Floats
    usd: Floats
    possible: npt.NDArray[np.bool_]


class Functions:
    """The functions that segments can become on a platform.

    Args:
        segments: The segments.
        model: The cost of functions.
        cold: Whether requests find no instances, and how these start; None: they find warm ones.
        max_memory_mb: The largest function that may be; None: the largest of the platform.

    Attributes:
        positions: How many positions a segment may begin or end at.
        limit_ms: The longest that a request may take, started cold.
        most_mb: The largest function that may be.
        sizes: Memory sizes that any segment may have if they are above its least. None above the first that no larger
            one is faster than: those only cost more.

    Raises:
        PlanError: The platform has no function as small as that.
    """

    def __init__(
        self, segments: Segments, model: CostModel, cold: ColdStart | None, max_memory_mb: int | None = None
    ) -> None:
        self.segments, self.model, self.cold = segments, model, cold
        self.positions = len(segments.positions)
        limits, speeds = model.platform.limits, model.platform.speeds
        possible = [size for size in limits.memory_sizes() if max_memory_mb is None or size <= max_memory_mb]
        if not possible:
            smallest = limits.memory_sizes()[0]
            raise PlanError(
                f"{model.platform.title} has no function of {max_memory_mb} MB or less, its smallest has {smallest} MB",
                hint=f"give `--max-memory {smallest}MiB` or more",
            )
        self.limit_ms = np.inf if limits.timeout_s is None else 1000 * limits.timeout_s
        self.most_mb = possible[-1]
        grid = [size for size in limits.memory_sizes(step_mb=STEP_MB) if size < self.most_mb] + [self.most_mb]
        fastest = next((size for size in grid if size >= speeds.mb_per_vcpu * speeds.vcpus_max), self.most_mb)
        self.sizes = np.array([size for size in grid if size <= fastest], np.float64)

    def limited(self, most_mb: int) -> Functions:
        """The same functions without those above a size."""
        other = copy(self)
        other.most_mb, other.sizes = most_mb, self.sizes[self.sizes <= most_mb]
        return other

    def fits(self, held_bytes: float, activations_bytes: float) -> bool:
        """Whether any function can hold these, tensors on their way not counted."""
        speeds = self.model.platform.speeds
        taken = speeds.weights_factor * held_bytes + speeds.activations_factor * activations_bytes
        return speeds.floor_mb * MB + taken <= self.most_mb * MB

    def rows(self) -> Iterator[Rows]:
        """All segments and split options, those of one end at a time, ends ascending; too large ones may be missing."""
        segments = self.segments
        index = {position: i for i, position in enumerate(segments.positions)}
        most = self.positions + max(map(len, segments.splits.values()), default=0)
        every, one = np.arange(self.positions), np.ones(most)
        for end, starts, load in segments.ending_at(self.fits):
            last, options = index[end], segments.splits.get(end - 1, ())
            if not (count := len(starts) + len(options)):
                continue
            first, parts, workflow = every[last - len(starts) : last], one[:count], one[:count] > 0
            if options:
                first = np.concatenate([first, np.full(len(options), last - 1)])
                parts = np.array([1.0] * len(starts) + [option.parts for option in options])
            if last == self.positions - 1:
                workflow = (first > 0) | (parts > 1)
            loads = stacked([load, *(option.load for option in options)]) if options else load
            yield Rows(first, np.broadcast_to(last, count), parts, workflow, loads)

    def units(self) -> Rows:
        """The segments between neighbouring positions."""
        loads = [_picked(load, np.array([-1])) for _, _, load in self.segments.ending_at()]
        index, alone = np.arange(len(loads)), np.full(len(loads), len(loads) == 1)
        return Rows(index, index + 1, np.ones(len(loads)), ~alone, stacked(loads))

    def least_mb(self, load: Load) -> Floats:
        """The smallest function that can hold each; infinite where none can."""
        limits = self.model.platform.limits
        peak_mb = np.ceil(np.asarray(self.model.peak_bytes(load), np.float64) / MB)
        if limits.memory_sizes_mb:
            fixed = np.array([*limits.memory_sizes_mb, np.inf])
            least = fixed[np.searchsorted(fixed, peak_mb)]
        else:
            steps = np.ceil(np.maximum(peak_mb - limits.memory_min_mb, 0) / limits.memory_step_mb)
            least = limits.memory_min_mb + limits.memory_step_mb * steps
        return np.where(least <= self.most_mb, least, np.inf)

    def fastest_mb(self, least_mb: Floats) -> Floats:
        """The size of which no larger one is faster."""
        return np.maximum(least_mb, self.sizes[-1]) if len(self.sizes) else least_mb

    def sizes_of(self, least_mb: Floats) -> Floats:
        """The sizes that each may have, `[rows, sizes]`; infinite in place of those below its least."""
        others = np.where(self.sizes > least_mb[:, None], self.sizes, np.inf)
        return np.concatenate([least_mb[:, None], others], axis=1)

    def priced(self, rows: Rows, memory_mb: Floats) -> Priced:
        """What rows cost at memory sizes, one for each or, if `memory_mb` has two dimensions, several."""
        rows = rows.take((slice(None), None)) if memory_mb.ndim == 2 else rows
        known = np.isfinite(memory_mb)
        memory_mb = np.where(known, memory_mb, self.most_mb)
        costs = self.model.costs(rows.load, memory_mb, workflow=rows.workflow)
        usd = rows.parts * (costs.warm_usd if self.cold is None else costs.cold_usd) + self.workflow_usd(rows)
        shape = memory_mb.shape
        return Priced(
            np.broadcast_to(costs.ready_ms if self.cold == "parallel" else 0.0, shape),
            np.broadcast_to(costs.cold_ms if self.cold == "sequential" else costs.warm_ms, shape),
            np.broadcast_to(usd, shape),
            known & (costs.cold_ms <= self.limit_ms),
        )

    def workflow_usd(self, rows: Rows) -> Floats:
        """One run of the workflow, counted with the first of its slices."""
        return np.where(rows.workflow & (rows.start == 0), self.model.platform.pricing.workflow_request_usd, 0.0)


class Relaxation:
    """Bounds of what segments cost at any of their sizes, without rounding of sizes and of durations.

    Up to one virtual processor, and from there to the most there are, every duration is `x + y / memory`, and the price
    of a second grows with the memory from zero: money is then `x + y / memory + z * memory`, and so is a weighted sum.
    Its least value lies at `sqrt(y / z)` or at an end. Further memory only costs more.

    Args:
        functions: The platform's functions.
        rows: The segments; the least size of each is finite.
        least_mb: Their least sizes.
    """

    def __init__(self, functions: Functions, rows: Rows, least_mb: Floats) -> None:
        model, cold = functions.model, functions.cold
        speeds, pricing = model.platform.speeds, model.platform.pricing
        knees = [speeds.mb_per_vcpu * min(1.0, speeds.vcpus_max), speeds.mb_per_vcpu * speeds.vcpus_max]
        most = functions.fastest_mb(least_mb)
        self._sizes = sizes = np.array([least_mb, *(np.clip(knee, least_mb, most) for knee in knees)])
        costs = model.costs(rows.load, sizes, workflow=rows.workflow)
        saved_ms = costs.lost_ms - np.broadcast_to(costs.lost_ms, sizes.shape)[2]
        warm_ms, cold_ms = (np.broadcast_to(ms, sizes.shape) for ms in (costs.warm_ms, costs.cold_ms - saved_ms))
        run_ms = warm_ms - costs.hop_ms
        init_ms = costs.init_ms - saved_ms if cold is not None and pricing.init_billed else 0.0
        billed_ms, waited_ms = run_ms + init_ms, warm_ms if cold is None else cold_ms
        time_ms = np.where(rows.start == 0, cold_ms, warm_ms) if cold == "parallel" else waited_ms
        waited_usd = np.where(rows.workflow, pricing.workflow_gb_s_usd * WORKFLOW_GB / 1000, 0.0)
        usd = np.broadcast_to(costs.warm_usd if cold is None else costs.cold_usd, sizes.shape)[2] * (1 - ROUNDING)
        second_usd = np.asarray(model.second_usd(sizes))
        fixed_usd = usd - model.billed_s(billed_ms[2]) * second_usd[2] - waited_usd * waited_ms[2]
        rate, once_usd = second_usd[:2] / sizes[:2] / 1000, functions.workflow_usd(rows)
        self._ms = _pieces(sizes, time_ms)
        (billed_x, billed_y), (waited_x, waited_y) = _pieces(sizes, billed_ms), _pieces(sizes, waited_ms)
        self._usd = (
            rows.parts * (fixed_usd + rate * billed_y + waited_usd * waited_x) + once_usd,
            rows.parts * waited_usd * waited_y,
            rows.parts * rate * billed_x,
        )
        least_usd = fixed_usd + pricing.billed_min_ms / 1000 * second_usd[0] + waited_usd * waited_ms[2]
        self._least_ms, self._least_usd = time_ms[2], rows.parts * least_usd + once_usd
        self.possible = cold_ms[2] <= functions.limit_ms

    def bounds(self, slopes: Floats) -> Floats:
        """At most the weighted sums of latency and cost, `[slopes, rows]`; infinite where no size is possible."""
        a, b = slopes[:, :1, None], slopes[:, 1:, None]
        level = a * self._ms[0] + b * self._usd[0]
        falling = np.maximum(a * self._ms[1] + b * self._usd[1], 0)
        rising = np.maximum(b * self._usd[2], 0)
        best = np.sqrt(np.divide(falling, rising, out=np.full_like(falling, np.inf), where=rising > 0))
        best = np.clip(best, self._sizes[:2], self._sizes[1:])
        free = (level + falling / best + rising * best).min(axis=1)
        floors = slopes[:, :1] * self._least_ms + slopes[:, 1:] * self._least_usd
        return np.where(self.possible, np.maximum(free, floors) * (1 - ROUNDING), np.inf)


def _pieces(sizes: Floats, values: Floats) -> tuple[Floats, Floats]:
    """`x` and `y` of `x + y / size` between each two sizes."""
    falls = 1 / sizes[:-1] - 1 / sizes[1:]
    y = np.divide(values[:-1] - values[1:], falls, out=np.zeros_like(falls), where=falls > 0)
    return values[1:] - y / sizes[1:], y


_LOAD = tuple(field.name for field in fields(Load))


def _arrays(load: Load) -> list[Floats]:
    return [np.asarray(getattr(load, name)) for name in _LOAD]


def _picked(load: Load, index: Integers | npt.NDArray[np.bool_] | tuple[slice, None]) -> Load:
    return Load(*[array[index] for array in _arrays(load)])


def stacked(loads: Sequence[Load]) -> Load:
    """Loads in a row."""
    columns = zip(*map(_arrays, loads), strict=True)
    return Load(*(np.concatenate([np.atleast_1d(array) for array in column]) for column in columns))


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
