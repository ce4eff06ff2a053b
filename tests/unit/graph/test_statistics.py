"""A model in numbers."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from tests import models

from lamella.graph.reader import load
from lamella.graph.statistics import statistics


@pytest.mark.parametrize("builder", [models.mlp, models.residual_conv, models.conditional, models.strings])
def test_counts_are_those_of_onnx(builder: Callable[[Path], Path], tmp_path: Path) -> None:
    path = builder(tmp_path / "model.onnx")
    graph = onnx.load(path).graph
    found = statistics(load(path))
    assert found.nodes == len(graph.node) == sum(found.operators.values())
    assert found.parameters == sum(onnx.numpy_helper.to_array(tensor).size for tensor in graph.initializer)
    assert found.weights_bytes == sum(onnx.numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)
    assert [spec.name for spec in found.inputs] == [value.name for value in graph.input]
    assert [spec.name for spec in found.outputs] == [value.name for value in graph.output]


def test_operators_have_their_domain_where_it_is_not_the_default_one(tmp_path: Path) -> None:
    found = statistics(load(models.strings(tmp_path / "model.onnx")))
    assert found.operators == {"ai.onnx.ml.LabelEncoder": 2, "Identity": 1, "Mul": 1}


def test_operators_in_subgraphs_are_counted_apart_however_deep(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info("out", TensorProto.FLOAT, [1])
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["out"])], "body", [], [value])
    for _ in range(3):
        nested = helper.make_node("If", ["c"], ["out"], then_branch=body, else_branch=body)
        body = helper.make_graph([nested], "body", [], [value])
    inputs = [
        helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
    ]
    graph = helper.make_graph(list(body.node), "nested", inputs, [value])
    found = statistics(load(models.save(tmp_path / "model.onnx", graph)))
    assert found.operators == {"If": 1}
    assert found.subgraph_operators == {"Neg": 8, "If": 6}


def test_functions_have_their_operators(tmp_path: Path) -> None:
    body = [helper.make_node("Add", ["a", "a"], ["t"]), helper.make_node("Relu", ["t"], ["b"])]
    function = helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Twice", ["x"], ["y"], domain="mine")], "g", value[:1], value[1:])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(
        helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8), tmp_path / "model.onnx"
    )
    found = statistics(load(tmp_path / "model.onnx"))
    assert found.functions == {"mine.Twice": {"Add": 1, "Relu": 1}}
    assert found.operators == {"mine.Twice": 1}


def test_weights_that_may_be_overridden_are_optional_inputs(tmp_path: Path) -> None:
    value = {name: models.floats(name, [2]) for name in ("x", "w", "y")}
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [value["x"], value["w"]],
        [value["y"]],
        [models.weight("w", 2)],
    )
    found = statistics(load(models.save(tmp_path / "model.onnx", graph)))
    assert [spec.name for spec in found.inputs] == ["x"]
    assert [spec.name for spec in found.optional_inputs] == ["w"]


def test_external_files_are_listed_with_their_sizes(tmp_path: Path) -> None:
    model = onnx.load(models.mlp(tmp_path / "inside.onnx"))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="model.data", size_threshold=0)
    found = statistics(load(tmp_path / "model.onnx"))
    assert [(file.location, file.exists) for file in found.files] == [("model.onnx", True), ("model.data", True)]
    assert found.files[1].size == (tmp_path / "model.data").stat().st_size
