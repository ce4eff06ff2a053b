"""Chooses cuts by two simple criteria: a number of slices, or a limit of memory.

Both are exact for a given order of the nodes. The memory of a slice grows with every node added at either end, so the
cuts that are possible before a position form a window, and windows can be searched in linear time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lamella.errors import PlanError
from lamella.planner.cuts import Cuts

BALANCE_TOLERANCE = 1.1
"""A slice may be this much larger than the best possible largest one, where that lets fewer bytes cross."""


@dataclass(frozen=True)
class Partition:
    """Chosen cuts.

    Attributes:
        cuts: The order and what it costs to cut it.
        positions: The chosen positions, ascending, without the two ends.
        largest_bytes: Weights and activations of the largest slice.
    """

    cuts: Cuts
    positions: tuple[int, ...]
    largest_bytes: int

    @property
    def crossing_bytes(self) -> int:
        """Bytes that cross all cuts together."""
        return sum(self.cuts.crossing[p] for p in self.positions)


def balanced(cuts: Cuts, count: int) -> Partition:
    """`count` slices: the smallest crossing among the partitions that are nearly as balanced as any.

    Raises:
        PlanError: There are not that many legal cuts.
    """
    ends = _ends(cuts)
    if len(ends) - 1 < count:
        raise PlanError(
            f"the model has {len(cuts.order)} nodes and {len(ends) - 2} legal cuts, too few for {count} slices",
            hint=f"ask for at most `--slices {max(1, len(ends) - 1)}`",
        )
    if len(ends) - 1 == count:
        return _partition(cuts, ends[1:-1])
    low, high = _bounds(cuts, ends)
    while high - low > max(1, high // 200):
        middle = (low + high) // 2
        low, high = (low, middle) if _fewest(cuts, ends, middle, count) is not None else (middle, high)
    limit = int(high * BALANCE_TOLERANCE)
    return _partition(cuts, _smallest_crossing(cuts, ends, limit, count))


def under_memory(cuts: Cuts, limit_bytes: int) -> Partition:
    """The fewest slices of which none needs more than `limit_bytes` for weights and activations.

    Raises:
        PlanError: A part of the model that cannot be cut needs more than that.
    """
    ends = _ends(cuts)
    fewest = _fewest(cuts, ends, limit_bytes, len(ends))
    if fewest is None:
        raise _too_large(cuts, ends, limit_bytes)
    return _partition(cuts, _smallest_crossing(cuts, ends, limit_bytes, fewest))


def _ends(cuts: Cuts) -> list[int]:
    return [0, *cuts.positions, len(cuts.order)]


def _partition(cuts: Cuts, positions: Iterable[int]) -> Partition:
    chosen = tuple(positions)
    edges = (0, *chosen, len(cuts.order))
    largest = max(sum(cuts.needs(a, b)) for a, b in zip(edges, edges[1:], strict=False))
    return Partition(cuts, chosen, largest)


def _bounds(cuts: Cuts, ends: Sequence[int]) -> tuple[int, int]:
    """A size that no partition can beat, less one, and one that a single slice reaches."""
    smallest = max(sum(cuts.needs(a, b)) for a, b in zip(ends, ends[1:], strict=False))
    return smallest - 1, max(smallest, sum(cuts.needs(0, len(cuts.order))))


def _fewest(cuts: Cuts, ends: Sequence[int], limit: int, most: int) -> int | None:
    """The fewest slices under `limit`, by always taking as much as fits; None if that is impossible or above `most`."""
    count = start = 0
    while start < len(ends) - 1:
        window = _Window(cuts)
        end = start
        while end < len(ends) - 1 and window.extended(ends[end], ends[end + 1]) <= limit:
            end += 1
        count += 1
        if end == start or count > most:
            return None
        start = end
    return count


def _smallest_crossing(cuts: Cuts, ends: Sequence[int], limit: int, count: int) -> list[int]:
    """Positions of `count` slices under `limit` that let the fewest bytes cross: dynamic programming.

    `best[j]` is the least crossing of `k` slices that end at `ends[j]`; the starts that the limit allows form a window
    that only moves forward, so its minimum is kept in a monotone queue.
    """
    lowest = _lowest_starts(cuts, ends, limit)
    infinite = float("inf")
    best: list[float] = [0] + [infinite] * (len(ends) - 1)
    choices: list[list[int]] = []
    for _ in range(count):
        following, choice = [infinite] * len(ends), [-1] * len(ends)
        queue: deque[int] = deque()
        for j in range(1, len(ends)):
            while queue and best[queue[-1]] >= best[j - 1]:
                queue.pop()
            queue.append(j - 1)
            while queue and queue[0] < lowest[j]:
                queue.popleft()
            if queue and best[queue[0]] < infinite:
                following[j], choice[j] = best[queue[0]] + cuts.crossing[ends[j]], queue[0]
        choices.append(choice)
        best = following
    chosen, j = [], len(ends) - 1
    for choice in reversed(choices):
        j = choice[j]
        chosen.append(ends[j])
    return chosen[-2::-1]


def _lowest_starts(cuts: Cuts, ends: Sequence[int], limit: int) -> list[int]:
    """For each end j, the least i such that the slice `[ends[i], ends[j])` stays under `limit`; j where none does."""
    lowest, window, i = [0], _Window(cuts), 0
    for j in range(1, len(ends)):
        total = window.extended(ends[j - 1], ends[j])
        while total > limit and i < j:
            total = window.shrunk(ends[i], ends[i + 1])
            i += 1
        lowest.append(i)
    return lowest


class _Window:
    """Bytes of a run of nodes that is extended at its end and shrunk at its start."""

    def __init__(self, cuts: Cuts) -> None:
        self._cuts = cuts
        self._uses: dict[str, int] = {}
        self._weights = 0
        self._peaks: deque[int] = deque()

    def extended(self, start: int, end: int) -> int:
        """Add the nodes `[start, end)` at the end; return the bytes needed now."""
        alive, uses = self._cuts.alive, self._uses
        for position in range(start, end):
            for name, size in self._cuts.weights[position]:
                count = uses.get(name, 0)
                uses[name] = count + 1
                if count == 0:
                    self._weights += size
            while self._peaks and alive[self._peaks[-1]] <= alive[position]:
                self._peaks.pop()
            self._peaks.append(position)
        return self._total()

    def shrunk(self, start: int, end: int) -> int:
        """Remove the nodes `[start, end)` from the start; return the bytes needed now."""
        for position in range(start, end):
            for name, size in self._cuts.weights[position]:
                self._uses[name] -= 1
                if self._uses[name] == 0:
                    self._weights -= size
            if self._peaks and self._peaks[0] == position:
                self._peaks.popleft()
        return self._total()

    def _total(self) -> int:
        return self._weights + (self._cuts.alive[self._peaks[0]] if self._peaks else 0)


def _too_large(cuts: Cuts, ends: Sequence[int], limit: int) -> PlanError:
    start, end = max(zip(ends, ends[1:], strict=False), key=lambda pair: sum(cuts.needs(*pair)))
    weights, activations = cuts.needs(start, end)
    name = max((pair for pairs in cuts.weights[start:end] for pair in pairs), key=lambda pair: pair[1], default=("", 0))
    held = f", most of it in `{name[0]}`" if name[1] > weights // 2 and not name[0].startswith("\0") else ""
    return PlanError(
        f"nodes {cuts.order[start]} to {cuts.order[end - 1]} cannot be cut and need {weights} bytes of weights{held} "
        f"and {activations} of activations, above the {limit} that are left for them",
        hint=f"raise `--max-memory` by at least {weights + activations - limit} bytes",
    )
