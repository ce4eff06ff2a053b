"""What a whole plan costs: the estimates of its slices, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lamella.planner.cost import CostModel, Costs, Load


@dataclass(frozen=True)
class Step:
    """One slice of a plan, ready to be estimated.

    Attributes:
        load: What it asks of its function.
        memory_mb: Memory of that.
        group: Number of the step that it belongs to. Steps follow each other; the slices of one run side by side.
        after: The slices of the same step whose values it needs all the same.
    """

    load: Load
    memory_mb: int
    group: int
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class SliceEstimate:
    """What one slice costs.

    Attributes:
        memory_mb: Memory of its function.
        peak_bytes: Resident memory at the worst moment.
        load: What it asks for.
        costs: Time and money.
    """

    memory_mb: int
    peak_bytes: int
    load: Load
    costs: Costs


@dataclass(frozen=True)
class Estimate:
    """What a plan costs, for one request.

    Attributes:
        slices: Its slices, in order.
        steps: How many follow each other; fewer than the slices where some run side by side.
        warm_ms: All functions are there.
        cold_sequential_ms: None is; each starts when its request comes.
        cold_parallel_ms: None is; all start with the first request.
        warm_usd: Price when all are there.
        cold_usd: Price when none is.
        epsilon: No plan for the same goal is better by more than this share; 0: it is the best.
    """

    slices: tuple[SliceEstimate, ...]
    steps: int
    warm_ms: float
    cold_sequential_ms: float
    cold_parallel_ms: float
    warm_usd: float
    cold_usd: float
    epsilon: float = 0.0

    @property
    def largest_memory_mb(self) -> int:
        """Memory of the largest function."""
        return max(part.memory_mb for part in self.slices)


def estimate(model: CostModel, steps: Sequence[Step]) -> Estimate:
    """Estimate a plan.

    Where slices run side by side, each is charged for the workflow's time as if it ran alone: an upper bound, by a few
    percent of the price.
    """
    workflow = len(steps) > 1
    slices = tuple(_slice(model, step, workflow) for step in steps)
    once_usd = model.platform.pricing.workflow_request_usd if workflow else 0.0
    zeros = [0.0] * len(slices)
    warm_ms = [float(part.costs.warm_ms) for part in slices]
    return Estimate(
        slices=slices,
        steps=len({step.group for step in steps}),
        warm_ms=_finish(steps, zeros, warm_ms),
        cold_sequential_ms=_finish(steps, zeros, [float(part.costs.cold_ms) for part in slices]),
        cold_parallel_ms=_finish(steps, [float(part.costs.ready_ms) for part in slices], warm_ms),
        warm_usd=sum(float(part.costs.warm_usd) for part in slices) + once_usd,
        cold_usd=sum(float(part.costs.cold_usd) for part in slices) + once_usd,
    )


def _finish(steps: Sequence[Step], ready_ms: Sequence[float], takes_ms: Sequence[float]) -> float:
    """When the last slice ends, if each begins when the step before has ended and its own instance is ready."""
    finish: list[float] = []
    before, group = 0.0, 0
    for step, ready, takes in zip(steps, ready_ms, takes_ms, strict=True):
        if step.group != group:
            before, group = max(finish), step.group
        begin = max(before, ready, *(finish[index] for index in step.after))
        finish.append(begin + takes)
    return max(finish)


def _slice(model: CostModel, step: Step, workflow: bool) -> SliceEstimate:
    costs = model.costs(step.load, step.memory_mb, workflow=workflow)
    plain = Costs(**{field.name: float(np.asarray(getattr(costs, field.name))) for field in fields(Costs)})
    return SliceEstimate(step.memory_mb, int(np.ceil(float(model.peak_bytes(step.load)))), step.load, plain)
