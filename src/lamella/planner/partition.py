"""Chooses cuts by two simple criteria: a number of slices, or a limit of memory.

The memory of a slice grows with every node added at either end, so the starts that are possible for a given end form a
window, and windows can be searched in linear time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lamella.errors import PlanError
from lamella.planner.cuts import Cuts
from lamella.planner.units import Units, Window, capped, units_of

BALANCE_TOLERANCE = 1.1
"""A slice may be this much larger than the best possible largest one, where that lets fewer bytes cross."""

_LEAST_SHARES = (0.75, 0.5, 0.25, 0.0)
"""How much of an equal share every slice should hold; the first that is possible is taken."""

_INFINITE = float("inf")


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

    Nearly: the largest slice at most `BALANCE_TOLERANCE` times the best possible, and none much smaller than an equal
    share. A part that cannot be cut, such as a large embedding, may be larger if little joins it in its slice: it does
    not set the measure for the others.

    Raises:
        PlanError: There are not that many legal cuts.
    """
    legal = cuts.positions
    if len(legal) + 1 < count:
        raise PlanError(
            f"the model has {len(cuts.order)} nodes and {len(legal)} legal cuts, too few for {count} slices",
            hint=f"ask for at most `--slices {len(legal) + 1}`",
        )
    if len(legal) + 1 == count:
        return partition_of(cuts, legal)
    useful = _useful(cuts, legal)
    units = units_of(cuts, useful if len(useful) + 1 >= count else legal)
    largest = _smallest_limit(units, count)
    limit = max(1, int(largest * BALANCE_TOLERANCE))
    units = capped(units, limit, room=BALANCE_TOLERANCE - 1)
    for share in _LEAST_SHARES:
        chosen = _smallest_crossing(units, count, limit, int(largest * share))
        if chosen is not None:
            return partition_of(cuts, chosen)
    raise AssertionError("a partition under the limit exists, since the limit was found by making one")


def under_memory(cuts: Cuts, limit_bytes: int) -> Partition:
    """The fewest slices of which none needs more than `limit_bytes` for weights and activations.

    Raises:
        PlanError: A part of the model that cannot be cut needs more than that.
    """
    units = units_of(cuts, cuts.positions)
    if any(units.bytes_of(unit) > limit_bytes for unit in range(len(units))):
        raise _too_large(cuts, units, limit_bytes)
    chosen = _smallest_crossing(units, _fewest(units, limit_bytes), limit_bytes, 0)
    assert chosen is not None
    return partition_of(cuts, chosen)


def _useful(cuts: Cuts, legal: Sequence[int]) -> list[int]:
    """Of cuts between which no weight lies, the one that the fewest bytes cross: the others cannot balance better."""
    useful: list[int] = []
    for position in legal:
        previous = useful[-1] if useful else None
        if previous is not None and not any(cuts.weights[previous:position]):
            if cuts.cost(position) <= cuts.cost(previous):
                useful[-1] = position
        else:
            useful.append(position)
    return useful


def partition_of(cuts: Cuts, positions: Sequence[int]) -> Partition:
    """The partition that these positions make."""
    edges = (0, *positions, len(cuts.order))
    largest = max(sum(cuts.needs(a, b)) for a, b in pairwise(edges))
    return Partition(cuts, tuple(positions), largest)


def _smallest_limit(units: Units, count: int) -> int:
    """The least limit, to one percent, under which `count` slices are enough: bisection."""
    window = Window(units)
    low, high = -1, max((window.extended() for _ in range(len(units))), default=0)
    likely = high // count + max((units.bytes_of(unit) for unit in range(len(units))), default=0)
    if likely < high and _fewest(units, likely) <= count:
        high = likely
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if _fewest(units, middle) <= count else (middle, high)
    return high


def _fewest(units: Units, limit: int) -> int:
    """The fewest slices under `limit`, by always taking as much as fits; a unit that is larger stands alone."""
    count = weights = peak = 0
    seen: set[str] = set()
    for own, shared, highest in zip(units.own, units.shared, units.peak, strict=True):
        added = own + sum(size for name, size in shared if name not in seen) if shared else own
        if count and weights + added + max(peak, highest) <= limit:
            weights += added
            peak = max(peak, highest)
        else:
            count += 1
            weights, peak = own + sum(size for _, size in shared), highest
            seen.clear()
        if shared:
            seen.update(name for name, _ in shared)
    return count


def _smallest_crossing(units: Units, count: int, limit: int, least: int) -> list[int] | None:
    """Cuts for `count` slices of `least` to `limit` bytes that let the fewest bytes cross; None if there are none.

    Dynamic programming: `best[j]` is the least crossing of `k` slices that end at `ends[j]`. The starts possible for
    `j` form a window that only moves forward, so its minimum is kept in a monotone queue.
    """
    lowest = _first_starts(units, limit)
    highest = [start - 1 for start in _first_starts(units, least - 1)]
    best: list[float] = [0.0] + [_INFINITE] * len(units)
    choices = []
    for _ in range(count):  # one more slice each time
        best, choice = _one_more_slice(units, best, lowest, highest)
        choices.append(choice)
    if best[-1] == _INFINITE:
        return None
    chosen, j = [], len(units)
    for choice in reversed(choices):
        j = choice[j]
        chosen.append(units.ends[j])
    return chosen[-2::-1]


def _one_more_slice(
    units: Units, best: Sequence[float], lowest: Sequence[int], highest: Sequence[int]
) -> tuple[list[float], list[int]]:
    following, choice = [_INFINITE] * len(best), [-1] * len(best)
    queue: deque[int] = deque()
    entered = 0
    for j in range(1, len(best)):
        while entered <= highest[j]:
            while queue and best[queue[-1]] >= best[entered]:
                queue.pop()
            queue.append(entered)
            entered += 1
        while queue and queue[0] < lowest[j]:
            queue.popleft()
        if queue and best[queue[0]] < _INFINITE:
            following[j], choice[j] = best[queue[0]] + units.cost[j], queue[0]
    return following, choice


def _first_starts(units: Units, limit: int) -> list[int]:
    """For each end j, the least start i such that units `[i, j)` need at most `limit` bytes; j where none does."""
    starts, window, i = [0], Window(units), 0
    for j in range(1, len(units) + 1):
        total = window.extended()
        while total > limit and i < j:
            total = window.shrunk()
            i += 1
        starts.append(i)
    return starts


def _too_large(cuts: Cuts, units: Units, limit: int) -> PlanError:
    worst = max(range(len(units)), key=units.bytes_of)
    start, end = units.ends[worst], units.ends[worst + 1]
    weights, activations = cuts.needs(start, end)
    name, size = max((pair for pairs in cuts.weights[start:end] for pair in pairs), key=lambda p: p[1], default=("", 0))
    held = f", most of it in `{name}`" if size > weights // 2 and not name.startswith("\0") else ""
    which = f"node {cuts.order[start]}" if end - start == 1 else f"{end - start} nodes from node {cuts.order[start]} on"
    return PlanError(
        f"{which} cannot be cut and needs {weights} bytes of weights{held} and {activations} of activations, "
        f"above the {limit} that are left for them",
        hint=f"raise `--max-memory` by at least {weights + activations - limit} bytes",
    )
