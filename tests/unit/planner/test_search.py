"""What plans are found for, why others are refused, and that the hints of refusals hold."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from lamella.errors import PlanError
from lamella.graph.model import Graph, Model, Node, Value, ValueType, Weight
from lamella.planner.cost import CostModel, Load
from lamella.planner.cuts import cuts_of
from lamella.planner.flow import flow_of
from lamella.planner.goal import Choice, Goal
from lamella.planner.search import EPSILON, evaluate, pareto, search
from lamella.planner.segments import Segments, SplitLoad
from lamella.platforms.base import MB
from lamella.platforms.reading import load_platform

FLOAT = ValueType("tensor", 1, ())


def chain(*weights_mb: int, node_ms: float = 100.0, splits: dict[int, list[SplitLoad]] | None = None) -> Segments:
    """Nodes one behind the other, with a weight each and 1 MB between them."""
    graph = Graph(initializers={f"w{i}": Weight(f"w{i}", 1, (), mb * MB, None) for i, mb in enumerate(weights_mb)})
    names = [f"v{i}" for i in range(len(weights_mb) + 1)]
    graph.inputs, graph.outputs = [Value(names[0], FLOAT, b"")], [Value(names[-1], FLOAT, b"")]
    graph.nodes = [
        Node(i, ("", "MatMul", ""), f"n{i}", (names[i], f"w{i}"), (names[i + 1],), (), {}, (), (0, 0))
        for i in range(len(weights_mb))
    ]
    flow = flow_of(Model(Path("model.onnx"), b"", {}, ir_version=10, graph=graph))
    sizes, values = dict.fromkeys(names, MB), {name: Value(name, FLOAT, b"") for name in names}
    times = [node_ms] * len(weights_mb)
    return Segments(flow, cuts_of(flow, flow.placed, sizes, values), sizes, times, inline_bytes=180_000, splits=splits)


@pytest.fixture
def aws() -> CostModel:
    return CostModel(load_platform("aws-lambda"), "x86_64", 119 * MB)


def refused(segments: Segments, model: CostModel, goal: Goal) -> PlanError:
    with pytest.raises(PlanError) as caught:
        search(segments, model, goal)
    return caught.value


def number_in(hint: str | None) -> float:
    found = re.search(r"(?:--\S+ |`--max-memory` )([0-9.]+)", hint or "")
    assert found is not None
    return float(found[1])


def test_a_model_that_fits_is_not_cut_for_latency(aws: CostModel) -> None:
    found = search(chain(10, 10, 10), aws, Goal("latency"))
    assert [(choice.start, choice.end) for choice in found.choices] == [(0, 3)]


def test_a_model_is_cut_so_that_its_weights_load_side_by_side(aws: CostModel) -> None:
    segments = chain(400, 400, 400, 400)
    whole = search(segments, aws, Goal("latency", cold="parallel", slices=1))
    found = search(segments, aws, Goal("latency", cold="parallel"))
    assert len(found.choices) > 1
    assert found.latency_ms < whole.latency_ms / 2


def test_memory_is_as_small_as_it_can_be_and_then_used_for_speed(aws: CostModel) -> None:
    segments = chain(300, 100, 100, 300)
    found = search(segments, aws, Goal("memory"))
    assert search(segments, aws, Goal("latency", max_memory_mb=found.largest_memory_mb)) == found
    assert "cannot be cut" in refused(segments, aws, Goal("latency", max_memory_mb=found.largest_memory_mb - 1)).message


def test_equally_fast_plans_are_told_apart_by_cost(aws: CostModel) -> None:
    found = search(chain(10, 10), aws, Goal("latency"))
    largest = evaluate(chain(10, 10), aws, [Choice(0, 2, 10_240)], Goal("latency"))
    speeds = aws.platform.speeds
    assert found.latency_ms <= largest.latency_ms
    assert found.cost_usd <= largest.cost_usd
    assert found.largest_memory_mb <= max(speeds.mb_per_vcpu * speeds.vcpus_max + 64, 128)


def test_of_plans_that_are_equally_fast_the_one_within_the_price_is_found(aws: CostModel) -> None:
    limits = replace(aws.platform.limits, memory_sizes_mb=(2048,))
    speeds = replace(aws.platform.speeds, hop_ms=0.0, inline_mb_s=1e30, object_mb_s=1e30, object_request_ms=0.0)
    model = replace(aws, platform=replace(aws.platform, limits=limits, speeds=speeds))
    segments = chain(10, 10, 10)
    for cold in (None, "parallel"):
        cheapest = search(segments, model, Goal("cost", cold=cold))
        fastest = search(segments, model, Goal("latency", cold=cold, max_cost_usd=cheapest.cost_usd))
        assert fastest.latency_ms == pytest.approx(cheapest.latency_ms)
        assert len(pareto(segments, model, Goal("cost"))) == 1


def test_a_node_is_split_where_it_must_and_its_parts_are_paid_for(aws: CostModel) -> None:
    half = Load(50.0, 1.0, 6000.0 * MB, 6000.0 * MB, 0.0, 0.0, 1.0 * MB, 1.0 * MB, 1.0, 1.0)
    segments = chain(100, 12_000, 100, splits={1: [SplitLoad(2, half)]})
    found = search(segments, aws, Goal("cost"))
    assert [choice.parts for choice in found.choices] == [1, 2, 1]
    once = evaluate(segments, aws, found.choices, Goal("cost")).cost_usd
    single = aws.costs(half, found.choices[1].memory_mb, workflow=True).warm_usd
    others = [evaluate(segments, aws, [c, c], Goal("cost")).cost_usd for c in (found.choices[0], found.choices[2])]
    run_usd = aws.platform.pricing.workflow_request_usd
    assert once == pytest.approx(2 * float(single) + sum(other - run_usd for other in others) / 2 + run_usd)


def test_the_frontier_of_a_large_model_says_how_close_it_is(aws: CostModel) -> None:
    segments = chain(*[20] * 210)
    found = pareto(segments, aws, Goal("cost"))
    assert [one.epsilon for one in found] == [pytest.approx(EPSILON)] * len(found)
    fastest = search(segments, aws, Goal("latency"))
    for slower in (1.1, 1.5, 3.0):
        bound = fastest.latency_ms * slower
        best = search(segments, aws, Goal("cost", slo_ms=bound))
        assert min(one.cost_usd for one in found if one.latency_ms <= bound) <= best.cost_usd * (1 + EPSILON)


@pytest.mark.parametrize("cold", [None, "sequential", "parallel"])
def test_a_latency_that_is_too_short_is_refused_with_the_shortest(aws: CostModel, cold: None) -> None:
    segments, goal = chain(10, 10), Goal("cost", slo_ms=1, cold=cold)
    error = refused(segments, aws, goal)
    assert re.fullmatch(r"the fastest plan takes [0-9.]+ ms, above `--slo-ms 1`", error.message)
    search(segments, aws, replace(goal, slo_ms=number_in(error.hint)))


def test_a_price_that_is_too_low_is_refused_with_the_lowest(aws: CostModel) -> None:
    segments, goal = chain(10, 10), Goal("latency", max_cost_usd=1e-9)
    error = refused(segments, aws, goal)
    assert re.fullmatch(r"the cheapest plan costs 0\.[0-9]+ USD a request, above `--max-cost-usd 1e-09`", error.message)
    search(segments, aws, replace(goal, max_cost_usd=number_in(error.hint)))


@pytest.mark.parametrize("objective", ["latency", "cost", "memory"])
def test_bounds_that_exclude_each_other_are_refused_with_the_nearest(aws: CostModel, objective: str) -> None:
    segments = chain(10, 10, 10)
    fastest, cheapest = (search(segments, aws, Goal(objective)) for objective in ("latency", "cost"))
    goal = Goal("cost", slo_ms=fastest.latency_ms * 1.01, max_cost_usd=cheapest.cost_usd * 1.001)
    error = refused(segments, aws, replace(goal, objective=objective))
    assert "within `--" in error.message
    flag = "slo_ms" if "--slo-ms" in (error.hint or "") else "max_cost_usd"
    search(segments, aws, replace(goal, objective=objective, **{flag: number_in(error.hint)}))


def test_a_node_that_is_too_large_is_named_with_its_weight_and_the_least_that_would_do(aws: CostModel) -> None:
    segments, goal = chain(10, 900, 10), Goal("cost", max_memory_mb=512)
    error = refused(segments, aws, goal)
    assert error.message.startswith("MatMul 'n1' cannot be cut and needs ")
    assert "900 MB of weights, 900 MB of them in `w1`, above the 512 MB of a function" in error.message
    least = int(number_in(error.hint))
    assert search(segments, aws, replace(goal, max_memory_mb=least)).largest_memory_mb <= least
    refused(segments, aws, replace(goal, max_memory_mb=least - 1))


def test_a_node_above_every_function_of_the_platform_needs_another_platform(aws: CostModel) -> None:
    error = refused(chain(10, 20_000), aws, Goal("cost"))
    assert re.fullmatch(r"choose a platform that has functions of 2\d{4} MB", error.hint or "")


def test_a_node_that_takes_too_long_is_named_with_the_timeout(aws: CostModel) -> None:
    error = refused(chain(10, 10, node_ms=6_000_000.0), aws, Goal("cost"))
    assert "cannot be cut and takes longer, started cold, than the 900 s" in error.message


def test_a_number_of_slices_that_cannot_be_is_refused(aws: CostModel) -> None:
    error = refused(chain(10, 10), aws, Goal("cost", slices=3))
    assert error.message == "the model has 2 nodes and 1 legal cuts, too few for 3 slices"
    assert error.hint == "ask for at most `--slices 2`"


def test_too_few_slices_for_the_memory_are_refused_with_a_number_that_is_enough(aws: CostModel) -> None:
    segments, goal = chain(300, 300, 300, 300), Goal("cost", slices=1, max_memory_mb=800)
    error = refused(segments, aws, goal)
    assert error.message.startswith("1 slice does not keep the limits of AWS Lambda: functions of 800 MB")
    search(segments, aws, replace(goal, slices=int(number_in(error.hint))))
