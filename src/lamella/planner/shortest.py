"""The best chain of segments by one criterion: dynamic programming over their ends; bounds leave most unpriced.

What a segment costs does not depend on what is best for others, so some ends that follow each other are settled
together, in few calls on large arrays: runs of starts are excluded by a bound of them all, then starts by bounds of
their own, and what is left is priced, the most promising first. Then the ends are settled one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lamella.planner.cost import Numbers
from lamella.planner.functions import Ends, Functions, Rows
from lamella.planner.relaxation import ROUNDING
from lamella.planner.segments import Floats, Integers

_LESS = 1 - 10 * ROUNDING  # a chain must be better by this to be worth a look: ties are many
_ENDS = 32  # whose best starts are found together
_RUN, _RUNS = 32, 4  # starts that are first excluded together; so few such runs are not worth the effort
_PAIRS = 200_000  # of starts and ends that are looked at together, if it is more than one end
_FEW, _MANY = 8, 64  # rows of an end that are priced at a time: first, and at last

Path = tuple[tuple[int, int, int], ...]
"""Segments that follow each other: start and end, as indices of the positions, and parts of each."""

Booleans = npt.NDArray[np.bool_]
Priced = tuple[Integers, Integers, Floats, Floats, Floats]
"""Start, end and parts of rows, and their `floor` and `added`."""


@dataclass(frozen=True)
class Grid:
    """The states of a search: positions, and how many arcs led there.

    Attributes:
        positions: How many positions.
        slices: How many arcs a chain has; None: any number, which is not counted.
    """

    positions: int
    slices: int | None

    @property
    def layers(self) -> int:
        """Numbers of arcs that are told apart."""
        return 1 if self.slices is None else self.slices + 1

    @property
    def before(self) -> slice:
        """The layers that an arc leads from, in the order of `behind`."""
        return slice(0, 1) if self.slices is None else slice(0, self.slices)

    @property
    def behind(self) -> slice:
        """The layers that an arc leads to."""
        return slice(0, 1) if self.slices is None else slice(1, self.slices + 1)


Bound = Callable[[Rows], tuple[Numbers, Numbers]]
"""At most `floor` and `added` of rows."""


class Criterion(Protocol):
    """What a chain is judged by: `value = max(value before, floor) + added`, segment by segment."""

    @property
    def rate(self) -> float:
        """By how much `added` of `steady` grows at least with each millisecond more that a segment has to compute."""
        ...

    @property
    def bounds(self) -> Sequence[Bound]:
        """At most `floor` and `added` of rows, closer each time."""
        ...

    def steady(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """Likewise for those behind a workflow's first; they never fall where a load grows."""
        ...

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """`floor` and `added` at the best size; infinite where none is possible."""
        ...


def shortest(functions: Functions, grid: Grid, criterion: Criterion) -> tuple[float, Path] | None:
    """The chain of the least value, exact, and that value; None where there is no chain."""
    table = _Table(grid)
    for ends in functions.ends(_ENDS):
        table.settle(ends, criterion)
    value = float(table.least[-1, -1])
    return (value, table.path()) if value < np.inf else None


def runs(values: Integers) -> Iterator[tuple[int, slice]]:
    """Runs of equal values: the value, and where they stand."""
    edges = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    for first, behind in pairwise(edges):
        if first < behind:
            yield int(values[first]), slice(first, behind)


class _Table:
    """The least value with which each state is reached, and how."""

    def __init__(self, grid: Grid) -> None:
        shape, self._grid = (grid.layers, grid.positions), grid
        self.least, self._start = np.full(shape, np.inf), np.zeros(shape, np.int64)
        self._parts = np.ones(shape, np.int64)
        self.least[0, 0] = 0

    def settle(self, ends: Ends, criterion: Criterion) -> None:
        """Find the least values at some ends; segments that bounds exclude are not priced.

        Until the last step `least` holds values at these ends that some chain has. The best starts of the last end are
        tried first: the less these come to, the more bounds exclude.
        """
        recent = np.unique(np.append(self._start[self._grid.behind, ends.first], ends.first))
        priced = [self._priced(ends.rows(recent[recent >= ends.low]), criterion)]
        first = np.arange(max(ends.low, 1), ends.first + 1, _RUN)
        kept = np.ones((len(ends), len(first)), np.bool_)
        if len(first) > _RUNS:
            least = self._least_of(first, ends, criterion)
            kept = np.any(least < self._reached(ends) * _LESS, axis=0)
            if kept.sum() > _RUNS * len(ends):
                best = least.min(axis=0).argmin(axis=1)
                rows = _of_runs(ends, first, best[:, None] == np.arange(len(first)))
                rows, values = self._bounded(rows, ends, criterion)
                priced.append(self._priced(rows.take(self._most_promising(rows, values, _FEW)), criterion))
                kept = np.any(least < self._reached(ends) * _LESS, axis=0)
        ends.shorten(_PAIRS // (_RUN * max(1, int(kept.any(axis=0).sum()))))
        self.least[:, ends.behind :] = np.inf  # what was tried for ends that are left to the next ones
        rows, values = self._bounded(_of_runs(ends, first, kept[: len(ends)]), ends, criterion)
        size = _FEW
        while len(rows):
            chosen = self._most_promising(rows, values, size)
            priced.append(self._priced(rows.take(chosen), criterion))
            left = ~chosen & self._better(rows, values)
            rows, values, size = rows.take(left), values[:, left], min(4 * size, _MANY)
        self._settle(priced, ends)

    def _reached(self, ends: Ends) -> Floats:
        return self.least[self._grid.behind, ends.first + 1 : ends.behind, None]

    def _least_of(self, first: Integers, ends: Ends, criterion: Criterion) -> Floats:
        """At most what chains come to at each end whose last segment starts in a run of starts, `[layers, ends, runs]`.

        A segment that starts earlier than the last one of its run costs more by the rate of what it has more to
        compute. So it is that of the last one, as if its start was reached that much later.
        """
        starts, last = np.arange(first[0], ends.first + 1), np.append(first[1:] - 1, ends.first)
        floor, added = (bound.reshape(len(ends), -1) for bound in _least(criterion.steady, ends.least(first)))
        later_ms = np.repeat(ends.compute_ms(last), _RUN)[: len(starts)] - ends.compute_ms(starts)
        before = self.least[self._grid.before, first[0] : ends.first + 1] + criterion.rate * later_ms
        before = np.minimum.reduceat(before, first - first[0], axis=1)[:, None, :]
        values: Floats = np.maximum(before, floor) + added
        return values

    def _bounded(self, rows: Rows, ends: Ends, criterion: Criterion) -> tuple[Rows, Floats]:
        """The rows that bounds do not exclude, and at most what the chains come to that end with them.

        The least values between the ends are not known yet: the same recursion with bounds gives values that are lower.
        """
        floor, added = _least(criterion.bounds[0], rows)
        lower = self.least.copy()
        lower[:, ends.first + 1 : ends.behind] *= _LESS  # what is excluded was no less than that
        for end, index in runs(rows.end):
            values = np.maximum(lower[self._grid.before, rows.start[index]], floor[index]) + added[index]
            reached = lower[self._grid.behind, end]
            np.minimum(reached, values.min(axis=1), out=reached)
        values = self._through(lower, rows, floor, added)
        kept = self._better(rows, values)
        rows, values = rows.take(kept), values[:, kept]
        for bound in criterion.bounds[1:]:
            values = self._through(lower, rows, *bound(rows))
            kept = self._better(rows, values)
            rows, values = rows.take(kept), values[:, kept]
        return rows, values

    def _through(self, least: Floats, rows: Rows, floor: Numbers, added: Numbers) -> Floats:
        """The values of the chains that end with rows, `[layers, rows]`."""
        values: Floats = np.maximum(least[self._grid.before][:, rows.start], floor) + added
        return values

    def _better(self, rows: Rows, values: Floats) -> Booleans:
        """Which rows would improve a state."""
        better: Booleans = np.any(values < self.least[self._grid.behind][:, rows.end] * _LESS, axis=0)
        return better

    def _most_promising(self, rows: Rows, values: Floats, count: int) -> Booleans:
        """Some rows of each end."""
        reached = self.least[self._grid.behind][:, rows.end]
        gain = (values - np.where(np.isfinite(reached), reached, 0)).min(axis=0)
        chosen = np.zeros(len(rows), np.bool_)
        for _, index in runs(rows.end):
            best = gain[index].argpartition(min(count, index.stop - index.start) - 1)[:count]
            chosen[index.start + best] = True
        return chosen

    def _priced(self, rows: Rows, criterion: Criterion) -> Priced:
        """Rows with `floor` and `added`; they improve what is known of their ends."""
        floor, added = criterion.exact(rows)
        first = np.flatnonzero(np.diff(rows.end, prepend=-1))
        if len(first):
            values = np.minimum.reduceat(self._through(self.least, rows, floor, added), first, axis=1)
            reached = self.least[self._grid.behind]
            reached[:, rows.end[first]] = np.minimum(reached[:, rows.end[first]], values)
        return rows.start, rows.end, rows.parts, floor, added

    def _settle(self, priced: Sequence[Priced], ends: Ends) -> None:
        """Take the best of priced rows for each end."""
        start, end, parts, floor, added = (np.concatenate(column) for column in zip(*priced, strict=True))
        order = np.argsort(end, kind="stable")
        order = order[: np.searchsorted(end[order], ends.behind)]
        start, parts, floor, added = (column[order] for column in (start, parts, floor, added))
        for position, index in runs(end[order]):
            values = np.maximum(self.least[self._grid.before, start[index]], floor[index]) + added[index]
            best = values.argmin(axis=1)
            self.least[self._grid.behind, position] = values[np.arange(len(best)), best]
            self._start[self._grid.behind, position] = start[index][best]
            self._parts[self._grid.behind, position] = parts[index][best]

    def path(self) -> Path:
        """The segments of the best chain."""
        layer, end, found = self._grid.layers - 1, self._grid.positions - 1, []
        while end > 0:
            start = int(self._start[layer, end])
            found.append((start, end, int(self._parts[layer, end])))
            layer, end = max(0, layer - 1), start
        return tuple(reversed(found))


def _least(bound: Bound, rows: Rows) -> tuple[Floats, Floats]:
    """Bounds of `floor` and `added`, each an array."""
    floor, added = (np.broadcast_to(values, len(rows)) for values in bound(rows))
    return floor, added


def _of_runs(ends: Ends, first: Integers, kept: Booleans) -> Rows:
    """The rows of runs of starts, each for some ends; those of the first start of all, and between the ends."""
    starts = np.arange(ends.low, ends.behind - 1)
    each = np.ones((len(ends), len(starts)), np.bool_)
    if len(first):
        index = slice(first[0] - ends.low, ends.first + 1 - ends.low)
        each[:, index] = np.repeat(kept, _RUN, axis=1)[:, : ends.first + 1 - first[0]]
    used = np.flatnonzero(each.any(axis=0))
    return ends.rows(starts[used], each[:, used])
