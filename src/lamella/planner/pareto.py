"""Time against money: the chains of segments that no other beats in both.

Arcs lead from one position to a later one; a chain leads from the first position to the last. The latency of a chain is
found by `finish = max(finish before, ready) + ms`, arc by arc, its cost by adding. Labels are the (finish, cost) pairs
with which a position can be reached; those that another of the same position beats in both are dropped (Hansen,
"Bicriterion path problems", 1980).

What is wanted is given as corners: a chain counts only if it is as fast and as cheap as one of them. For any weights
`(a, b)` of latency and cost, `a * finish + b * cost` is then at most that of some corner. The least such sum from a
position to the end is a shortest path, so what leads to no corner is recognised early: Lagrangian bounds for the
constrained shortest path (Handler and Zang, "A dual algorithm for the constrained shortest path problem", 1980).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lamella.planner.functions import Functions, Rows, stacked
from lamella.planner.relaxation import ROUNDING, Relaxation
from lamella.planner.segments import Floats, Integers
from lamella.planner.shortest import Grid, Path, runs

Booleans = npt.NDArray[np.bool_]

_MOST_ARCS, _MOST_LABELS, _MOST_EXTENSIONS = 300_000, 1_000_000, 3_000_000  # beyond, a search is given up
_GROUP = 64  # corners that are first tried as one

ENDS = np.array([[1.0, 0.0], [0.0, 1.0]])
"""Slopes that count latency alone, and cost alone."""


@dataclass(frozen=True)
class Arcs:
    """Segments at one memory size each; arrays of one length.

    Attributes:
        start: Where each begins.
        end: Where it ends; ascending.
        ready: Milliseconds before which it cannot begin.
        ms: Milliseconds that it takes then.
        usd: What it costs.
        memory: Memory of its function, in MB.
        parts: Functions that run it side by side.
    """

    start: Integers
    end: Integers
    ready: Floats
    ms: Floats
    usd: Floats
    memory: Floats
    parts: Floats

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: Integers | Booleans) -> Arcs:
        """Some of them."""
        return Arcs(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def weights(self, slopes: Floats) -> Floats:
        """Weighted latency and cost, `[slopes, arcs]`: at most what each adds to those of a chain."""
        least_ms = self.ms + np.where(self.start == 0, self.ready, 0.0)
        sums: Floats = slopes[:, :1] * least_ms + slopes[:, 1:] * self.usd
        return sums


class Corners:
    """Limits of latency and cost, of which a chain must keep one pair.

    Args:
        points: `[corners, 2]`: milliseconds and USD; infinite where there is none. By latency, ascending.
    """

    def __init__(self, points: Floats) -> None:
        self.points = points

    def limits(self, slopes: Floats) -> Floats:
        """The weighted sum of each corner, `[corners, slopes]`, and what rounding may add."""
        used = np.where(slopes[None, :, :] > 0, slopes[None, :, :], np.nan) * self.points[:, None, :]
        limits: Floats = np.nansum(used, axis=2) * (1 + ROUNDING)
        return limits

    def reached(self, bounds: Floats, slopes: Floats) -> Booleans:
        """Which columns of `bounds`, `[slopes, n]`, are within every weighted sum of one corner."""
        limits = self.limits(slopes)
        inside: Booleans = np.all(bounds <= limits.max(axis=0)[:, None], axis=0)
        if len(limits) == 1 or not inside.any():
            return inside
        found: Booleans = np.zeros_like(inside)
        for first in range(0, len(limits), _GROUP):
            group = limits[first : first + _GROUP]
            left = np.flatnonzero(inside & ~found)
            left = left[np.all(bounds[:, left] <= group.max(axis=0)[:, None], axis=0)]
            for limit in group if len(left) else ():
                found[left] |= np.all(bounds[:, left] <= limit[:, None], axis=0)
        return found


@dataclass(frozen=True)
class Chain:
    """Arcs from the first position to the last, with what they take."""

    latency_ms: float
    cost_usd: float
    arcs: tuple[int, ...]


def suffixes(arcs: Arcs, grid: Grid, slopes: Floats) -> Floats:
    """The least weighted sum from each state to the end: `[slopes, layers, positions]`."""
    least = np.full((len(slopes), grid.layers, grid.positions), np.inf)
    least[:, -1, -1] = 0
    order, weights = np.argsort(arcs.start, kind="stable")[::-1], arcs.weights(slopes)
    for position, index in runs(arcs.start[order]):
        group = order[index]
        through = weights[:, None, group] + least[:, grid.behind, arcs.end[group]]
        least[:, grid.before, position] = np.minimum(least[:, grid.before, position], through.min(axis=2))
    return least


def prefixes(arcs: Arcs, grid: Grid, slopes: Floats) -> Floats:
    """The least weighted sum from the beginning to each state: `[slopes, layers, positions]`."""
    least = np.full((len(slopes), grid.layers, grid.positions), np.inf)
    least[:, 0, 0] = 0
    weights = arcs.weights(slopes)
    for position, index in runs(arcs.end):
        through = weights[:, None, index] + least[:, grid.before, arcs.start[index]]
        least[:, grid.behind, position] = np.minimum(least[:, grid.behind, position], through.min(axis=2))
    return least


def promising(arcs: Arcs, grid: Grid, corners: Corners, slopes: Floats) -> Arcs:
    """The arcs that a chain within a corner may hold."""
    ahead, back, weights = prefixes(arcs, grid, slopes), suffixes(arcs, grid, slopes), arcs.weights(slopes)
    kept = np.zeros(len(arcs), np.bool_)
    for before, behind in zip(range(grid.layers)[grid.before], range(grid.layers)[grid.behind], strict=True):
        kept |= corners.reached(ahead[:, before, arcs.start] + weights + back[:, behind, arcs.end], slopes)
    return arcs.take(kept)


def frontier(arcs: Arcs, grid: Grid, corners: Corners, slopes: Floats) -> list[Chain] | None:
    """All chains within a corner that no other beats, the fastest first; of equal ones, one. None: too many to follow.

    Args:
        arcs: What chains are made of.
        grid: The positions, and how many arcs a chain has.
        corners: What is wanted.
        slopes: `[n, 2]`: weights of latency and cost, with which to recognise early what is not. Latency alone and cost
            alone should be among them.
    """
    back = suffixes(arcs, grid, slopes)
    labels = _Labels(grid)
    for position, index in runs(arcs.end):
        for before, behind in zip(range(grid.layers)[grid.before], range(grid.layers)[grid.behind], strict=True):
            if labels.count > _MOST_LABELS or labels.extensions(arcs, index, before) > _MOST_EXTENSIONS:
                return None
            label, arc = labels.extended(arcs, index, before)
            finish = np.maximum(labels.finish[label], arcs.ready[arc]) + arcs.ms[arc]
            usd = labels.usd[label] + arcs.usd[arc]
            sums = slopes[:, :1] * finish + slopes[:, 1:] * usd + back[:, behind, position][:, None]
            kept = np.flatnonzero(corners.reached(sums, slopes))
            kept = kept[undominated(finish[kept], usd[kept])]
            labels.add(behind, position, finish[kept], usd[kept], label[kept], arc[kept])
    return labels.chains()


def undominated(latency: Floats, usd: Floats) -> Integers:
    """Indices of the points that no other is as good as in both, by latency; of equal ones, one."""
    order = np.lexsort((usd, latency))
    ordered = usd[order]
    cheapest = np.concatenate([[np.inf], np.minimum.accumulate(ordered)[:-1]]) if len(ordered) else ordered
    return order[ordered < cheapest]


class _Labels:
    """All labels of a search, those of one state in a row."""

    def __init__(self, grid: Grid) -> None:
        self.count = 1
        self.finish, self.usd = np.zeros(1024), np.zeros(1024)
        self._previous, self._arc = np.full(1024, -1, np.int64), np.full(1024, -1, np.int64)
        self._first = np.zeros((grid.layers, grid.positions), np.int64)
        self._size = np.zeros((grid.layers, grid.positions), np.int64)
        self._size[0, 0] = 1

    def extensions(self, arcs: Arcs, index: slice, layer: int) -> int:
        """How many `extended` gives."""
        return int(self._size[layer, arcs.start[index]].sum())

    def extended(self, arcs: Arcs, index: slice, layer: int) -> tuple[Integers, Integers]:
        """Every label with every one of the arcs that leads on from its state: indices of both."""
        start = arcs.start[index]
        sizes = self._size[layer, start]
        arc = np.repeat(np.arange(index.start, index.stop), sizes)
        within = np.arange(len(arc)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return np.repeat(self._first[layer, start], sizes) + within, arc

    def add(self, layer: int, position: int, finish: Floats, usd: Floats, previous: Integers, arc: Integers) -> None:
        """The labels of a state."""
        first, self.count = self.count, self.count + len(finish)
        self._first[layer, position], self._size[layer, position] = first, len(finish)
        while self.count > len(self.finish):
            self.finish, self.usd = np.resize(self.finish, 2 * len(self.finish)), np.resize(self.usd, 2 * len(self.usd))
            self._previous = np.resize(self._previous, 2 * len(self._previous))
            self._arc = np.resize(self._arc, 2 * len(self._arc))
        room = slice(first, self.count)
        self.finish[room], self.usd[room], self._previous[room], self._arc[room] = finish, usd, previous, arc

    def chains(self) -> list[Chain]:
        """Those that reach the end."""
        first, size = int(self._first[-1, -1]), int(self._size[-1, -1])
        return [
            Chain(float(self.finish[label]), float(self.usd[label]), self._path(label))
            for label in range(first, first + size)
        ]

    def _path(self, label: int) -> tuple[int, ...]:
        path = []
        while self._arc[label] >= 0:
            path.append(int(self._arc[label]))
            label = int(self._previous[label])
        return tuple(reversed(path))


def joined(arcs: Sequence[Arcs]) -> Arcs:
    """All of them, by their end."""
    names = list(Arcs.__dataclass_fields__)
    merged = Arcs(*(np.concatenate([getattr(some, name) for some in arcs]) for name in names))
    return merged.take(np.argsort(merged.end, kind="stable"))


@dataclass(frozen=True)
class Sweep:
    """Shortest paths by weighted sums of latency and cost, both as `Relaxation` bounds them.

    Attributes:
        slopes: `[n, 2]`: weights of latency and cost.
        least: The least sums from the beginning to each state, `[n, layers, positions]`.
        start: Where the last segment of that path begins, `[n, layers, positions]`.
        parts: Functions that run it side by side.
    """

    slopes: Floats
    least: Floats
    start: Integers
    parts: Integers

    @property
    def totals(self) -> Floats:
        """The least sums of whole chains."""
        return self.least[:, -1, -1]

    def least_usd(self, latency_ms: Floats) -> Floats:
        """At most what any chain costs that takes no longer."""
        used = self.slopes[:, 1] > 0
        bounds: Floats = (self.totals - self.slopes[:, 0] * latency_ms[:, None])[:, used] / self.slopes[used, 1]
        least: Floats = bounds.max(axis=1)
        return least

    def paths(self) -> list[Path]:
        """The segments of the best chains, each path once."""
        return list(dict.fromkeys(map(self._path, range(len(self.slopes)))))

    def _path(self, slope: int) -> Path:
        layer, end, found = self.least.shape[1] - 1, self.least.shape[2] - 1, []
        while end > 0:
            start, parts = int(self.start[slope, layer, end]), int(self.parts[slope, layer, end])
            found.append((start, end, parts))
            layer, end = max(0, layer - 1), start
        return tuple(reversed(found))


def swept(functions: Functions, grid: Grid, slopes: Floats) -> Sweep:
    """Shortest paths for several slopes: O(slopes) for each segment."""
    shape = (len(slopes), grid.layers, grid.positions)
    least, start, parts = np.full(shape, np.inf), np.zeros(shape, np.int64), np.ones(shape, np.int64)
    least[:, 0, 0] = 0
    for rows, bounds in _bounded(functions, slopes):
        for end, index in runs(rows.end):
            starts = rows.start[index]
            sums = least[:, grid.before][:, :, starts] + bounds[:, None, index]
            best = sums.argmin(axis=2)
            least[:, grid.behind, end] = np.take_along_axis(sums, best[:, :, None], 2)[:, :, 0]
            start[:, grid.behind, end], parts[:, grid.behind, end] = starts[best], rows.parts[index][best]
    return Sweep(slopes, least, start, parts)


def collected(functions: Functions, grid: Grid, corners: Corners, sweep: Sweep) -> Arcs | None:
    """All arcs that a chain within a corner may hold; None: too many to follow."""
    missing = np.where(np.isfinite(sweep.least), sweep.least, 0)
    rest = np.where(np.isfinite(sweep.least), sweep.totals[:, None, None] - missing, 0)
    layers = list(zip(range(grid.layers)[grid.before], range(grid.layers)[grid.behind], strict=True))
    found = []
    for rows, bounds in _bounded(functions, sweep.slopes):
        kept = np.zeros(len(rows), np.bool_)
        for before, behind in layers:
            through = sweep.least[:, before, rows.start] + bounds + rest[:, behind, rows.end]
            kept |= corners.reached(through, sweep.slopes)
        if kept.any():
            arcs = priced_arcs(functions, rows.take(kept))
            inside = np.zeros(len(arcs), np.bool_)
            for before, behind in layers:
                through = sweep.least[:, before, arcs.start] + arcs.weights(sweep.slopes) + rest[:, behind, arcs.end]
                inside |= corners.reached(through, sweep.slopes)
            found.append(arcs.take(inside))
            if sum(map(len, found)) > _MOST_ARCS:
                return None
    return joined(found) if found else Arcs(*(np.zeros(0, np.int64),) * 2, *(np.zeros(0),) * 5)


def arcs_of(functions: Functions, path: Path) -> Arcs:
    """The segments of a path at all their sizes."""
    start, end, parts = (np.array(column) for column in zip(*path, strict=True))
    workflow = np.full(len(path), len(path) > 1 or bool(parts[0] > 1))
    places, load_of = functions.segments.positions, functions.segments.load_of
    load = stacked([load_of(places[first], places[last], count) for first, last, count in path])
    return priced_arcs(functions, Rows(start, end, parts.astype(np.float64), workflow, load))


def weighted(arcs: Arcs, slopes: Floats) -> list[Chain]:
    """The chains of one path's arcs that are best by weighted sums, each once."""
    first = np.flatnonzero(np.diff(arcs.end, prepend=-1))
    sums = (
        arcs.weights(slopes) + ROUNDING * slopes[:, :1] * arcs.ready
    )  # of equally fast sizes, one that is ready first
    legs = np.split(sums, first[1:], axis=1)
    picked = np.unique(
        np.stack([start + leg.argmin(axis=1) for start, leg in zip(first, legs, strict=True)], 1), axis=0
    )
    finish = np.zeros(len(picked))
    for arc in picked.T:
        finish = np.maximum(finish, arcs.ready[arc]) + arcs.ms[arc]
    usd = arcs.usd[picked].sum(axis=1)
    return [Chain(*found) for found in zip(finish.tolist(), usd.tolist(), map(tuple, picked.tolist()), strict=True)]


def slopes_around(middle: float, count: int, *, reach: float) -> Floats:
    """Weights of latency and cost on both sides of a rate, latency alone, and cost alone."""
    rates = middle * np.geomspace(1 / reach, reach, count)
    return np.concatenate([np.stack([rates, np.ones(count)], axis=1), ENDS])


def priced_arcs(functions: Functions, rows: Rows) -> Arcs:
    """Rows at all their sizes, but those that a larger one is at most as expensive as."""
    sizes = functions.sizes_of(functions.least_mb(rows.load))
    priced = functions.priced(rows, sizes)
    usd = np.where(priced.possible, priced.usd, np.inf)
    behind = np.minimum.accumulate(usd[:, ::-1], axis=1)[:, ::-1]
    kept = priced.possible.copy()
    kept[:, :-1] &= usd[:, :-1] < behind[:, 1:]
    row, size = np.nonzero(kept)
    times = (priced.ready_ms[row, size], priced.ms[row, size])
    return Arcs(rows.start[row], rows.end[row], *times, usd[row, size], sizes[row, size], rows.parts[row])


def _bounded(functions: Functions, slopes: Floats) -> Iterator[tuple[Rows, Floats]]:
    for rows in functions.rows():
        least_mb = functions.least_mb(rows.load)
        held = np.isfinite(least_mb)
        if held.any():
            held_rows = rows.take(held)
            yield held_rows, Relaxation(functions, held_rows, least_mb[held]).bounds(slopes)
