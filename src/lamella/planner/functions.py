"""The functions that segments can become on a platform: rows of segments, at memory sizes, with their price."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from lamella.errors import PlanError
from lamella.planner.cost import ColdStart, CostModel, Load
from lamella.planner.segments import Block, Floats, Integers, Segments
from lamella.platforms.base import MB

STEP_MB = 64
"""Memory sizes above the least that a slice needs are tried at multiples of this."""

_ROWS = 2_000  # that are made at a time, if they are those of several ends


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

    def take(self, index: Integers | npt.NDArray[np.bool_] | tuple[slice, None]) -> Rows:
        """Some of them; or, for `(slice, None)`, all as a column, which is priced at many sizes at a time."""
        return Rows(
            self.start[index], self.end[index], self.parts[index], self.workflow[index], _picked(self.load, index)
        )


@dataclass(frozen=True)
class Priced:
    """Rows at memory sizes: when they can begin, how long they take then, what they cost.

    Attributes:
        possible: Whether they end in time.
    """

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

    def ends(self, count: int) -> Iterator[Ends]:
        """All segments and split options, those of some ends at a time, ascending; too large ones may be missing."""
        for block in self.segments.blocks(self.fits, ends=count):
            yield Ends(self.segments, block)

    def rows(self) -> Iterator[Rows]:
        """The same as rows, by their end and then their start; those of one end are never parted."""
        for block in self.segments.blocks(self.fits, pairs=_ROWS):
            yield Ends(self.segments, block).rows(np.arange(block.low, block.behind - 1))

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


class Ends:
    """The segments and split options at some ends next to each other, until the next ones are asked for."""

    def __init__(self, segments: Segments, block: Block) -> None:
        self._segments, self._block = segments, block

    def __len__(self) -> int:
        return self.behind - self.first - 1

    @property
    def low(self) -> int:
        """The first start."""
        return self._block.low

    @property
    def first(self) -> int:
        """The last position before the ends."""
        return self._block.first

    @property
    def behind(self) -> int:
        """The first position behind the ends."""
        return self._block.behind

    def shorten(self, count: int) -> None:
        """Leave all but the first ends, one at least, to the next ones."""
        self._block.behind = min(self.behind, self.first + 1 + max(1, count))

    def rows(self, starts: Integers, kept: npt.NDArray[np.bool_] | None = None) -> Rows:
        """All with these starts, and all options, by their end and then their start.

        Args:
            starts: Ascending.
            kept: Which of them for which end, `[ends, starts]`.
        """
        rows = self._grid(starts, self._block.loads(starts))
        if kept is not None or starts[-1] > self.first:
            rows = rows.take(np.flatnonzero((rows.start < rows.end) & (True if kept is None else kept.ravel())))
        if not self._segments.splits:
            return rows
        options = [rows, *(row for start in range(self.first, self.behind - 1) for row in self._options(start))]
        start, end, parts, workflow = (np.concatenate([getattr(some, name) for some in options]) for name in _ROW)
        order, load = np.argsort(end, kind="stable"), stacked([some.load for some in options])
        return Rows(start, end, parts, workflow, load).take(order)

    def least(self, first: Integers) -> Rows:
        """For each end and each run of starts up to `first` a row with at most what any of the segments asks for.

        Args:
            first: The first start of each run, ascending.
        """
        return self._grid(first, self._block.least(first))

    def compute_ms(self, positions: Integers) -> Floats:
        """Milliseconds of the nodes before positions, on one virtual processor."""
        return self._block.compute_ms[positions]

    def _grid(self, starts: Integers, load: Load) -> Rows:
        shape = len(self), len(starts)
        start = np.broadcast_to(starts, shape).ravel()
        end = np.broadcast_to(self._block.ends[:, None], shape).ravel()
        workflow = (start > 0) | (end < len(self._segments.positions) - 1)
        return Rows(start, end, np.ones(len(start)), workflow, Load(*(array.ravel() for array in _arrays(load))))

    def _options(self, start: int) -> list[Rows]:
        options = self._segments.splits.get(self._segments.positions[start], ())
        first, one = np.array([start]), np.ones(1)
        return [Rows(first, first + 1, option.parts * one, one > 0, stacked([option.load])) for option in options]


_ROW = ("start", "end", "parts", "workflow")
_LOAD = tuple(field.name for field in fields(Load))


def _arrays(load: Load) -> list[Floats]:
    return [np.asarray(getattr(load, name)) for name in _LOAD]


def _picked(load: Load, index: Integers | npt.NDArray[np.bool_] | tuple[slice, None]) -> Load:
    return Load(*[array[index] for array in _arrays(load)])


def stacked(loads: Sequence[Load]) -> Load:
    """Loads in a row."""
    columns = zip(*map(_arrays, loads), strict=True)
    return Load(*(np.concatenate([np.atleast_1d(array) for array in column]) for column in columns))
