"""What a whole plan costs: the estimates of its slices, put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from lamella.planner.cost import CostModel, Costs, Load
from lamella.planner.search import Choice
from lamella.planner.segments import Segments


@dataclass(frozen=True)
class SliceEstimate:
    """What one slice costs.

    Attributes:
        memory_mb: Memory of its function.
        parts: How many functions run it side by side; 1 where its weight is not split.
        peak_bytes: Resident memory at the worst moment, of each of them.
        load: What it asks for; of the largest part.
        costs: Time and money of one function.
    """

    memory_mb: int
    parts: int
    peak_bytes: int
    load: Load
    costs: Costs

    @property
    def warm_usd(self) -> float:
        """A warm request, all its parts together."""
        return self.parts * float(self.costs.warm_usd)

    @property
    def cold_usd(self) -> float:
        """A cold request, all its parts together."""
        return self.parts * float(self.costs.cold_usd)


@dataclass(frozen=True)
class Estimate:
    """What a plan costs, for one request.

    Attributes:
        slices: Its slices, in order; those that run side by side as one.
        warm_ms: All functions are there.
        cold_sequential_ms: None is; each starts when its request comes.
        cold_parallel_ms: None is; all start with the first request.
        warm_usd: Price when all are there.
        cold_usd: Price when none is.
    """

    slices: tuple[SliceEstimate, ...]
    warm_ms: float
    cold_sequential_ms: float
    cold_parallel_ms: float
    warm_usd: float
    cold_usd: float

    @property
    def largest_memory_mb(self) -> int:
        """Memory of the largest function."""
        return max(part.memory_mb for part in self.slices)


def estimate(segments: Segments, model: CostModel, choices: Sequence[Choice]) -> Estimate:
    """Estimate the plan that `choices` make."""
    workflow = len(choices) > 1 or any(choice.parts > 1 for choice in choices)
    parts = tuple(_slice(segments, model, choice, workflow) for choice in choices)
    once_usd = model.platform.pricing.workflow_request_usd if workflow else 0.0
    finish_ms = 0.0
    for part in parts:
        finish_ms = max(finish_ms, float(part.costs.ready_ms)) + float(part.costs.warm_ms)
    return Estimate(
        slices=parts,
        warm_ms=sum(float(part.costs.warm_ms) for part in parts),
        cold_sequential_ms=sum(float(part.costs.cold_ms) for part in parts),
        cold_parallel_ms=finish_ms,
        warm_usd=sum(part.warm_usd for part in parts) + once_usd,
        cold_usd=sum(part.cold_usd for part in parts) + once_usd,
    )


def _slice(segments: Segments, model: CostModel, choice: Choice, workflow: bool) -> SliceEstimate:
    load = segments.load(choice.start, choice.end)
    if choice.parts > 1:
        load = next(option.load for option in segments.splits[choice.start] if option.parts == choice.parts)
    costs = model.costs(load, choice.memory_mb, workflow=workflow)
    plain = Costs(**{field.name: float(np.asarray(getattr(costs, field.name))) for field in fields(Costs)})
    return SliceEstimate(choice.memory_mb, choice.parts, int(np.ceil(float(model.peak_bytes(load)))), load, plain)
