"""One model's best plans against simple ones, by the planner's own estimates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from baselines import BASELINES
from tables import markdown

if TYPE_CHECKING:
    from lamella.planner.cost import CostModel
    from lamella.planner.goal import Choice, Found, Goal
    from lamella.planner.segments import Segments

Objective = Literal["latency", "cost", "memory"]
OBJECTIVES: tuple[Objective, ...] = ("latency", "cost", "memory")
BEST = "lamella"
STEP_MB = 64
"""Memory sizes that are tried, beside the least that holds a slice: the search's own."""


@dataclass(frozen=True)
class Contest:
    """One way to cut a model for an objective.

    Attributes:
        model: The model.
        objective: What is wanted.
        way: The best plan, or a baseline.
        wanted: How many slices the baseline was asked for; a best plan has the first number that gave as many.
        slices: How many they are.
        crossing_bytes: What crosses its cuts.
        peak_bytes: Resident memory of its largest slice.
        largest_memory_mb: Memory of its largest function; this and what follows is None where a limit forbids it.
        latency_ms: A warm request.
        usd_per_million: A million warm requests.
        ratio: The best plan's objective, divided by this one's; None for the best plan.
    """

    model: str
    objective: Objective
    way: str
    wanted: int
    slices: int
    crossing_bytes: int
    peak_bytes: int
    largest_memory_mb: int | None
    latency_ms: float | None
    usd_per_million: float | None
    ratio: float | None


def contest_from(facts: Mapping[str, object]) -> Contest:
    """The contest whose fields stand in a results file."""
    return Contest(**cast("dict[str, Any]", facts))


def contests_table(contests: Sequence[Contest]) -> str:
    """A table for the docs, one line a contest."""
    heads = ["model", "cuts", "slices", "crossing MB", "largest peak MB", "memory MB", "ms", "USD per million"]
    return markdown(heads, [_row(one) for one in contests])


def _row(one: Contest) -> list[str]:
    if one.latency_ms is None or one.usd_per_million is None or one.largest_memory_mb is None:
        estimated = ["breaks a limit", "", ""]
    else:
        estimated = [f"{one.largest_memory_mb:,}", f"{one.latency_ms:,.1f}", f"{one.usd_per_million:,.2f}"]
    crossing, peak = (f"{size / 2**20:,.2f}" for size in (one.crossing_bytes, one.peak_bytes))
    return [one.model, one.way, str(one.slices), crossing, peak, *estimated]


class _Arena:
    """One model on one platform, and its nodes in the order of the file."""

    def __init__(self, path: Path, platform: str) -> None:
        from lamella.graph.reader import load
        from lamella.planner.planning import Planning
        from lamella.platforms.reading import load_platform

        self._planning = Planning(load(path), load_platform(platform))
        self.costs = self._planning.costs
        orders = self._planning.segments
        placed = orders[0].flow.placed
        self.file_order = next(segments for segments in orders if segments.cuts.order == placed)

    def best(self, goal: Goal) -> tuple[Segments, Found]:
        """The plan with the least objective, exactly: `lamella plan` then trades 1 % of it for the other criterion."""
        from lamella.planner.search import search

        found = [(segments, search(segments, self.costs, goal)) for segments in self._planning.segments]
        return min(found, key=lambda pair: _value(pair[1], goal))

    def chosen(self, positions: Sequence[int], goal: Goal) -> Found | None:
        """The file's order cut at `positions`, each slice at its best memory size; None if a limit forbids it."""
        from lamella.errors import PlanError
        from lamella.planner.search import evaluate

        edges = (0, *positions, self.file_order.positions[-1])
        choices = [self._choice(start, end, goal, workflow=len(edges) > 2) for start, end in pairwise(edges)]
        if None in choices:
            return None
        fitting = [choice for choice in choices if choice is not None]
        try:
            return evaluate(self.file_order, self.costs, fitting, goal)
        except PlanError:
            return None

    def _choice(self, start: int, end: int, goal: Goal, *, workflow: bool) -> Choice | None:
        from lamella.planner.goal import Choice

        load = self.file_order.load(start, end)
        least_mb = int(-(-float(self.costs.peak_bytes(load)) // (1 << 20)))
        sizes = self.costs.platform.limits.memory_sizes(least_mb, step_mb=STEP_MB)
        if not sizes:
            return None
        if goal.objective == "memory":
            return Choice(start, end, sizes[0])
        costs = {size: self.costs.costs(load, size, workflow=workflow) for size in sizes}
        value = {size: float(c.warm_ms if goal.objective == "latency" else c.warm_usd) for size, c in costs.items()}
        return Choice(start, end, min(sizes, key=value.__getitem__))


def contest(name: str, path: Path, platform: str, counts: Sequence[int]) -> list[Contest]:
    """Every baseline for every number of slices and objective, and the best plan with as many slices as it has."""
    found = list(_contests(name, path, platform, counts))
    return sorted(found, key=lambda one: (OBJECTIVES.index(one.objective), one.slices))


def _contests(name: str, path: Path, platform: str, counts: Sequence[int]) -> Iterator[Contest]:
    from lamella.planner.goal import Goal

    arena = _Arena(path, platform)
    cuts = arena.file_order.cuts
    end = len(cuts.order)
    for objective in OBJECTIVES:
        best: dict[int, float] = {}
        for count in counts:
            for way, choose in BASELINES.items():
                positions = choose(cuts, count)
                slices = len(positions) + 1
                goal = Goal(objective, slices=slices)
                if slices not in best:
                    segments, found = arena.best(goal)
                    best[slices] = _value(found, goal)
                    edges = [*(choice.start for choice in found.choices), end]
                    yield _contest(name, BEST, count, goal, segments, edges, costs=arena.costs, found=found, ratio=None)
                edges = [0, *positions, end]
                rival = arena.chosen(positions, goal)
                ratio = None if rival is None else best[slices] / _value(rival, goal)
                yield _contest(
                    name, way, count, goal, arena.file_order, edges, costs=arena.costs, found=rival, ratio=ratio
                )


def _contest(  # noqa: PLR0913 - the columns of a table
    model: str,
    way: str,
    wanted: int,
    goal: Goal,
    segments: Segments,
    edges: Sequence[int],
    *,
    costs: CostModel,
    found: Found | None,
    ratio: float | None,
) -> Contest:
    return Contest(
        model,
        goal.objective,
        way,
        wanted,
        len(edges) - 1,
        crossing_bytes=sum(segments.cuts.crossing[position] for position in edges[1:-1]),
        peak_bytes=max(int(costs.peak_bytes(segments.load(start, end))) for start, end in pairwise(edges)),
        largest_memory_mb=None if found is None else found.largest_memory_mb,
        latency_ms=None if found is None else found.latency_ms,
        usd_per_million=None if found is None else 1e6 * found.cost_usd,
        ratio=ratio,
    )


def _value(found: Found, goal: Goal) -> float:
    values: dict[str, float] = {
        "latency": found.latency_ms,
        "cost": found.cost_usd,
        "memory": float(found.largest_memory_mb),
    }
    return values[goal.objective]
