"""What is asked of a plan, and the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lamella.planner.cost import ColdStart

Objective = Literal["latency", "cost", "memory"]


@dataclass(frozen=True)
class Choice:
    """One slice of a plan: the nodes `[start, end)` of the order.

    Attributes:
        start: Position of its first node.
        end: Position behind its last.
        memory_mb: Memory of its function.
        parts: Functions that run it side by side, where its node is split; else 1.
    """

    start: int
    end: int
    memory_mb: int
    parts: int = 1


@dataclass(frozen=True)
class Goal:
    """What is asked of a plan.

    Attributes:
        objective: What is to be least; `memory`: that of the largest function, and then the latency.
        slo_ms: The longest that a request may take.
        max_cost_usd: The most that a request may cost.
        max_memory_mb: The largest function that may be used.
        slices: How many slices; one that is split counts once.
        cold: Whether the request finds no instances: those of later slices start when it reaches them, or all with the
            first. None: it finds warm ones.
    """

    objective: Objective
    slo_ms: float | None = None
    max_cost_usd: float | None = None
    max_memory_mb: int | None = None
    slices: int | None = None
    cold: ColdStart | None = None


@dataclass(frozen=True)
class Found:
    """A plan.

    Attributes:
        choices: Its slices, in order.
        latency_ms: What a request takes.
        cost_usd: What it costs.
        largest_memory_mb: Memory of the largest function.
        epsilon: How far from exact the search ended: no plan is better by more than this share. On a frontier: for any
            plan it has one that costs at most this share more and is as fast, or as the fastest, which may miss the
            shortest latency by this share.
    """

    choices: tuple[Choice, ...]
    latency_ms: float
    cost_usd: float
    largest_memory_mb: int
    epsilon: float = 0.0

    def value(self, objective: Objective) -> float:
        """Its latency in milliseconds, or its cost in USD."""
        return self.latency_ms if objective == "latency" else self.cost_usd
