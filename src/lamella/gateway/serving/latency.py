"""How long batches take by their rows, as measured, and which number of rows pays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping

_GAIN = 0.05
"""Part of the best throughput that is given up for smaller batches, which answer sooner."""

_SHORTER, _LONGER = 0.5, 0.05
"""What a new measurement counts for against those before it: what else the machine does only ever makes it longer."""

_RISE = 0.01
"""What the least time rises by, of the difference: what disturbs a measurement only ever makes it longer."""

_CHOSEN_EVERY = 16
"""How often the best size is looked for again, in measurements."""

_LOOKS_EVERY = 64
"""How often a larger batch is tried again than the one that paid: load and machine change."""

_CURVES_KEPT = 128


def size_class(rows: int) -> int:
    """Sizes are measured at powers of two: the next one from `rows` on."""
    return 1 << max(0, rows - 1).bit_length()


class Curve:
    """Milliseconds of a batch by its rows, for batches of one shape.

    Args:
        largest: Rows of a batch at most.
        assumed: Milliseconds by rows for batches of another shape: their ratios hold until they are measured here.
    """

    def __init__(self, largest: int, assumed: Mapping[int, float] | None = None) -> None:
        self._largest = largest
        self._ms: dict[int, float] = dict(assumed or {})
        self._is_assumed = True
        self._best, self._asked, self._added = self._chosen(), 0, 0
        self._least_ms: dict[int, float] = {}

    def add(self, rows: int, ms: float) -> None:
        """Take a measurement into account."""
        size = size_class(rows)
        per_class = ms * size / rows  # as a full batch of that size would take
        if self._is_assumed:
            self._is_assumed = False
            factor = per_class / self._ms.get(size, per_class)
            self._ms = {one: factor * assumed for one, assumed in self._ms.items()}
        before = self._ms.get(size)
        self._ms[size] = per_class if before is None else _moved(before, per_class)
        least = self._least_ms.get(size, ms)
        self._least_ms[size] = ms if ms <= least else least + _RISE * (ms - least)
        self._added += 1
        if before is None or self._added % _CHOSEN_EVERY == 0:
            self._best = self._chosen()

    def least_ms(self, rows: int) -> float | None:
        """What a batch of about so many rows takes when nothing else disturbs it; None: none was measured."""
        return self._least_ms.get(size_class(rows))

    def ms(self, rows: int) -> float | None:
        """What a batch of so many rows takes, by the nearest size that was measured; None: none of this shape was."""
        if self._is_assumed:
            return None
        wanted = size_class(rows)
        nearest = min(self._ms, key=lambda size: abs(size - wanted))
        return self._ms[nearest] * rows / nearest if nearest < rows else self._ms[nearest]

    def best(self) -> int:
        """The fewest rows whose throughput is within a twentieth of the best; now and then more, to see how that is."""
        self._asked += 1
        return self._best if self._asked % _LOOKS_EVERY else min(2 * self._best, self._largest)

    def _chosen(self) -> int:
        if not self._ms:
            return self._largest
        throughput = {size: size / max(ms, 1e-6) for size, ms in self._ms.items()}
        most = max(throughput.values())
        best = min(size for size, found in throughput.items() if found >= (1 - _GAIN) * most)
        if best == max(self._ms):  # nothing larger has been tried
            best *= 2
        return min(best, self._largest)


def _moved(before: float, ms: float) -> float:
    return before + (_SHORTER if ms < before else _LONGER) * (ms - before)


class Curves:
    """A curve for each shape of requests, the latest `_CURVES_KEPT` of them.

    Args:
        largest: Rows of a batch at most.
        adaptive: Whether measurements decide how many pay; else it is always `largest`.
        assumed: Milliseconds by rows, measured with some shape.
    """

    def __init__(self, largest: int, *, adaptive: bool, assumed: Mapping[int, float] | None = None) -> None:
        self._largest, self._adaptive, self._assumed = largest, adaptive, assumed
        self._curves: OrderedDict[Hashable, Curve] = OrderedDict()

    def add(self, key: Hashable, rows: int, ms: float) -> None:
        """Take a measurement into account."""
        self._of(key).add(rows, ms)

    def ms(self, key: Hashable, rows: int) -> float | None:
        """What a batch takes; None: not known yet."""
        curve = self._curves.get(key)
        return None if curve is None else curve.ms(rows)

    def least_ms(self, key: Hashable, rows: int) -> float | None:
        """What a batch takes when nothing else disturbs it; None: not known yet."""
        curve = self._curves.get(key)
        return None if curve is None else curve.least_ms(rows)

    def best(self, key: Hashable) -> int:
        """Rows that are to be put together, where there are so many."""
        return self._of(key).best() if self._adaptive else self._largest

    def _of(self, key: Hashable) -> Curve:
        curve = self._curves.get(key)
        if curve is None:
            curve = self._curves[key] = Curve(self._largest, self._assumed)
            if len(self._curves) > _CURVES_KEPT:
                self._curves.popitem(last=False)
        else:
            self._curves.move_to_end(key)
        return curve
