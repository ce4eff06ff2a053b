"""`lamella inspect`."""

from pathlib import Path

import onnx
from onnx import helper
from tests import models
from tests.functional.cli.conftest import Lamella


def test_json_has_the_keys_of_the_contract(lamella: Lamella) -> None:
    result = lamella("inspect", "mlp.onnx", "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.inspect/1"
    assert shown["parameters"] == 4 * (32 * 32 + 32)
    assert shown["weights_bytes"] == 4 * shown["parameters"]
    assert shown["nodes"] == 12 == sum(shown["operators"].values())
    assert shown["opset_imports"] == {"": 17}
    assert shown["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["batch", 32]}]
    assert shown["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["batch", 32]}]
    assert shown["operators"] == {"Add": 4, "MatMul": 4, "Relu": 4}
    assert shown["ir_version"] == 8
    assert shown["producer"] == "tests"
    assert shown["files"][0] == {"location": "mlp.onnx", "size": Path("mlp.onnx").stat().st_size, "exists": True}


def test_tables_show_the_same_to_people(lamella: Lamella, folder: Path) -> None:
    models.conditional(folder / "if.onnx")
    result = lamella("inspect", "if.onnx")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:3] == ["model       if.onnx", "producer    tests", "IR version  8"]
    assert "parameters  513" in lines
    assert "x      FP32      [batch, 16]" in lines
    assert lines[lines.index("operator in a subgraph  nodes") + 1 :] == [
        "Add                         1",
        "MatMul                      1",
        "Neg                         1",
    ]
    assert "\x1b" not in result.out


def test_names_in_a_model_reach_the_terminal_as_escapes(lamella: Lamella, folder: Path) -> None:
    name = "x\x1b[31m\n"
    graph = helper.make_graph(
        [helper.make_node("Neg", [name], ["y"])], "g", [models.floats(name, [1])], [models.floats("y", [1])]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "odd.onnx")
    assert "\nx\\x1b[31m\\n  FP32" in lamella("inspect", "odd.onnx").out
    assert lamella("inspect", "odd.onnx", "--json").json["inputs"][0]["name"] == name
