"""The best plan: cuts and memory sizes chosen together.

A plan is a chain of segments, each at one of the sizes of `Functions`. For one criterion, dynamic programming over all
legal cuts finds the best chain: `best[j] = min over i of best[i] + cost of [i, j)`; bounds of what segments cost save
pricing most of them. Under a bound on the other criterion, `pareto` narrows the segments down to those that a better
plan could have, and follows all plans of these that no other beats.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Literal

import numpy as np

from lamella.errors import PlanError
from lamella.planner.cost import WORKFLOW_GB, ColdStart, CostModel, Load, Numbers
from lamella.planner.pareto import (
    ENDS,
    Arcs,
    Chain,
    Corners,
    Criterion,
    Grid,
    Path,
    arcs_of,
    collected,
    frontier,
    promising,
    shortest,
    slopes_around,
    swept,
    undominated,
    weighted,
)
from lamella.planner.segments import Floats, Functions, Relaxation, Rows, Segments
from lamella.platforms.base import MB, Limits, Speeds

Objective = Literal["latency", "cost", "memory"]

EPSILON = 1e-3
"""The frontier of a large model holds, for each plan, one that is as fast and at most this share more expensive."""

_EXACT_SEGMENTS = 20_000  # the frontier of a model with at most so many segments is exact
_CELL_MB = 8  # how finely bounds of prices are tabulated
_TOLERANCE = 1e-9  # plans that differ by less are the same; bounds hold to within this


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
            raise _wrong_count(segments, goal.slices)

    def best(self, objective: Objective) -> Found:
        """The best plan within the bounds."""
        if objective == "memory":
            return self._smallest()
        bounds = {"latency": self._goal.slo_ms, "cost": self._goal.max_cost_usd}
        other: Objective = "cost" if objective == "latency" else "latency"
        found = self._extreme(objective)
        _refuse_above(found, objective, bounds[objective])
        if _within(found, other, bounds[other]):
            return found
        opposite = self._extreme(other)
        _refuse_above(opposite, other, bounds[other])
        if _within(opposite, objective, _value(found, objective)):
            return opposite
        found = self._bounded(objective, found, opposite)
        _refuse_above(found, objective, bounds[objective], beside=other)
        return found

    def frontier(self) -> list[Found]:
        """All plans within the bounds that no other beats in latency and cost."""
        fastest, cheapest = self.best("latency"), self.best("cost")
        if _within(cheapest, "latency", fastest.latency_ms) or _within(fastest, "cost", cheapest.cost_usd):
            return [cheapest if _within(cheapest, "latency", fastest.latency_ms) else fastest]
        thin = np.sqrt(1 + EPSILON) - 1 if self._grid.positions**2 > 2 * _EXACT_SEGMENTS else 0.0
        middle = _middle(fastest, cheapest)
        sweep = swept(self._functions, self._grid, slopes_around(middle, 21, reach=300.0))
        seeds = [f for path in sweep.paths() for f in self._weighted(path, slopes_around(middle, 401, reach=300.0))]
        within = [f for f in seeds if f.latency_ms <= cheapest.latency_ms and f.cost_usd <= fastest.cost_usd]
        known = _thinned([fastest, cheapest, *within], thin)
        latency, cost = (np.array([getattr(found, name) for found in known]) for name in ("latency_ms", "cost_usd"))
        least = sweep.least_usd(latency[1:])
        gaps = np.divide(cost[:-1] - least, least, out=np.full(len(least), np.inf), where=least > 0)
        points = (np.array([latency[1:], cost[:-1] / (1 + thin)]).T * (1 - _TOLERANCE))[gaps > thin + _TOLERANCE]
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
        found = shortest(self._functions, self._grid, _CRITERIA[objective](self._functions))
        if found is None:
            raise _impossible(self._functions, self._goal)
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
            values = _value(found, objective) - (limits - sweep.totals[:-2]) / units
            least, middle = max(least, float(values.max())), float(slopes[values.argmax(), 0])
            plans = [plan for path in sweep.paths() for plan in self._weighted(path, sizes)]
            slo_ms, max_usd = self._better_than(objective, found)[0]
            better = [plan for plan in plans if plan.latency_ms <= slo_ms and plan.cost_usd <= max_usd]
            found = _best_of([found, *better], objective)
        points = self._better_than(objective, found)
        all_better = self._chains_of(collected(self._functions, self._grid, Corners(points), sweep), points, slopes)
        if all_better is None:
            return replace(found, epsilon=_value(found, objective) / least - 1 if least > 0 else np.inf)
        return _best_of([found, *all_better], objective)

    def _better_than(self, objective: Objective, found: Found) -> Floats:
        """The corner that a plan must be within to keep the other bound and be better."""
        if objective == "latency":
            max_usd = np.inf if self._goal.max_cost_usd is None else self._goal.max_cost_usd * (1 + _TOLERANCE)
            return np.array([[found.latency_ms * (1 - _TOLERANCE), max_usd]])
        slo_ms = np.inf if self._goal.slo_ms is None else self._goal.slo_ms * (1 + _TOLERANCE)
        return np.array([[slo_ms, found.cost_usd * (1 - _TOLERANCE)]])

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
        if not kept or found[index].cost_usd * (1 + epsilon + _TOLERANCE) < kept[-1].cost_usd:
            kept.append(found[index])
    return kept


def _value(found: Found, objective: Objective) -> float:
    return found.latency_ms if objective == "latency" else found.cost_usd


def _best_of(found: Sequence[Found], objective: Objective) -> Found:
    return min(found, key=lambda plan: _value(plan, objective))


def _within(found: Found, objective: Objective, bound: float | None) -> bool:
    return bound is None or _value(found, objective) <= bound * (1 + _TOLERANCE)


def _refuse_above(found: Found, objective: Objective, bound: float | None, *, beside: Objective | None = None) -> None:
    """Raise PlanError if the best plan is above the bound; `beside`: it was the best within the other bound."""
    if bound is None or _within(found, objective, bound):
        return
    value = _rounded_up(_value(found, objective))
    names = {"latency": "--slo-ms", "cost": "--max-cost-usd"}
    flag, of = names[objective], f" within `{names[beside]}`" if beside else ""
    if objective == "latency":
        text = f"the fastest plan{of} takes {value} ms, above `--slo-ms {bound:g}`"
    else:
        text = f"the cheapest plan{of} costs {value} USD a request, above `--max-cost-usd {bound:g}`"
    raise PlanError(text, hint=f"ask for `{flag} {value}` or more")


def _rounded_up(value: float) -> str:
    """A positive number with four digits, rounded up, so that it holds as a bound."""
    exponent = Decimal(value).adjusted() - 3
    rounded = Decimal(value).quantize(Decimal(1).scaleb(exponent), ROUND_CEILING)
    return f"{rounded.normalize():f}"


def _wrong_count(segments: Segments, slices: int) -> PlanError:
    if slices < 1:
        return PlanError(f"a model cannot be cut into {slices} slices", hint="ask for `--slices 1` or more")
    most = len(segments.positions) - 1
    return PlanError(
        f"the model has {len(segments.cuts.order)} nodes and {most - 1} legal cuts, too few for {slices} slices",
        hint=f"ask for at most `--slices {most}`",
    )


class _Latency:
    """The latency of a chain: each segment at the size of which no larger one is faster."""

    def __init__(self, functions: Functions) -> None:
        self._functions, self._speeds = functions, functions.model.platform.speeds
        self._speedup = functions.model.speedup(functions.most_mb)
        self.bounds = (self._roughly,)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At one size."""
        priced = self._functions.priced(rows, self._functions.fastest_mb(self._functions.least_mb(rows.load)))
        return priced.ready_ms, np.where(priced.possible, priced.ms, np.inf)

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        inline_ms, object_ms = _transfer_ms(self._speeds, rows.load)
        run_ms = self._speeds.hop_ms + rows.load.compute_ms / self._speedup + inline_ms + object_ms
        if self._functions.cold is None:
            return 0.0, run_ms
        init_ms = self._speeds.runtime_init_ms + _read_ms(self._speeds, rows.load)
        return (init_ms, run_ms) if self._functions.cold == "parallel" else (0.0, run_ms + init_ms)


class _Cost:
    """The cost of a chain: each segment at its cheapest size."""

    def __init__(self, functions: Functions) -> None:
        self._functions, model = functions, functions.model
        self._speeds, self._pricing = model.platform.speeds, model.platform.pricing
        sizes = np.arange(0.0, functions.most_mb + 2 * _CELL_MB, _CELL_MB)
        waited = self._pricing.workflow_gb_s_usd * WORKFLOW_GB
        usd = (np.asarray(model.second_usd(np.maximum(sizes[:-1], 1))) + waited) / 1000
        self._any_usd = usd
        self._single_usd, self._compute_usd = (
            np.minimum.accumulate((usd / speed)[::-1])[::-1]
            for speed in (np.minimum(model.processors(sizes[1:]), 1), model.speedup(sizes[1:]))
        )
        self.bounds = (self._roughly, self._without_rounding)

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """At all sizes."""
        sizes = self._functions.sizes_of(self._functions.least_mb(rows.load))
        priced = self._functions.priced(rows, sizes)
        return np.zeros(len(rows)), np.where(priced.possible, priced.usd, np.inf).min(axis=1)

    def _roughly(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """At the price of the best memory that holds weights and activations, for each kind of duration."""
        pricing, speeds, load = self._pricing, self._speeds, rows.load
        cell = np.minimum(_held_mb(speeds, load) / _CELL_MB, len(self._any_usd) - 1).astype(np.int64)
        inline_ms, object_ms = _transfer_ms(speeds, load)
        single_ms, any_ms = inline_ms, object_ms
        if self._functions.cold is not None and pricing.init_billed:
            single_ms, any_ms = inline_ms + speeds.runtime_init_ms, object_ms + _read_ms(speeds, load)
        usd = self._compute_usd[cell] * load.compute_ms + self._single_usd[cell] * single_ms
        usd += self._any_usd[cell] * any_ms + pricing.request_usd
        usd += pricing.object_get_usd * load.objects_in + pricing.object_put_usd * load.objects_out
        return 0.0, np.where(rows.workflow, rows.parts * usd, 0.0)

    def _without_rounding(self, rows: Rows) -> tuple[Numbers, Numbers]:
        least_mb = self._functions.least_mb(rows.load)
        held = np.isfinite(least_mb)
        bounds = np.full(len(rows), np.inf)
        bounds[held] = Relaxation(self._functions, rows.take(held), least_mb[held]).bounds(ENDS[1:])[0]
        return 0.0, bounds


class _Memory:
    """The largest function of a chain: each segment at its smallest size."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.bounds = (
            lambda rows: (_held_mb(functions.model.platform.speeds, rows.load), 0.0),
            lambda rows: (functions.least_mb(rows.load), 0.0),
        )

    def exact(self, rows: Rows) -> tuple[Floats, Floats]:
        """The smallest size in which a request ends in time."""
        sizes = self._functions.sizes_of(self._functions.least_mb(rows.load))
        return np.where(self._functions.priced(rows, sizes).possible, sizes, np.inf).min(axis=1), np.zeros(len(rows))


def _held_mb(speeds: Speeds, load: Load) -> Numbers:
    """Memory without tensors on their way."""
    held = speeds.weights_factor * load.held_bytes + speeds.activations_factor * load.activations_bytes
    return speeds.floor_mb + held / MB


def _read_ms(speeds: Speeds, load: Load) -> Numbers:
    """Reading weights, from wherever it is faster."""
    return load.weights_bytes * (1000 / MB / max(speeds.weights_mb_s, speeds.object_mb_s))


def _transfer_ms(speeds: Speeds, load: Load) -> tuple[Numbers, Numbers]:
    """Tensors that travel inline, on a whole processor, and those that travel as objects."""
    requests = np.asarray(load.objects_in > 0, np.float64) + (load.objects_out > 0)
    sent: Numbers = load.inline_bytes * (1000 / MB / speeds.inline_mb_s)
    objects: Numbers = (load.object_in_bytes + load.object_out_bytes) * (1000 / MB / speeds.object_mb_s)
    return sent, objects + speeds.object_request_ms * requests


_CRITERIA: Mapping[Objective, Callable[[Functions], Criterion]] = {
    "latency": _Latency,
    "cost": _Cost,
    "memory": _Memory,
}


def _impossible(functions: Functions, goal: Goal) -> PlanError:
    """Why there is no chain at all, and what would do."""
    some = shortest(functions, Grid(functions.positions, None), _Latency(functions)) if goal.slices else None
    if some is not None:
        return PlanError(
            f"{goal.slices} slices do not keep the limits of {functions.model.platform.title}: functions of "
            f"{functions.most_mb} MB, and their timeout",
            hint=f"ask for `--slices {len(some[1])}`, with which they are kept",
        )
    rows = functions.units()
    least_mb = functions.least_mb(rows.load)
    late = np.isfinite(least_mb) & ~functions.priced(rows, functions.fastest_mb(least_mb)).possible
    peak_mb = np.ceil(np.asarray(functions.model.peak_bytes(rows.load)) / MB)
    if late.any() and not np.isinf(least_mb).any():
        worst = int(np.argmax(np.where(late, rows.load.compute_ms, -1)))
        return PlanError(
            f"{_nodes(functions.segments, worst)} cannot be cut and takes longer, started cold, than the "
            f"{functions.model.platform.limits.timeout_s:g} s that a request may take",
            hint="raise `--max-memory`, or choose a platform with a longer timeout",
        )
    worst = int(np.argmax(np.where(np.isinf(least_mb), peak_mb, -1)))
    weights, _ = functions.segments.units()[worst]
    name, size = max(weights.items(), key=lambda pair: pair[1], default=("", 0))
    held = f", {size / MB:.0f} MB of them in `{name}`" if size > sum(weights.values()) // 2 and name[:1] != "\0" else ""
    return PlanError(
        f"{_nodes(functions.segments, worst)} cannot be cut and needs {int(peak_mb[worst])} MB of memory with "
        f"{sum(weights.values()) / MB:.0f} MB of weights{held}, above the {functions.most_mb} MB of a function",
        hint=_larger(functions, goal, int(peak_mb.max())),
    )


def _larger(functions: Functions, goal: Goal, enough_mb: int) -> str:
    """The functions that would do, on this platform or another."""
    platform = functions.model.platform
    limits = Limits(memory_min_mb=1, memory_max_mb=max(1, enough_mb))
    model = replace(functions.model, platform=replace(platform, limits=limits))
    found = shortest(
        lifted := Functions(functions.segments, model, functions.cold),
        Grid(functions.positions, goal.slices),
        _Memory(lifted),
    )
    needed_mb = enough_mb if found is None else int(found[0])
    size = next((size for size in platform.limits.memory_sizes() if size >= needed_mb), None)
    if size is not None:
        return f"give `--max-memory {size}MiB` or more"
    return f"choose a platform that has functions of {needed_mb} MB"


def _nodes(segments: Segments, unit: int) -> str:
    """The nodes between two neighbouring legal cuts."""
    start, end = segments.positions[unit : unit + 2]
    first = segments.flow.model.graph.nodes[segments.cuts.order[start]].label
    return first if end - start == 1 else f"the run of {end - start} nodes from {first} on"
