"""Plans for a platform, from a model's file to slices that run."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from tests import models

import lamella
from lamella.errors import PlanError, UsageError
from lamella.planner.plan_file import read_plan, write_plan
from lamella.planner.planning import NEARLY, Planning, goal_of, planning
from lamella.planner.search import search
from lamella.platforms import load_platform
from lamella.platforms.base import Limits, Platform


@pytest.fixture
def mlp(tmp_path: Path) -> Path:
    return models.mlp(tmp_path / "mlp.onnx", layers=4, width=256)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """Two layers, of which the first has a weight of 24 MB."""
    nodes = [
        helper.make_node("Gemm", ["x", "w0"], ["h"], "first", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "w1"], ["y"], "second"),
    ]
    weights = [models.weight("w0", 6000, 1000), models.weight("w1", 6000, 8)]
    graph = helper.make_graph(nodes, "wide", [models.floats("x", [1, 1000])], [models.floats("y", [1, 8])], weights)
    return models.save(tmp_path / "wide.onnx", graph)


def small_functions(most_mb: int) -> Platform:
    """AWS Lambda, if its functions ended at `most_mb` and a process took 60 MB."""
    aws = load_platform("aws-lambda")
    limits = replace(aws.limits, memory_min_mb=64, memory_max_mb=most_mb)
    return replace(aws, limits=limits, speeds=replace(aws.speeds, floor_mb=60, weights_factor=1, activations_factor=1))


def test_a_small_model_is_one_slice_and_says_what_two_would_cost(mlp: Path) -> None:
    prepared = planning(lamella.load(mlp), "aws-lambda")
    plan = prepared.plan(goal_of())
    one, two, three = prepared.alternatives(goal_of())
    assert len(plan.slices) == 1
    assert plan.estimate is not None
    assert (one.steps, two.steps, three.steps) == (1, 2, 3)
    assert one.estimate is not None
    assert two.estimate is not None
    assert plan.estimate.warm_ms == pytest.approx(one.estimate.warm_ms)
    assert two.estimate.warm_ms >= one.estimate.warm_ms + prepared.platform.speeds.hop_ms


@pytest.mark.parametrize("cold", [None, "sequential"])
@pytest.mark.parametrize("objective", ["latency", "cost", "memory"])
def test_the_plan_is_within_a_percent_of_the_best_of_all(mlp: Path, objective: str, cold: str) -> None:
    prepared = planning(lamella.load(mlp), "aws-lambda")
    goal = goal_of(objective, cold=cold)  # type: ignore[arg-type]
    best = min((search(segments, prepared.costs, goal) for segments in prepared.segments), key=lambda f: f.latency_ms)
    _, found = prepared.best(goal)
    if objective == "latency":
        assert best.latency_ms <= found.latency_ms <= best.latency_ms * (1 + NEARLY)
        assert found.cost_usd <= best.cost_usd * (1 + 1e-9)
    elif objective == "cost":
        assert best.cost_usd <= found.cost_usd * (1 + 1e-9)
        assert found.cost_usd <= best.cost_usd * (1 + NEARLY)
    else:
        assert found.largest_memory_mb == best.largest_memory_mb


def test_a_weight_above_the_largest_function_is_split_and_the_slices_are_right(wide: Path, tmp_path: Path) -> None:
    plan = lamella.plan(wide, platform=small_functions(76))
    assert [split.weight for split in plan.splits] == ["w0"]
    parts = plan.splits[0].parts
    assert parts >= 2
    assert len(plan.slices) == parts + 1
    assert plan.stages[0] == tuple(range(parts))  # side by side
    assert all(part.memory_mb <= 76 for part in plan.slices)
    assert all(part.weights_bytes <= 16 << 20 for part in plan.slices)
    sliced = lamella.slice(plan, tmp_path / "wide.slices")
    assert sliced.verification is not None
    assert sliced.verification.ok


def test_a_bound_holds_for_a_plan_with_its_parts_put_together(wide: Path) -> None:
    free = lamella.plan(wide, platform=small_functions(76))
    assert free.splits
    assert free.estimate is not None
    bound_ms = 0.999 * free.estimate.warm_ms
    with pytest.raises(PlanError, match="above `--slo-ms") as caught:
        lamella.plan(wide, platform=small_functions(76), slo_ms=bound_ms)
    assert "--slo-ms" in (caught.value.hint or "")
    with pytest.raises(PlanError, match="above `--max-cost-usd"):
        lamella.plan(wide, platform=small_functions(76), objective="cost", max_cost_usd=free.estimate.warm_usd / 3)


def test_what_no_function_can_hold_is_an_error_that_names_it(wide: Path) -> None:
    with pytest.raises(PlanError, match="64 MB") as caught:
        lamella.plan(wide, platform=small_functions(64), slices=1)
    assert caught.value.hint


def test_a_plan_file_keeps_memory_and_estimates(mlp: Path, tmp_path: Path) -> None:
    plan = lamella.plan(mlp, platform="aws-lambda", slices=2, max_memory_bytes=512 << 20)
    write_plan(plan, tmp_path / "plan.json")
    again = read_plan(tmp_path / "plan.json")
    assert [part.memory_mb for part in again.slices] == [part.memory_mb for part in plan.slices]
    assert [part.estimated_ms for part in again.slices] == pytest.approx([part.estimated_ms for part in plan.slices])
    assert again.platform == plan.platform == "aws-lambda"


def test_symbolic_dimensions_can_be_given(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "m.onnx", width=64)
    few, many = (planning(lamella.load(path), "aws-lambda", dims={"batch": n}).plan(goal_of()) for n in (1, 4096))
    assert few.estimate is not None
    assert many.estimate is not None
    assert many.estimate.warm_ms > 2 * few.estimate.warm_ms


@pytest.mark.parametrize(
    "wrong",
    [
        {"objective": "speed", "platform": "aws-lambda"},
        {"cold": "lukewarm", "platform": "aws-lambda"},
        {"slo_ms": -1, "platform": "aws-lambda"},
        {"max_cost_usd": float("nan"), "platform": "aws-lambda"},
        {"slices": "max", "platform": "aws-lambda"},
        {"objective": "cost"},
        {"slo_ms": 10},
        {"platform": "aws-lamda"},
    ],
)
def test_wrong_arguments_say_what_is_right(mlp: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError) as caught:
        lamella.plan(mlp, **wrong)  # type: ignore[arg-type]
    assert caught.value.hint


def test_an_architecture_that_the_platform_lacks(mlp: Path) -> None:
    with pytest.raises(PlanError, match="arm64"):
        lamella.plan(mlp, platform="azure-flex", architecture="arm64")


def test_bounds_that_nothing_meets_name_the_nearest_plan(mlp: Path) -> None:
    prepared = planning(lamella.load(mlp), "aws-lambda")
    with pytest.raises(PlanError) as caught:
        prepared.plan(goal_of(slo_ms=0.001))
    assert "--slo-ms" in (caught.value.hint or "")
    with pytest.raises(PlanError) as caught:
        prepared.plan(goal_of("cost", max_cost_usd=1e-12))
    assert "--max-cost-usd" in (caught.value.hint or "")


def test_the_frontier_holds_the_fastest_and_the_cheapest(mlp: Path) -> None:
    prepared = planning(lamella.load(mlp), "aws-lambda")
    frontier = prepared.frontier(goal_of())
    fastest, cheapest = (search(prepared.segments[0], prepared.costs, goal_of(o)) for o in ("latency", "cost"))
    assert frontier[0].latency_ms == pytest.approx(fastest.latency_ms)
    assert frontier[-1].cost_usd == pytest.approx(cheapest.cost_usd)
    assert all(a.latency_ms < b.latency_ms and a.cost_usd > b.cost_usd for a, b in itertools.pairwise(frontier))


def test_twenty_gigabytes_in_a_sparse_file(tmp_path: Path) -> None:
    """More than any function holds: the plan comes from the structure alone."""
    layers, width = 80, 8192  # 256 MiB each
    weights, nodes, current = [], [], "x"
    for index in range(layers):
        tensor = onnx.TensorProto(name=f"w{index}", data_type=onnx.TensorProto.FLOAT, dims=[width, width])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        size = 4 * width * width
        for key, value in (("location", "big.data"), ("offset", str(index * size)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        weights.append(tensor)
        following = "y" if index == layers - 1 else f"h{index}"
        nodes.append(helper.make_node("MatMul", [current, f"w{index}"], [following], f"matmul{index}"))
        current = following
    ends = [models.floats("x", [1, width])], [models.floats("y", [1, width])]
    graph = helper.make_graph(nodes, "big", *ends, weights)
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "big.onnx")
    with (tmp_path / "big.data").open("wb") as file:
        file.truncate(layers * 4 * width * width)
    plan = lamella.plan(tmp_path / "big.onnx", platform="aws-lambda")
    assert len(plan.slices) >= 3
    assert all(part.memory_mb <= 10240 for part in plan.slices)
    assert sum(part.weights_bytes for part in plan.slices) == layers * 4 * width * width


def test_planning_prepares_once(mlp: Path) -> None:
    prepared = Planning(lamella.load(mlp), load_platform("local"))
    assert prepared.segments is prepared.segments
    assert np.isfinite(prepared.plan(goal_of()).estimate.warm_ms)  # type: ignore[union-attr]


def test_limits_of_fixed_sizes(mlp: Path) -> None:
    assert Limits(memory_min_mb=512, memory_max_mb=4096, memory_sizes_mb=(512, 2048, 4096)).memory_sizes(600) == [
        2048,
        4096,
    ]
    plan = lamella.plan(mlp, platform="azure-flex")
    assert {part.memory_mb for part in plan.slices} <= {512, 2048, 4096}
