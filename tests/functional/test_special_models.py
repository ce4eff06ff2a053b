"""Bodies, functions, and graphs of every unusual shape, each in a small real model: slices equal the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.functional.special_models import LARGE, assert_slices_equal, floats, saved, tensor, weight

import lamella


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model" / "model.onnx"


def test_if_captures_outer_values_and_weights(path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        nodes = [helper.make_node(op, ["h", "w"], [f"{op}_1"]), helper.make_node("Add", [f"{op}_1", "x"], [f"{op}_2"])]
        return helper.make_graph(nodes, op, [], [tensor(f"{op}_2")])

    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=branch("MatMul"), else_branch=branch("Mul")),
        helper.make_node("Tanh", ["y"], ["z"]),
    ]
    weights = [weight("w", LARGE, LARGE), numpy_helper.from_array(np.float32(0), "zero")]
    saved(path, nodes, [tensor("x", shape=["n", LARGE])], [tensor("z")], weights)
    x = np.abs(floats(LARGE, LARGE))
    for sign in (1, -1):
        assert_slices_equal(path, {"x": sign * x}, at_least=4)


def test_loop_with_a_nested_if_captures_through_both(path: Path) -> None:
    then = helper.make_graph([helper.make_node("MatMul", ["s_in", "w"], ["t"])], "then", [], [tensor("t")])
    other = helper.make_graph([helper.make_node("Add", ["s_in", "h"], ["e"])], "else", [], [tensor("e")])
    body = helper.make_graph(
        [
            helper.make_node("Mod", ["i", "two"], ["m"]),
            helper.make_node("Cast", ["m"], ["odd"], to=TensorProto.BOOL),
            helper.make_node("If", ["odd"], ["s_out"], then_branch=then, else_branch=other),
            helper.make_node("Identity", ["c_in"], ["c_out"]),
            helper.make_node("Identity", ["s_out"], ["each"]),
        ],
        "body",
        [tensor("i", TensorProto.INT64, []), tensor("c_in", TensorProto.BOOL, []), tensor("s_in")],
        [tensor("c_out", TensorProto.BOOL, []), tensor("s_out"), tensor("each")],
        [numpy_helper.from_array(np.int64(2), "two")],
    )
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["h"]),
        helper.make_node("Relu", ["x"], ["start"]),
        helper.make_node("Loop", ["trips", "", "start"], ["last", "all"], body=body),
        helper.make_node("Tanh", ["last"], ["y"]),
    ]
    weights = [weight("w", LARGE, LARGE), numpy_helper.from_array(np.int64(3), "trips")]
    saved(path, nodes, [tensor("x", shape=["n", LARGE])], [tensor("y"), tensor("all")], weights)
    assert_slices_equal(path, {"x": floats(2, LARGE)}, at_least=4)


def test_scan_captures_an_outer_value(path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Add", ["state", "item"], ["sum"]),
            helper.make_node("Mul", ["sum", "scale"], ["next"]),
            helper.make_node("Identity", ["next"], ["each"]),
        ],
        "body",
        [tensor("state", shape=[4]), tensor("item", shape=[4])],
        [tensor("next", shape=[4]), tensor("each", shape=[4])],
    )
    nodes = [
        helper.make_node("ReduceMean", ["x", "axes"], ["scale"], keepdims=0),
        helper.make_node("Relu", ["scale"], ["first"]),
        helper.make_node("Scan", ["first", "x"], ["last", "all"], body=body, num_scan_inputs=1),
        helper.make_node("Neg", ["all"], ["y"]),
    ]
    weights = [numpy_helper.from_array(np.array([0], np.int64), "axes")]
    saved(path, nodes, [tensor("x", shape=["n", 4])], [tensor("y"), tensor("last")], weights)
    assert_slices_equal(path, {"x": floats(5, 4)}, at_least=4)


def test_local_functions_keep_their_large_constants(path: Path) -> None:
    constant = helper.make_node("Constant", [], ["c"], value=weight("", LARGE, LARGE))
    ops = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    inner = helper.make_function(
        "local", "Inner", ["a"], ["b"], [constant, helper.make_node("MatMul", ["a", "c"], ["b"])], ops
    )
    outer = helper.make_function(
        "local",
        "Outer",
        ["a", "w"],
        ["b"],
        [
            helper.make_node("Inner", ["a"], ["i"], domain="local"),
            helper.make_node("Gemm", ["i", "w"], ["b"]),
        ],
        ops,
    )
    nodes = [
        helper.make_node("Outer", ["x", "w"], ["h"], domain="local"),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Inner", ["r"], ["y"], domain="local"),
    ]
    saved(
        path,
        nodes,
        [tensor("x", shape=["n", LARGE])],
        [tensor("y")],
        [weight("w", LARGE, LARGE)],
        domains={"local": 1},
        functions=[inner, outer],
    )
    assert_slices_equal(path, {"x": floats(3, LARGE)}, at_least=3)
    last = lamella.load(path.parent.parent / "3-True.slices" / "slice_002.onnx")
    assert [op[1] for op in last.functions] == ["Inner"]


@pytest.mark.parametrize("given", [[], ["w"], ["w", "b"]])
def test_initializers_that_are_inputs_may_be_overridden(path: Path, given: list[str]) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "b"], ["s"]),
        helper.make_node("Relu", ["s"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    inputs = [tensor("x", shape=["n", LARGE]), tensor("w", shape=[LARGE, LARGE]), tensor("b", shape=[LARGE])]
    saved(path, nodes, inputs, [tensor("y")], [weight("w", LARGE, LARGE), weight("b", LARGE)])
    other = {"w": floats(LARGE, LARGE), "b": floats(LARGE)}
    assert_slices_equal(path, {"x": floats(3, LARGE), **{name: other[name] for name in given}}, at_least=4)


def test_outputs_that_are_inputs_or_initializers(path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["y"]),
        helper.make_node("Constant", [], ["c"], value=weight("", LARGE, LARGE)),
        helper.make_node("Neg", ["c"], ["d"]),
    ]
    names = ("x", "y", "w", "small", "d", "c")
    weights = [weight("w", LARGE, LARGE), weight("small", 2)]
    saved(path, nodes, [tensor("x", shape=["n", LARGE])], [tensor(name) for name in names], weights)
    assert_slices_equal(path, {"x": floats(3, LARGE)}, at_least=2)


def test_overridable_initializer_that_is_an_output(path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["h"]), helper.make_node("Relu", ["h"], ["y"])]
    inputs = [tensor("x", shape=[4]), tensor("b", shape=[4])]
    saved(path, nodes, inputs, [tensor("y"), tensor("b", shape=[4])], [weight("b", 4)])
    assert_slices_equal(path, {"x": floats(4)})
    assert_slices_equal(path, {"x": floats(4), "b": floats(4) + 1})


def test_model_of_weights_alone(path: Path) -> None:
    nodes = [helper.make_node("Neg", ["w"], ["n"]), helper.make_node("Relu", ["n"], ["y"])]
    saved(path, nodes, [], [tensor("y")], [weight("w", LARGE, LARGE)])
    assert_slices_equal(path, {})


@pytest.mark.parametrize("backwards", [False, True])
def test_nodes_in_any_order(path: Path, backwards: bool) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "second"),
        helper.make_node("Add", ["b", "x"], ["y"], "third"),
    ]
    saved(
        path,
        nodes[:: -1 if backwards else 1],
        [tensor("x", shape=["n", LARGE])],
        [tensor("y")],
        [weight("w", LARGE, LARGE)],
    )
    assert_slices_equal(path, {"x": floats(2, LARGE)}, at_least=3)


def test_model_without_nodes(path: Path) -> None:
    saved(path, [], [tensor("x", shape=[2])], [tensor("x", shape=[2]), tensor("w", shape=[2])], [weight("w", 2)])
    assert_slices_equal(path, {"x": floats(2)}, at_least=1)


def test_inputs_that_nothing_uses(path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["n"]), helper.make_node("Relu", ["n"], ["y"])]
    saved(path, nodes, [tensor("x", shape=[3]), tensor("unused", shape=[2])], [tensor("y")])
    assert_slices_equal(path, {"x": floats(3), "unused": floats(2)})


def test_nodes_that_nothing_needs_are_left_out(path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["n"]),
        helper.make_node("Exp", ["n"], ["dead"]),
        helper.make_node("Log", ["dead"], ["dead too"]),
        helper.make_node("Relu", ["n"], ["y"]),
    ]
    saved(path, nodes, [tensor("x", shape=[3])], [tensor("y")])
    assert_slices_equal(path, {"x": floats(3)})
    assert len(lamella.plan(lamella.load(path), slices="max").slices) == 2


@pytest.mark.parametrize(("rows", "columns"), [(1, 7), (3, 1), (0, 5)])
def test_dynamic_shapes_that_inference_cannot_know(path: Path, rows: int, columns: int) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["where"]),
        helper.make_node("Transpose", ["where"], ["indices"]),
        helper.make_node("GatherND", ["x", "indices"], ["values"]),
        helper.make_node("Unique", ["values"], ["unique", "first"], sorted=1),
        helper.make_node("Neg", ["unique"], ["y"]),
    ]
    outputs = [tensor("y"), tensor("first", TensorProto.INT64)]
    saved(path, nodes, [tensor("x", shape=["rows", "columns"])], outputs)
    assert_slices_equal(path, {"x": np.round(floats(rows, columns))}, at_least=4)


def test_optional_inputs_left_empty_and_outputs_left_out(path: Path) -> None:
    nodes = [
        helper.make_node("Clip", ["x", "", "high"], ["c"]),
        helper.make_node("Resize", ["c", "", "", "sizes"], ["r"], mode="nearest"),
        helper.make_node("MaxPool", ["r"], ["p", "at"], kernel_shape=[2, 2]),
        helper.make_node("LSTM", ["s", "W", "R", "", "", "h0"], ["", "h"], hidden_size=4),
        helper.make_node("Relu", ["h"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.float32(1), "high"),
        numpy_helper.from_array(np.array([1, 1, 6, 6], np.int64), "sizes"),
        weight("W", 1, 16, 3),
        weight("R", 1, 16, 4),
        weight("h0", 1, 2, 4),
    ]
    inputs = [tensor("x", shape=[1, 1, 3, 3]), tensor("s", shape=[5, 2, 3])]
    outputs = [tensor("at", TensorProto.INT64), tensor("y")]
    saved(path, nodes, inputs, outputs, weights)
    assert_slices_equal(path, {"x": floats(1, 1, 3, 3), "s": floats(5, 2, 3)}, at_least=4)


def test_outputs_of_one_node_go_to_different_slices(path: Path) -> None:
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b", "c"], axis=1, num_outputs=3),
        helper.make_node("TopK", ["b", "two"], ["top", "at"]),
        helper.make_node("Relu", ["a"], ["ra"]),
        helper.make_node("GatherElements", ["ra", "at"], ["g"], axis=1),
        helper.make_node("Add", ["g", "top"], ["s"]),
        helper.make_node("Concat", ["s", "c"], ["y"], axis=1),
    ]
    weights = [numpy_helper.from_array(np.array([2]), "two")]
    saved(path, nodes, [tensor("x", shape=["n", 12])], [tensor("y")], weights)
    assert_slices_equal(path, {"x": floats(3, 12)}, at_least=6)
