"""Memory sizes of a plan that are nearly as good by one criterion and better by the other.

The best plan by one criterion alone is often a poor one by the other: the last processors of a function make it hardly
faster and much dearer. The cuts stay; each slice gets the size at which `b + weight * a` is least, `a` being the
criterion that may become a little worse and `b` the other. The larger the weight, the less it does: bisection finds the
least weight that keeps the allowance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from lamella.planner.cost import CostModel
from lamella.planner.functions import STEP_MB
from lamella.planner.goal import Choice, Found, Goal
from lamella.planner.search import evaluate
from lamella.planner.segments import Floats, Segments
from lamella.platforms.base import MB

_ROUNDS = 40


def trimmed(segments: Segments, cost_model: CostModel, found: Found, goal: Goal, allowance: float) -> Found:
    """The same cuts at other memory sizes.

    Args:
        segments: What was searched.
        cost_model: The cost of functions.
        found: The best plan for `goal`, whose objective is `latency` or `cost`.
        goal: Its bounds hold for the result, too.
        allowance: Share by which its objective may become worse.
    """
    options = [_options(segments, cost_model, choice, len(found.choices) > 1, goal) for choice in found.choices]
    by_time = goal.objective == "latency"
    value: Callable[[Found], float] = (lambda f: f.latency_ms) if by_time else (lambda f: f.cost_usd)
    other: Callable[[Found], float] = (lambda f: f.cost_usd) if by_time else (lambda f: f.latency_ms)
    limit = (1 + allowance) * value(found)

    def at(weight: float) -> Found:
        chosen = []
        for choice, (sizes, ms, usd) in zip(found.choices, options, strict=True):
            a, b = (ms, usd) if by_time else (usd, ms)
            chosen.append(replace(choice, memory_mb=int(sizes[int(np.argmin(b + weight * a))])))
        return evaluate(segments, cost_model, chosen, goal)

    def allowed(plan: Found) -> bool:
        slo = np.inf if goal.slo_ms is None else goal.slo_ms
        most = np.inf if goal.max_cost_usd is None else goal.max_cost_usd
        return value(plan) <= limit and plan.latency_ms <= slo and plan.cost_usd <= most

    best = found
    low, high = -12.0, 12.0  # powers of ten
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        plan = at(10**middle)
        if allowed(plan):
            high = middle
            best = plan if other(plan) < other(best) else best
        else:
            low = middle
    return replace(best, epsilon=found.epsilon)


def _options(
    segments: Segments, cost_model: CostModel, choice: Choice, workflow: bool, goal: Goal
) -> tuple[Floats, Floats, Floats]:
    """The sizes that a slice may have, and what it takes and costs at each."""
    load = segments.load_of(choice.start, choice.end, choice.parts)
    limits = cost_model.platform.limits
    least_mb = int(np.ceil(float(cost_model.peak_bytes(load)) / MB))
    most_mb = limits.memory_max_mb if goal.max_memory_mb is None else goal.max_memory_mb
    sizes = np.array(_within(limits.memory_sizes(least_mb, step_mb=STEP_MB), most_mb, choice.memory_mb), np.float64)
    costs = cost_model.costs(load, sizes, workflow=workflow or choice.parts > 1)
    ms = costs.warm_ms if goal.cold is None else costs.cold_ms
    usd = costs.warm_usd if goal.cold is None else costs.cold_usd
    late = limits.timeout_s is not None and np.asarray(costs.cold_ms) > 1000 * limits.timeout_s
    return sizes, np.where(late, np.inf, ms), np.broadcast_to(choice.parts * np.asarray(usd), sizes.shape)


def _within(sizes: Sequence[int], most_mb: int, own_mb: int) -> list[int]:
    return sorted({own_mb, *(size for size in sizes if size <= most_mb)})
