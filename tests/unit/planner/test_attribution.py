"""Whose time the time of an optimised operator is."""

from pathlib import Path

import onnx
import pytest
from onnx import helper
from tests import models

from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.planner.attribution import Executed, attributed, numbered, read_executed


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(models.residual_conv(tmp_path / "m.onnx"))


def ran(name: str, inputs: list[str], outputs: list[str], ms: float) -> Executed:
    return Executed(name, tuple(inputs), tuple(outputs), ms)


EQUAL = [1.0] * 7


def test_numbering_changes_names_and_nothing_else(model: Model) -> None:
    before, after = onnx.load(model.path), onnx.ModelProto.FromString(numbered(model.structure))
    assert [node.name for node in after.graph.node] == [f"@{index}@" for index in range(7)]
    for old, new in zip(before.graph.node, after.graph.node, strict=True):
        new.name = old.name
    assert after.graph.node == before.graph.node
    assert after.graph.output == before.graph.output
    assert after.opset_import == before.opset_import


def test_a_fused_operator_s_time_goes_to_all_that_it_stands_for_by_their_work(model: Model) -> None:
    executed = [
        ran("fused @0@", ["image", "k0", "c0"], ["relu0"], 6.0),
        ran("relu1_nchwc", ["relu0", "k1", "image"], ["other"], 12.0),  # convolution, addition and Relu in one
        ran("ReorderOutput", ["other"], ["relu1"], 2.0),
        ran("@5@", ["relu1"], ["pooled"], 1.0),
        ran("@6@", ["pooled"], ["features"], 0.5),
    ]
    found = attributed(model, executed, [5.0, 1.0, 5.0, 1.0, 1.0, 1.0, 1.0])
    assert found == pytest.approx([5.0, 1.0, 10.0, 2.0, 2.0, 1.0, 0.5])


def test_a_change_of_layout_belongs_to_the_first_that_uses_it(model: Model) -> None:
    executed = [
        ran("ReorderInput", ["image"], ["reordered"], 3.0),
        ran("relu0_nchwc", ["reordered"], ["inner"], 4.0),
        ran("relu1_nchwc_token_2", ["inner"], ["last"], 5.0),
        ran("pooled_nchwc", ["last"], ["also"], 1.0),
        ran("ReorderOutput", ["also"], ["pooled"], 1.0),
        ran("@6@", ["pooled"], ["features"], 1.0),
    ]
    assert attributed(model, executed, EQUAL) == pytest.approx([3.5, 3.5, 5 / 3, 5 / 3, 5 / 3, 2.0, 1.0])


def test_time_that_belongs_to_no_node_is_spread_over_all(model: Model) -> None:
    executed = [ran(f"@{i}@", [], [], 1.0) for i in range(7)] + [ran("MemcpyToHost", ["a"], ["b"], 0.7)]
    assert attributed(model, executed, EQUAL) == pytest.approx([1.1] * 7)


def test_nodes_that_only_depend_on_weights_get_time_only_where_they_ran(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["w"], ["turned"]),
        helper.make_node("Neg", ["w"], ["negative"]),
        helper.make_node("MatMul", ["x", "turned"], ["product"]),
        helper.make_node("Add", ["product", "negative"], ["y"]),
    ]
    inputs, outputs = [models.floats("x", [8, 8])], [models.floats("y", [8, 8])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [models.weight("w", 8, 8)])
    model = load(models.save(tmp_path / "m.onnx", graph))
    executed = [
        ran("@1@", ["w"], ["negative"], 2.0),
        ran("@2@", ["x", "folded"], ["product"], 3.0),
        ran("@3@", ["product", "negative"], ["y"], 1.0),
    ]
    assert attributed(model, executed, [1.0] * 4) == pytest.approx([0.0, 2.0, 3.0, 1.0])


def test_nothing_that_ran_is_nothing_spent(model: Model) -> None:
    assert attributed(model, [], EQUAL) == [0.0] * 7


def test_the_engine_s_graph_is_read_without_its_weights(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx", layers=2, width=64)
    found = read_executed(path, {"matmul0": 3.0})
    assert [node.name for node in found] == ["matmul0", "add0", "relu0", "matmul1", "add1", "relu1"]
    assert found[0] == Executed("matmul0", ("x", "w0"), ("product0",), 3.0)
    assert found[1].ms == 0
