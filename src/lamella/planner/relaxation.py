"""Bounds of what a segment costs at any size, which save pricing it at all of them."""

from __future__ import annotations

import numpy as np

from lamella.planner.cost import WORKFLOW_GB, CostModel, Load
from lamella.planner.functions import Functions, Rows
from lamella.planner.segments import Floats

ROUNDING = 1e-12
"""What sums of the same numbers in another order may differ by, relatively."""


class Relaxation:
    """Bounds of what segments cost at any of their sizes, without rounding of sizes and of durations.

    Up to one virtual processor, and from there to the most there are, every duration is `x + y / memory`, and the price
    of a second grows with the memory from zero: money is then `x + y / memory + z * memory`, and so is a weighted sum.
    Its least value lies at `sqrt(y / z)` or at an end. Further memory only costs more. What a function saves that was
    idle before is concave in `1 / memory`: a tangent is never less.

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
        avoided_ms = costs.lost_ms - np.broadcast_to(costs.lost_ms, sizes.shape)[2]
        warm_ms, cold_ms = (np.broadcast_to(ms, sizes.shape) for ms in (costs.warm_ms, costs.cold_ms - avoided_ms))
        run_ms = warm_ms - costs.hop_ms
        init_ms = costs.init_ms - avoided_ms if cold is not None and pricing.init_billed else 0.0
        billed_ms, waited_ms = run_ms + init_ms, warm_ms if cold is None else cold_ms
        time_ms = np.where(rows.start == 0, cold_ms, warm_ms) if cold == "parallel" else waited_ms
        waited_usd = np.where(rows.workflow, pricing.workflow_gb_s_usd * WORKFLOW_GB / 1000, 0.0)
        usd = np.broadcast_to(costs.warm_usd if cold is None else costs.cold_usd, sizes.shape)[2] * (1 - ROUNDING)
        second_usd = np.asarray(model.second_usd(sizes))
        fixed_usd = usd - model.billed_s(billed_ms[2]) * second_usd[2] - waited_usd * waited_ms[2]
        rate, once_usd = second_usd[:2] / sizes[:2] / 1000, functions.workflow_usd(rows)
        saved = _Saved(model, rows.load, sizes, np.broadcast_to(costs.saved_ms, sizes.shape))
        self._ms = _pieces(sizes, time_ms, saved)
        (billed_x, billed_y), (waited_x, waited_y) = (_pieces(sizes, ms, saved) for ms in (billed_ms, waited_ms))
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
        rising = b * self._usd[2]
        best = np.sqrt(np.divide(falling, rising, out=np.full_like(falling, np.inf), where=rising > 0))
        best = np.clip(best, self._sizes[:2], self._sizes[1:])
        free = (level + falling / best + rising * best).min(axis=1)
        floors = slopes[:, :1] * self._least_ms + slopes[:, 1:] * self._least_usd
        return np.where(self.possible, np.maximum(free, floors) * (1 - ROUNDING), np.inf)


class _Saved:
    """What idle functions save: at three sizes, and between the first two at most `x + y / size`."""

    def __init__(self, model: CostModel, load: Load, sizes: Floats, saved_ms: Floats) -> None:
        speeds, middle, busy_ms = model.platform.speeds, np.sqrt(sizes[0] * sizes[1]), model.busy_ms(load)
        share = np.minimum(model.processors(middle), 1.0)
        in_one_period = busy_ms <= speeds.cpu_period_ms * share
        self.ms = saved_ms
        self.y = np.where(in_one_period, busy_ms, speeds.cpu_period_ms * share**2) * speeds.mb_per_vcpu * (share < 1)
        self.x = busy_ms / share * model.saved_share(busy_ms, middle) - self.y / middle


def _pieces(sizes: Floats, values: Floats, saved: _Saved) -> tuple[Floats, Floats]:
    """`x` and `y` of `x + y / size`, at most the value between each two sizes."""
    falls = 1 / sizes[:-1] - 1 / sizes[1:]
    first, last = np.array([values[0] + saved.ms[0], values[1]]), np.array([values[1] + saved.ms[1], values[2]])
    y = np.divide(first - last, falls, out=np.zeros_like(falls), where=falls > 0)
    x = last - y / sizes[1:]
    return x - np.array([saved.x, np.zeros_like(saved.x)]), y - np.array([saved.y, np.zeros_like(saved.y)])
