"""The best chain of segments by one criterion: dynamic programming over their ends; bounds leave most unpriced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lamella.planner.cost import Numbers
from lamella.planner.functions import Functions, Rows
from lamella.planner.relaxation import ROUNDING
from lamella.planner.segments import Floats, Integers

_LESS = 1 - 10 * ROUNDING  # a chain must be better by this to be worth a look: ties are many
_BLOCK = 32  # starts that are first excluded together
_FEW = 8  # rows that are priced without asking for closer bounds

Path = tuple[tuple[int, int, int], ...]
"""Segments that follow each other: start and end, as indices of the positions, and parts of each."""


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


class Criterion(Protocol):
    """What a chain is judged by: `value = max(value before, floor) + added`, segment by segment."""

    @property
    def bounds(self) -> Sequence[Callable[[Rows], tuple[Numbers, Numbers]]]:
        """At most `floor` and `added` of rows, closer each time; the first never falls where a load grows."""
        ...

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """`floor` and `added` at the best size; infinite where none is possible."""
        ...


def shortest(functions: Functions, grid: Grid, criterion: Criterion) -> tuple[float, Path] | None:
    """The chain of the least value, exact, and that value; None where there is no chain."""
    table = _Table(grid)
    for rows in functions.rows():
        table.settle(rows, criterion)
    value = float(table.least[-1, -1])
    return (value, table.path()) if value < np.inf else None


class _Table:
    """The least value with which each state is reached, and how."""

    def __init__(self, grid: Grid) -> None:
        shape, self._grid = (grid.layers, grid.positions), grid
        self.least, self._start = np.full(shape, np.inf), np.zeros(shape, np.int64)
        self._parts = np.ones(shape, np.int64)
        self.least[0, 0] = 0

    def settle(self, rows: Rows, criterion: Criterion) -> None:
        """Find the best of the rows that lead to one position; those that bounds exclude are not priced."""
        end = int(rows.end[0])
        reached = self.least[self._grid.behind, end][:, None]
        before = self.least[self._grid.before, rows.places]
        recent = self._start[self._grid.behind, end - 1] - rows.start[0]  # what was best for the last position
        self._improve(rows, before, np.unique(recent[(recent >= 0) & (recent < len(rows))]), criterion)
        left = _in_blocks(rows, before, reached, criterion)
        values = np.zeros((len(before), len(left)))
        for bound in criterion.bounds:
            floor, added = bound(rows.take(left))
            values = np.maximum(before[:, left], floor) + added
            kept = np.flatnonzero((values < reached * _LESS).any(axis=0))
            left, values = left[kept], values[:, kept]
            if len(left) <= _FEW:
                break
        order = np.argsort((values - np.where(np.isfinite(reached), reached, 0)).min(axis=0))
        left, values, size = left[order], values[:, order], _FEW
        while len(left):
            self._improve(rows, before, left[:size], criterion)
            kept = size + np.flatnonzero((values[:, size:] < reached * _LESS).any(axis=0))
            left, values, size = left[kept], values[:, kept], 4 * size

    def _improve(self, rows: Rows, before: Floats, index: Integers, criterion: Criterion) -> None:
        if not len(index):
            return
        some, end = rows.take(index), int(rows.end[0])
        floor, added = criterion.exact(some)
        values = np.maximum(before[:, index], floor) + added
        best = values.argmin(axis=1)
        values = values[np.arange(len(best)), best]
        layers = np.arange(self._grid.layers)[self._grid.behind]
        better = values < self.least[layers, end]
        layers, best = layers[better], best[better]
        self.least[layers, end] = values[better]
        self._start[layers, end], self._parts[layers, end] = some.start[best], some.parts[best]

    def path(self) -> Path:
        """The segments of the best chain."""
        layer, end, found = self._grid.layers - 1, self._grid.positions - 1, []
        while end > 0:
            start = int(self._start[layer, end])
            found.append((start, end, int(self._parts[layer, end])))
            layer, end = max(0, layer - 1), start
        return tuple(reversed(found))


def _in_blocks(rows: Rows, before: Floats, reached: Floats, criterion: Criterion) -> Integers:
    """The rows in whose block of starts one could be better, by the bound of the least of what each asks for."""
    if len(rows) <= 2 * _BLOCK:
        return np.arange(len(rows))
    first = np.arange(0, len(rows), _BLOCK)
    floor, added = criterion.bounds[0](rows.least_of(first))
    values = np.maximum(np.minimum.reduceat(before, first, axis=1), floor) + added
    kept = first[(values < reached * _LESS).any(axis=0)]
    index = (kept[:, None] + np.arange(_BLOCK)).ravel()
    return index[index < len(rows)]
