"""Loads of segments, on a model small enough to count by hand."""

from pathlib import Path

import numpy as np
import pytest

from lamella.errors import PlanError
from lamella.graph.model import Graph, Model, Node, Value, ValueType, Weight
from lamella.planner.cost import CostModel, Load
from lamella.planner.cuts import cuts_of
from lamella.planner.flow import flow_of
from lamella.planner.functions import Functions
from lamella.planner.segments import Segments, SplitLoad
from lamella.platforms.base import MB
from lamella.platforms.reading import load_platform

FLOAT = ValueType("tensor", 1, ())
SIZES = {"x": 10, "a": 100, "b": 1, "y": 100}
NODE_MS = [0.5, 1.0, 2.0, 4.0]
OPTION = SplitLoad(2, Load(1.0, 1.0, 25.0, 25.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))


def diamond(splits: dict[int, list[SplitLoad]] | None = None) -> Segments:
    """`a = x w'`, `b = a w`, `y = a + b + x`, where `w'` is made of the weight `w` of 50 bytes by a node of its own."""

    def node(index: int, inputs: list[str], output: str) -> Node:
        return Node(index, ("", "Sum", ""), "", tuple(inputs), (output,), (), {}, (), (0, 0))

    graph = Graph(initializers={"w": Weight("w", 1, (), 50, None)})
    graph.inputs, graph.outputs = [Value("x", FLOAT, b"")], [Value("y", FLOAT, b"")]
    graph.nodes = [
        node(0, ["w"], "w'"),
        node(1, ["x", "w'"], "a"),
        node(2, ["a", "w"], "b"),
        node(3, ["a", "b", "x"], "y"),
    ]
    flow = flow_of(Model(Path("model.onnx"), b"", {}, ir_version=10, graph=graph))
    values = {name: Value(name, FLOAT, b"") for name in "aby"}
    return Segments(flow, cuts_of(flow, (1, 2, 3), SIZES, values), SIZES, NODE_MS, inline_bytes=20, splits=splits)


def sent(load: Load) -> tuple[float, ...]:
    numbers = (load.inline_bytes, load.objects_in, load.object_in_bytes, load.objects_out, load.object_out_bytes)
    return tuple(float(np.asarray(number)) for number in numbers)


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, 3, (10, 0, 0, 1, 100)),  # x in, y out
        (0, 1, (10, 0, 0, 1, 100)),  # x in, a out, once for both that use it
        (1, 2, (1, 1, 100, 0, 0)),  # a in, b out
        (2, 3, (11, 1, 100, 1, 100)),  # a, b and x in, y out
        (1, 3, (10, 1, 100, 1, 100)),  # b stays inside
        (0, 2, (11, 0, 0, 1, 100)),  # a is still needed behind
    ],
)
def test_values_count_once_at_the_maker_and_once_at_every_user(
    start: int, end: int, expected: tuple[float, ...]
) -> None:
    assert sent(diamond().load(start, end)) == expected


def test_constant_nodes_count_with_the_node_that_needs_them() -> None:
    load = diamond().load(0, 1)
    assert (load.compute_ms, load.nodes) == (1.5, 2)


def test_a_weight_that_two_nodes_use_counts_once() -> None:
    segments = diamond()
    apart = [float(np.asarray(segments.load(p, p + 1).weights_bytes)) for p in (0, 1)]
    together = float(np.asarray(segments.load(0, 2).weights_bytes))
    assert apart[1] == 50
    assert together == apart[0]


def test_the_arrays_of_an_end_cannot_be_changed() -> None:
    _, _, load = next(diamond().ending_at())
    with pytest.raises(ValueError, match="read-only"):
        load.weights_bytes += 1


def test_a_split_is_an_option_of_its_own_node_only() -> None:
    segments = diamond({1: [OPTION]})
    platform = load_platform("aws-lambda")
    rows = list(Functions(segments, CostModel(platform, "x86_64", 0), None).rows())
    found = [(int(r.start[i]), int(r.end[i]), int(r.parts[i])) for r in rows for i in range(len(r))]
    assert [row for row in found if row[2] > 1] == [(1, 2, 2)]
    assert len(found) == 7
    assert [bool(flag) for r in rows for flag in r.workflow] == [True] * 4 + [False] + [True] * 2
    assert segments.load_of(1, 2, 2) is OPTION.load


def test_no_size_is_offered_that_is_only_dearer() -> None:
    platform = load_platform("aws-lambda")
    functions = Functions(diamond(), CostModel(platform, "x86_64", 0), None)
    fastest = platform.speeds.mb_per_vcpu * platform.speeds.vcpus_max
    assert sum(functions.sizes >= fastest) <= 1
    assert functions.sizes_of(np.array([1000.0]))[0, 0] == 1000


def test_the_largest_size_allowed_is_offered_although_no_multiple() -> None:
    functions = Functions(diamond(), CostModel(load_platform("aws-lambda"), "x86_64", 0), None, 1001)
    assert functions.sizes[-1] == functions.most_mb == 1001
    assert functions.least_mb(functions.segments.load(0, 3)) <= 1001
    heavy = Load(0.0, 1.0, 2000.0 * MB, 2000.0 * MB, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert np.isinf(functions.least_mb(heavy))


def test_a_limit_below_the_smallest_function_is_refused() -> None:
    with pytest.raises(PlanError, match="no function of 100 MB or less") as caught:
        Functions(diamond(), CostModel(load_platform("aws-lambda"), "x86_64", 0), None, 100)
    assert caught.value.hint == "give `--max-memory 128MiB` or more"
