"""Runs of nodes between neighbouring cuts, and what a window over them needs in memory."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from lamella.planner.cuts import Cuts


@dataclass(frozen=True)
class Units:
    """The nodes of an order, grouped between the cuts that come into question.

    Attributes:
        ends: The cuts, with both ends of the order: unit u is `[ends[u], ends[u + 1])`.
        cost: What a cut at each of `ends` costs.
        own: Bytes of the weights that only this unit uses.
        shared: (name, bytes) of its other weights.
        peak: Bytes of activations at this unit's worst moment.
    """

    ends: Sequence[int]
    cost: Sequence[float]
    own: Sequence[int]
    shared: Sequence[tuple[tuple[str, int], ...]]
    peak: Sequence[int]

    def __len__(self) -> int:
        return len(self.own)

    def bytes_of(self, unit: int) -> int:
        """What one unit alone needs."""
        return self.own[unit] + sum(size for _, size in self.shared[unit]) + self.peak[unit]


def units_of(cuts: Cuts, positions: Sequence[int]) -> Units:
    """Group the nodes of `cuts` between `positions`, which are legal."""
    ends = [0, *positions, len(cuts.order)]
    weights = [{name: size for pairs in cuts.weights[a:b] for name, size in pairs} for a, b in pairwise(ends)]
    users = Counter(name for unit in weights for name in unit)
    return Units(
        ends,
        [cuts.cost(end) for end in ends],
        [sum(size for name, size in unit.items() if users[name] == 1) for unit in weights],
        [tuple((name, size) for name, size in unit.items() if users[name] > 1) for unit in weights],
        [max(cuts.alive[a:b], default=0) for a, b in pairwise(ends)],
    )


def capped(units: Units, limit: int, *, room: float) -> Units:
    """The same units, those above `limit` counted so that only `room` of their own bytes may join them under it.

    At most half of `limit` may: two such units never share a slice.
    """
    own, shared, peak = list(units.own), list(units.shared), list(units.peak)
    for unit in range(len(units)):
        if units.bytes_of(unit) > limit:
            own[unit] = limit - min((limit - 1) // 2, int(units.bytes_of(unit) * room))
            shared[unit], peak[unit] = (), 0
    return Units(units.ends, units.cost, own, shared, peak)


class Window:
    """Bytes of consecutive units, extended at the end and shrunk at the start: a shared weight counts once."""

    def __init__(self, units: Units, start: int = 0) -> None:
        self._units = units
        self._start = self._end = start
        self._uses: Counter[str] = Counter()
        self._weights = 0
        self._peaks: deque[int] = deque()  # units whose peak no later one exceeds

    def extended(self) -> int:
        """Add the next unit; return the bytes needed now."""
        units, unit = self._units, self._end
        self._end += 1
        self._weights += units.own[unit]
        for name, size in units.shared[unit]:
            if not self._uses[name]:
                self._weights += size
            self._uses[name] += 1
        peaks, peak = self._peaks, units.peak
        while peaks and peak[peaks[-1]] <= peak[unit]:
            peaks.pop()
        peaks.append(unit)
        return self._weights + peak[peaks[0]]

    def shrunk(self) -> int:
        """Drop the first unit; return the bytes needed now."""
        units, unit = self._units, self._start
        self._start += 1
        self._weights -= units.own[unit]
        for name, size in units.shared[unit]:
            self._uses[name] -= 1
            if not self._uses[name]:
                self._weights -= size
        if self._peaks and self._peaks[0] == unit:
            self._peaks.popleft()
        return self._weights + (units.peak[self._peaks[0]] if self._peaks else 0)
