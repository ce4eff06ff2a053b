"""The best plan: cuts and memory sizes chosen together.

A plan is a chain of segments, each at one of the sizes of `Functions`. For one criterion, dynamic programming over all
legal cuts finds the best chain: `best[j] = min over i of best[i] + cost of [i, j)`; bounds of what segments cost save
pricing most of them. Under a bound on the other criterion, `pareto` narrows the segments down to those that a better
plan could have, and follows all plans of these that no other beats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lamella.errors import PlanError
from lamella.planner.cost import CostModel
from lamella.planner.criteria import CRITERIA
from lamella.planner.functions import Functions
from lamella.planner.goal import Choice, Found, Goal, Objective
from lamella.planner.pareto import (
    ENDS,
    Arcs,
    Chain,
    Corners,
    arcs_of,
    collected,
    frontier,
    promising,
    slopes_around,
    swept,
    undominated,
    weighted,
)
from lamella.planner.refusals import TOLERANCE, impossible, refuse_above, within, wrong_count
from lamella.planner.segments import Floats, Segments
from lamella.planner.shortest import Grid, Path, shortest

EPSILON = 1e-3
"""The frontier of a large model holds, for each plan, one that is as fast and at most this share more expensive."""

_EXACT_SEGMENTS = 20_000  # the frontier of a model with at most so many segments is exact


def evaluate(segments: Segments, cost_model: CostModel, choices: Sequence[Choice], goal: Goal) -> Found:
    """What given choices take and cost, from scratch; `goal` says only how requests start."""
    workflow = len(choices) > 1 or any(choice.parts > 1 for choice in choices)
    finish_ms = 0.0
    cost_usd = cost_model.platform.pricing.workflow_request_usd if workflow else 0.0
    for choice in choices:
        load = segments.load_of(choice.start, choice.end, choice.parts)
        costs = cost_model.costs(load, choice.memory_mb, workflow=workflow)
        ready_ms = float(costs.ready_ms) if goal.cold == "parallel" else 0.0
        finish_ms = max(finish_ms, ready_ms) + float(costs.cold_ms if goal.cold == "sequential" else costs.warm_ms)
        cost_usd += choice.parts * float(costs.warm_usd if goal.cold is None else costs.cold_usd)
    return Found(tuple(choices), finish_ms, cost_usd, max(choice.memory_mb for choice in choices))


def search(segments: Segments, cost_model: CostModel, goal: Goal) -> Found:
    """The best plan, exact to one part in 10^9.

    Under a bound, where too many plans are nearly as good to follow them all, `Found.epsilon` says how close it is.

    Raises:
        PlanError: There is none; the message names the limit or bound, the hint the nearest plan that would do.
    """
    return _Search(segments, cost_model, goal).best(goal.objective)


def pareto(segments: Segments, cost_model: CostModel, goal: Goal) -> list[Found]:
    """All plans that no other beats in latency and cost, the fastest first; the objective of `goal` does not matter.

    Exact to one part in 10^9 for models of up to 20,000 segments; else thinned, as `Found.epsilon` says.

    Raises:
        PlanError: There is no plan.
    """
    return _Search(segments, cost_model, goal).frontier()


class _Search:
    """One question: what is searched, and for what."""

    def __init__(self, segments: Segments, model: CostModel, goal: Goal, functions: Functions | None = None) -> None:
        self._segments, self._model, self._goal = segments, model, goal
        self._functions = functions or Functions(segments, model, goal.cold, goal.max_memory_mb)
        self._grid = Grid(len(segments.positions), goal.slices)
        if goal.slices is not None and not 1 <= goal.slices < len(segments.positions):
            raise wrong_count(segments, goal.slices)

    def best(self, objective: Objective) -> Found:
        """The best plan within the bounds."""
        if objective == "memory":
            return self._smallest()
        bounds = {"latency": self._goal.slo_ms, "cost": self._goal.max_cost_usd}
        other: Objective = "cost" if objective == "latency" else "latency"
        found = self._extreme(objective)
        refuse_above(found, objective, bounds[objective])
        if within(found, other, bounds[other]):
            return found
        opposite = self._extreme(other)
        refuse_above(opposite, other, bounds[other])
        if within(opposite, objective, found.value(objective)):
            return opposite
        found = self._bounded(objective, found, opposite)
        refuse_above(found, objective, bounds[objective], beside=other)
        return found

    def frontier(self) -> list[Found]:
        """All plans within the bounds that no other beats in latency and cost."""
        fastest, cheapest = self.best("latency"), self.best("cost")
        if within(cheapest, "latency", fastest.latency_ms) or within(fastest, "cost", cheapest.cost_usd):
            return [cheapest if within(cheapest, "latency", fastest.latency_ms) else fastest]
        thin = np.sqrt(1 + EPSILON) - 1 if self._grid.positions**2 > 2 * _EXACT_SEGMENTS else 0.0
        middle = _middle(fastest, cheapest)
        sweep = swept(self._functions, self._grid, slopes_around(middle, 21, reach=300.0))
        seeds = [f for path in sweep.paths() for f in self._weighted(path, slopes_around(middle, 401, reach=300.0))]
        inside = [f for f in seeds if f.latency_ms <= cheapest.latency_ms and f.cost_usd <= fastest.cost_usd]
        known = _thinned([fastest, cheapest, *inside], thin)
        latency, cost = (np.array([getattr(found, name) for found in known]) for name in ("latency_ms", "cost_usd"))
        least = sweep.least_usd(latency[1:])
        gaps = np.divide(cost[:-1] - least, least, out=np.full(len(least), np.inf), where=least > 0)
        points = (np.array([latency[1:], cost[:-1] / (1 + thin)]).T * (1 - TOLERANCE))[gaps > thin + TOLERANCE]
        between: list[Found] | None = []
        if len(points):
            arcs = collected(self._functions, self._grid, Corners(points), sweep)
            between = self._chains_of(arcs, points, sweep.slopes)
        missed = thin if between is not None else float(gaps.max())
        epsilon = max((1 + missed) * (1 + thin) - 1, fastest.epsilon, cheapest.epsilon)
        return [replace(found, epsilon=epsilon) for found in _thinned([*known, *(between or ())], thin)]

    def _smallest(self) -> Found:
        """The plan with the smallest largest function, and of these the fastest."""
        goal, (least, _) = self._goal, self._shortest("memory")
        sizes = self._model.platform.limits.memory_sizes()
        sizes = [size for size in sizes if least <= size <= self._functions.most_mb]
        smallest = sizes[0]
        if goal.slo_ms is not None or goal.max_cost_usd is not None:
            objective: Objective = "cost" if goal.slo_ms is None else "latency"
            self.best(objective)  # refuses what is impossible at any size
            smallest = sizes[bisect_left(sizes, True, key=lambda size: self._is_possible(objective, size))]
        return _Search(self._segments, self._model, replace(goal, max_memory_mb=smallest)).best("latency")

    def _is_possible(self, objective: Objective, most_mb: int) -> bool:
        try:
            _Search(self._segments, self._model, self._goal, self._functions.limited(most_mb)).best(objective)
        except PlanError:
            return False
        return True

    def _shortest(self, objective: Objective) -> tuple[float, Path]:
        found = shortest(self._functions, self._grid, CRITERIA[objective](self._functions))
        if found is None:
            raise impossible(self._functions, self._goal)
        return found

    def _extreme(self, objective: Objective) -> Found:
        """The best plan by latency or cost alone; of those with the same cuts that are as good, the best by both."""
        least, path = self._shortest(objective)
        corner = (least, np.inf) if objective == "latency" else (np.inf, least)
        found = self._chains_of(arcs_of(self._functions, path), np.array([corner]), ENDS)
        # Nothing: too many are equally good.
        return found[-1 if objective == "latency" else 0] if found else _best_of(self._weighted(path, ENDS), objective)

    def _bounded(self, objective: Objective, best: Found, opposite: Found) -> Found:
        """The best plan by one criterion under a bound of the other, which `opposite` keeps and `best` does not."""
        found, middle, least = opposite, _middle(best, opposite), 0.0
        for reach in (100.0, 100.0 ** (1 / 4)):
            sweep = swept(self._functions, self._grid, slopes_around(middle, 9, reach=reach))
            slopes, sizes = sweep.slopes, slopes_around(middle, 401, reach=reach)
            units = slopes[:-2, 0] if objective == "latency" else np.ones(len(slopes) - 2)
            limits = Corners(self._better_than(objective, found)).limits(slopes)[0, :-2]
            values = found.value(objective) - (limits - sweep.totals[:-2]) / units
            least, middle = max(least, float(values.max())), float(slopes[values.argmax(), 0])
            plans = [plan for path in sweep.paths() for plan in self._weighted(path, sizes)]
            slo_ms, max_usd = self._better_than(objective, found)[0]
            better = [plan for plan in plans if plan.latency_ms <= slo_ms and plan.cost_usd <= max_usd]
            found = _best_of([found, *better], objective)
        points = self._better_than(objective, found)
        all_better = self._chains_of(collected(self._functions, self._grid, Corners(points), sweep), points, slopes)
        if all_better is None:
            return replace(found, epsilon=found.value(objective) / least - 1 if least > 0 else np.inf)
        return _best_of([found, *all_better], objective)

    def _better_than(self, objective: Objective, found: Found) -> Floats:
        """The corner that a plan must be within to keep the other bound and be better."""
        if objective == "latency":
            max_usd = np.inf if self._goal.max_cost_usd is None else self._goal.max_cost_usd * (1 + TOLERANCE)
            return np.array([[found.latency_ms * (1 - TOLERANCE), max_usd]])
        slo_ms = np.inf if self._goal.slo_ms is None else self._goal.slo_ms * (1 + TOLERANCE)
        return np.array([[slo_ms, found.cost_usd * (1 - TOLERANCE)]])

    def _chains_of(self, arcs: Arcs | None, points: Floats, slopes: Floats) -> list[Found] | None:
        """The plans within a corner that no other beats, made of arcs; None: too many to follow."""
        if arcs is None:
            return None
        corners = Corners(points)
        arcs = promising(arcs, self._grid, corners, slopes)
        chains = frontier(arcs, self._grid, corners, slopes)
        return None if chains is None else [self._found(arcs, chain) for chain in chains]

    def _weighted(self, path: Path, slopes: Floats) -> list[Found]:
        """The segments of a path at the sizes that are best for each slope."""
        arcs = arcs_of(self._functions, path)
        return [self._found(arcs, chain) for chain in weighted(arcs, slopes)]

    def _found(self, arcs: Arcs, chain: Chain) -> Found:
        places = self._segments.positions
        choices = tuple(
            Choice(places[arcs.start[i]], places[arcs.end[i]], int(arcs.memory[i]), int(arcs.parts[i]))
            for i in chain.arcs
        )
        return Found(choices, chain.latency_ms, chain.cost_usd, max(choice.memory_mb for choice in choices))


def _middle(one: Found, other: Found) -> float:
    """USD for each millisecond at which two plans are equally good."""
    return abs(one.cost_usd - other.cost_usd) / abs(one.latency_ms - other.latency_ms)


def _thinned(found: Sequence[Found], epsilon: float) -> list[Found]:
    """Those that no other beats, the fastest first, without those that save next to nothing."""
    order = undominated(np.array([f.latency_ms for f in found]), np.array([f.cost_usd for f in found]))
    kept: list[Found] = []
    for index in order:
        if not kept or found[index].cost_usd * (1 + epsilon + TOLERANCE) < kept[-1].cost_usd:
            kept.append(found[index])
    return kept


def _best_of(found: Sequence[Found], objective: Objective) -> Found:
    return min(found, key=lambda plan: plan.value(objective))
