"""The search equals trying everything, on small random models and platforms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lamella.errors import PlanError
from lamella.graph.model import Graph, Model, Node, Value, ValueType, Weight
from lamella.planner.cost import CostModel, Load
from lamella.planner.cuts import cuts_of
from lamella.planner.flow import flow_of
from lamella.planner.functions import Functions
from lamella.planner.goal import Choice, Found, Goal
from lamella.planner.relaxation import Relaxation
from lamella.planner.search import evaluate, pareto, search
from lamella.planner.segments import Segments, SplitLoad
from lamella.platforms.base import MB, Limits, Platform, Pricing, Speeds

CLOSE = 1e-8
FLOAT = ValueType("tensor", 1, ())
SEQUENCE = ValueType("sequence")


def value(name: str) -> Value:
    return Value(name, FLOAT, b"")


@st.composite
def models(draw: st.DrawFn, most: int) -> tuple[Model, dict[str, int], dict[str, Value]]:
    """A DAG of up to `most` placed nodes, the bytes of its values, and their types: some are no tensors."""
    weights = {f"w{i}": draw(st.integers(0, 60)) * MB for i in range(draw(st.integers(0, 4)))}
    graph = Graph(initializers={name: Weight(name, 1, (), size, None) for name, size in weights.items()})
    graph.inputs = [value("x0"), value("x1")]
    known = ["x0", "x1", *weights]
    for name in list(weights):
        if draw(st.integers(0, 3)) == 0:  # a node that depends on weights alone
            graph.nodes.append(node(len(graph.nodes), [name], [f"c{name}"]))
            known.append(f"c{name}")
    for _ in range(draw(st.integers(1, most))):
        index = len(graph.nodes)
        needed = draw(st.sampled_from([name for name in known if name[0] in "xv"]))
        others = draw(st.lists(st.sampled_from(known), max_size=3))
        graph.nodes.append(node(index, [needed, *others], [f"v{index}a", f"v{index}b"][: draw(st.integers(1, 2))]))
        known += graph.nodes[-1].outputs
    made = [name for name in known if name[0] == "v"]
    graph.outputs = [value(name) for name in dict.fromkeys([made[-1], *draw(st.lists(st.sampled_from(made)))])]
    sizes = {name: draw(st.sampled_from([0, 1, 7, 9, 9 * MB, 40 * MB])) for name in ("x0", "x1", *made)}
    types = {name: value(name) for name in made}
    for name in draw(st.lists(st.sampled_from(made), max_size=1)):
        types[name] = Value(name, SEQUENCE, b"")
    return Model(Path("model.onnx"), b"", {}, ir_version=10, graph=graph), sizes, types


def node(index: int, inputs: list[str], outputs: list[str]) -> Node:
    return Node(index, ("", "Sum", ""), f"n{index}", tuple(inputs), tuple(outputs), (), {}, (), (0, 0))


loads = st.builds(
    Load,
    compute_ms=st.integers(0, 900).map(float),
    nodes=st.integers(1, 9).map(float),
    weights_bytes=st.integers(0, 60).map(lambda mb: float(mb * MB)),
    held_bytes=st.integers(0, 60).map(lambda mb: float(mb * MB)),
    activations_bytes=st.integers(0, 9).map(lambda mb: float(mb * MB)),
    inline_bytes=st.integers(0, 9).map(float),
    object_in_bytes=st.integers(0, 9).map(lambda mb: float(mb * MB)),
    object_out_bytes=st.just(0.0),
    objects_in=st.integers(0, 2).map(float),
    objects_out=st.just(0.0),
)


@st.composite
def segments(draw: st.DrawFn, most: int = 5) -> Segments:
    model, sizes, types = draw(models(most))
    flow = flow_of(model)
    cuts = cuts_of(flow, flow.placed, sizes, types)
    count = len(model.graph.nodes)
    node_ms = draw(st.lists(st.sampled_from([0.0, 0.3, 20.0, 50.0, 333.3]), min_size=count, max_size=count))
    splits = {
        position: [SplitLoad(parts, draw(loads)) for parts in draw(st.sampled_from([(2,), (2, 4)]))]
        for position in draw(st.sets(st.integers(0, len(cuts.order) - 1), max_size=2))
    }
    held = draw(st.dictionaries(st.sampled_from(["w0", "w1", "w2"]), st.sampled_from([0.5, 1.75])))
    return Segments(flow, cuts, sizes, node_ms, inline_bytes=8, held=held, splits=splits)


def amounts(*values: float) -> st.SearchStrategy[float]:
    return st.sampled_from(values)


@st.composite
def random_limits(draw: st.DrawFn) -> Limits:
    least, step = draw(st.sampled_from([64, 100, 128])), draw(st.sampled_from([1, 8, 32]))
    return Limits(
        memory_min_mb=least,
        memory_max_mb=least + step * draw(st.integers(0, 200 // step)),
        memory_step_mb=step,
        memory_sizes_mb=draw(st.sampled_from([(), (), (64, 128, 256), (128,), (100, 150, 400)])),
        package_unzipped_bytes=draw(st.sampled_from([None, 50 * MB, 90 * MB])),
        timeout_s=draw(st.sampled_from([None, None, 1.0, 3.0])),
        init_timeout_s=draw(st.sampled_from([None, 0.5, 2.0])),
    )


pricing = st.builds(
    Pricing,
    gb_s_usd=st.sampled_from([{}, {"x86_64": 0.00002}]),
    vcpu_s_usd=amounts(0.0, 0.00003),
    gib_s_usd=amounts(0.0, 0.000003),
    request_usd=amounts(0.0, 2e-7),
    billing_step_ms=amounts(1.0, 100.0),
    billed_min_ms=amounts(0.0, 150.0),
    init_billed=st.booleans(),
    workflow_request_usd=amounts(0.0, 1e-6),
    workflow_transition_usd=amounts(0.0, 2.5e-5),
    workflow_gb_s_usd=amounts(0.0, 0.00001667),
    object_put_usd=amounts(0.0, 5e-6),
    object_get_usd=amounts(0.0, 4e-7),
)
speeds = st.builds(
    Speeds,
    mb_per_vcpu=amounts(90.0, 128.0, 1769.0),
    vcpus_max=amounts(0.8, 1.0, 1.7, 6.0),
    cpu_period_ms=amounts(0.0, 20.0, 100.0),
    parallel_share=amounts(0.0, 0.5, 0.97, 1.0),
    gflops_per_vcpu=st.just(20.0),
    memory_gb_s=st.just(8.0),
    operator_us=st.just(5.0),
    runtime_init_ms=amounts(0.0, 150.0),
    package_mb_s=amounts(100.0, 2000.0),
    package_init_ms=amounts(0.0, 100.0),
    weights_mb_s=amounts(50.0, 500.0),
    object_mb_s=amounts(40.0, 90.0),
    object_request_ms=amounts(0.0, 30.0),
    session_ms_per_node=amounts(0.0, 1.0),
    session_ms_per_mb=amounts(0.0, 2.0),
    hop_ms=amounts(0.0, 15.0),
    handler_ms=amounts(0.0, 2.0),
    inline_mb_s=amounts(0.001, 90.0),
    inline_bytes=st.just(8),
    floor_mb=amounts(0.0, 30.0),
    weights_factor=amounts(1.0, 1.1, 2.0),
    activations_factor=amounts(1.0, 1.2),
)
platforms = st.builds(
    Platform,
    name=st.just("made-up"),
    title=st.just("Made Up"),
    architectures=st.just(("x86_64",)),
    python_versions=st.just(()),
    limits=random_limits(),
    pricing=pricing,
    speeds=speeds,
    figures=st.just({}),
)
cost_models = st.builds(CostModel, platforms, st.just("x86_64"), st.sampled_from([0, 20 * MB]))
goals = st.builds(
    Goal,
    st.sampled_from(["latency", "cost", "memory"]),
    max_memory_mb=st.sampled_from([None, None, None, 130, 210]),
    slices=st.sampled_from([None, None, None, 1, 2, 3]),
    cold=st.sampled_from([None, "sequential", "parallel"]),
)


@dataclass(frozen=True)
class Plain:
    """A plan, as trying everything finds it."""

    choices: tuple[Choice, ...]
    latency_ms: float
    cost_usd: float

    @property
    def largest_memory_mb(self) -> int:
        return max(choice.memory_mb for choice in self.choices)


def sizes_of(model: CostModel, peak_bytes: float, cap_mb: int | None) -> list[int]:
    """The sizes of a segment: the least, multiples of 64 MB, and the largest that may be."""
    limits = model.platform.limits
    possible = [size for size in limits.memory_sizes() if cap_mb is None or size <= cap_mb]
    held = [size for size in possible if size * MB >= peak_bytes]
    if not held:
        return []
    return sorted({size for size in limits.memory_sizes(held[0], step_mb=64) if size <= held[-1]} | {held[-1]})


def ways(part: Segments, model: CostModel, cap_mb: int | None) -> dict[int, list[tuple[Choice, Load]]]:
    """For each position, all segments that start there, at all their sizes."""
    found: dict[int, list[tuple[Choice, Load]]] = {position: [] for position in part.positions}
    for start in part.positions:
        for end in (p for p in part.positions if p > start):
            options = [(1, part.load(start, end))]
            options += [(o.parts, o.load) for o in part.splits.get(start, ()) if end == start + 1]
            for parts, load in options:
                for size in sizes_of(model, float(model.peak_bytes(load)), cap_mb):
                    found[start].append((Choice(start, end, size, parts), load))
    return found


def chains(found: dict[int, list[tuple[Choice, Load]]], start: int, end: int) -> Iterator[list[tuple[Choice, Load]]]:
    if start == end:
        yield []
    for way in found[start]:
        for rest in chains(found, way[0].end, end):
            yield [way, *rest]


def everything(part: Segments, model: CostModel, goal: Goal) -> list[Plain]:
    """All plans that keep the platform's limits, the number of slices and the largest memory."""
    platform, found = model.platform, []
    prices: dict[tuple[Choice, bool], tuple[float, float, float, bool]] = {}

    def price(choice: Choice, load: Load, workflow: bool) -> tuple[float, float, float, bool]:
        if (choice, workflow) not in prices:
            costs = model.costs(load, choice.memory_mb, workflow=workflow)
            usd = choice.parts * (costs.warm_usd if goal.cold is None else costs.cold_usd)
            ready = costs.ready_ms if goal.cold == "parallel" else 0.0
            ms = costs.cold_ms if goal.cold == "sequential" else costs.warm_ms
            late = platform.limits.timeout_s is not None and costs.cold_ms > 1000 * platform.limits.timeout_s
            prices[choice, workflow] = float(ready), float(ms), float(usd), bool(late)
        return prices[choice, workflow]

    for chain in chains(ways(part, model, goal.max_memory_mb), 0, part.positions[-1]):
        if goal.slices not in (None, len(chain)):
            continue
        workflow = len(chain) > 1 or chain[0][0].parts > 1
        finish, total, possible = 0.0, platform.pricing.workflow_request_usd if workflow else 0.0, True
        for choice, load in chain:
            ready, ms, usd, late = price(choice, load, workflow)
            finish, total, possible = max(finish, ready) + ms, total + usd, possible and not late
        if possible:
            found.append(Plain(tuple(choice for choice, _ in chain), finish, total))
    return found


def within(plans: list[Plain], goal: Goal) -> list[Plain]:
    slo = np.inf if goal.slo_ms is None else goal.slo_ms * (1 + 1e-9)
    most = np.inf if goal.max_cost_usd is None else goal.max_cost_usd * (1 + 1e-9)
    return [plan for plan in plans if plan.latency_ms <= slo and plan.cost_usd <= most]


def bounded(plans: list[Plain], goal: Goal, data: st.DataObject) -> Goal:
    """The same goal, with bounds that some plans just keep."""
    if plans:
        fastest_first = sorted(plans, key=lambda plan: (plan.latency_ms, plan.cost_usd))
        best = [p for i, p in enumerate(fastest_first) if all(q.cost_usd > p.cost_usd for q in fastest_first[:i])]
        some = data.draw(st.sampled_from(best + plans[:10]))
        shape = data.draw(st.sampled_from(["none", "slo", "cost", "both"]))
        if shape in ("slo", "both"):
            goal = replace(goal, slo_ms=some.latency_ms * data.draw(st.sampled_from([1.0, 1.05, 0.9])))
        if shape in ("cost", "both"):
            goal = replace(goal, max_cost_usd=some.cost_usd * data.draw(st.sampled_from([1.0, 1.05, 0.9])))
    return goal


def assert_is_real(found: Found, part: Segments, model: CostModel, goal: Goal) -> None:
    """The plan is one, keeps what it must, and its totals are those of its choices."""
    ends = [part.positions[0], *(choice.end for choice in found.choices)]
    assert [(choice.start, choice.end) for choice in found.choices] == list(pairwise(ends))
    assert ends[-1] == part.positions[-1]
    again = evaluate(part, model, found.choices, goal)
    assert again.latency_ms == pytest.approx(found.latency_ms, rel=CLOSE)
    assert again.cost_usd == pytest.approx(found.cost_usd, rel=CLOSE)
    assert again.largest_memory_mb == found.largest_memory_mb
    assert goal.max_memory_mb is None or found.largest_memory_mb <= goal.max_memory_mb
    assert goal.slices is None or len(found.choices) == goal.slices
    assert goal.slo_ms is None or found.latency_ms <= goal.slo_ms * (1 + 2e-9)
    assert goal.max_cost_usd is None or found.cost_usd <= goal.max_cost_usd * (1 + 2e-9)


@settings(max_examples=150)
@given(segments(most=9))
def test_loads_built_up_equal_loads_from_scratch(part: Segments) -> None:
    ends = []
    for end, starts, load in part.ending_at():
        ends.append(end)
        assert starts.tolist() == [position for position in part.positions if position < end]
        for i, start in enumerate(starts.tolist()):
            expected = part.load(start, end)
            for field in fields(Load):
                assert getattr(load, field.name)[i] == pytest.approx(getattr(expected, field.name), abs=1e-6)
    assert ends == list(part.positions[1:])


@settings(max_examples=100)
@given(segments(most=9), st.integers(0, 150), st.integers(0, 60))
def test_starts_that_do_not_fit_are_left_out_for_good(part: Segments, held_mb: int, activations_mb: int) -> None:
    def fits(held: float, activations: float) -> bool:
        return held <= held_mb * MB and activations <= activations_mb * MB

    for end, starts, _ in part.ending_at(fits):
        assert starts.tolist() == [
            start
            for start in part.positions
            if start < end and fits(part.load(start, end).held_bytes, part.load(start, end).activations_bytes)
        ]


@settings(max_examples=300)
@given(segments(most=4), cost_models, st.sampled_from([None, "sequential", "parallel"]), amounts(0.0, 1e-9, 1e-8, 1.0))
def test_bounds_of_segments_are_below_what_they_cost_at_every_size(
    part: Segments, model: CostModel, cold: None, rate: float
) -> None:
    functions = Functions(part, model, cold)
    slopes = np.array([[rate, 1.0], [1.0, 0.0]])
    for rows in functions.rows():
        least = functions.least_mb(rows.load)
        held = np.isfinite(least)
        if held.any():
            some = rows.take(held)
            bounds = Relaxation(functions, some, least[held]).bounds(slopes)
            priced = functions.priced(some, functions.sizes_of(least[held]))
            ms = priced.ms + np.where(some.start == 0, 1, 0)[:, None] * priced.ready_ms
            for slope, bound in zip(slopes, bounds, strict=True):
                sums = np.where(priced.possible, slope[0] * ms + slope[1] * priced.usd, np.inf)
                assert np.all(bound[:, None] <= sums)


@settings(max_examples=400)
@given(segments(), cost_models, goals, st.data())
def test_the_search_equals_trying_everything(part: Segments, model: CostModel, goal: Goal, data: st.DataObject) -> None:
    plans = everything(part, model, goal)
    goal = bounded(plans, goal, data)
    possible = within(plans, goal)
    if not possible:
        with pytest.raises(PlanError):
            search(part, model, goal)
        return
    found = search(part, model, goal)
    assert_is_real(found, part, model, goal)
    if goal.objective == "latency":
        assert found.latency_ms == pytest.approx(min(plan.latency_ms for plan in possible), rel=CLOSE)
    elif goal.objective == "cost":
        assert found.cost_usd == pytest.approx(min(plan.cost_usd for plan in possible), rel=CLOSE)
    else:
        smallest = min(plan.largest_memory_mb for plan in possible)
        assert found.largest_memory_mb == smallest
        lowered = replace(goal, max_memory_mb=smallest)
        fastest = min(plan.latency_ms for plan in within(everything(part, model, lowered), lowered))
        assert found.latency_ms == pytest.approx(fastest, rel=CLOSE)


dear_models = cost_models.map(
    lambda model: replace(
        model,
        platform=replace(
            model.platform,
            limits=Limits(memory_min_mb=100, memory_max_mb=420, memory_step_mb=1),
            pricing=replace(model.platform.pricing, gb_s_usd={"x86_64": 0.00002}, billing_step_ms=1.0),
            speeds=replace(model.platform.speeds, mb_per_vcpu=160.0, vcpus_max=2.0),
        ),
    )
)


@settings(max_examples=200)
@given(segments(most=4), dear_models, st.sampled_from([None, "sequential", "parallel"]), st.data())
def test_the_search_under_a_bound_that_costs_something_equals_trying_everything(
    part: Segments, model: CostModel, cold: None, data: st.DataObject
) -> None:
    plans = everything(part, model, Goal("cost", cold=cold))
    best: list[Plain] = []
    for plan in sorted(plans, key=lambda plan: (plan.latency_ms, plan.cost_usd)):
        if not best or plan.cost_usd < best[-1].cost_usd * (1 - 1e-6):
            best.append(plan)
    assume(len(best) > 2)
    some = data.draw(st.sampled_from(best[1:-1]))
    cheapest = search(part, model, Goal("cost", slo_ms=some.latency_ms, cold=cold))
    assert_is_real(cheapest, part, model, Goal("cost", slo_ms=some.latency_ms, cold=cold))
    assert cheapest.cost_usd == pytest.approx(some.cost_usd, rel=2e-6)
    assert cheapest.cost_usd <= some.cost_usd * (1 + CLOSE)
    fastest = search(part, model, Goal("latency", max_cost_usd=some.cost_usd, cold=cold))
    assert_is_real(fastest, part, model, Goal("latency", max_cost_usd=some.cost_usd, cold=cold))
    assert fastest.latency_ms == pytest.approx(some.latency_ms, rel=CLOSE)


@settings(max_examples=200)
@given(segments(), cost_models, goals, st.data())
def test_the_frontier_equals_trying_everything(
    part: Segments, model: CostModel, goal: Goal, data: st.DataObject
) -> None:
    plans = everything(part, model, goal)
    goal = bounded(plans, goal, data)
    possible = within(plans, goal)
    if not possible:
        with pytest.raises(PlanError):
            pareto(part, model, goal)
        return
    found = pareto(part, model, goal)
    for one in found:
        assert one.epsilon == 0
        assert_is_real(one, part, model, goal)
    for faster, cheaper in pairwise(found):
        assert faster.latency_ms < cheaper.latency_ms
        assert faster.cost_usd > cheaper.cost_usd
    latency, cost = (np.array([getattr(plan, name) for plan in found]) for name in ("latency_ms", "cost_usd"))
    for plan in possible:
        as_good = (latency <= plan.latency_ms * (1 + CLOSE)) & (cost <= plan.cost_usd * (1 + CLOSE))
        assert as_good.any()


@settings(max_examples=100)
@given(segments(), cost_models, goals, st.data())
def test_a_search_that_is_given_up_says_how_far_it_may_be_off(
    part: Segments, model: CostModel, goal: Goal, data: st.DataObject
) -> None:
    plans = everything(part, model, goal)
    goal = bounded(plans, goal, data)
    possible = within(plans, goal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lamella.planner.pareto._MOST_EXTENSIONS", 1)
        for objective, name in (("latency", "latency_ms"), ("cost", "cost_usd")):
            try:
                found = search(part, model, replace(goal, objective=objective))
            except PlanError:
                continue
            best = min(getattr(plan, name) for plan in possible)
            assert best * (1 - CLOSE) <= getattr(found, name) <= best * (1 + found.epsilon) * (1 + CLOSE)
        try:
            frontier = pareto(part, model, goal)
        except PlanError:
            return
    for plan in possible:
        as_fast = [one for one in frontier if one.latency_ms <= plan.latency_ms * (1 + CLOSE)]
        assert not as_fast or min(one.cost_usd / (1 + one.epsilon) for one in as_fast) <= plan.cost_usd * (1 + CLOSE)
