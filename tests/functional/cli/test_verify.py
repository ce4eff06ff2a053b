"""`lamella verify`."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from tests import models
from tests.functional.cli.conftest import Lamella

KEYS = {"ok", "outputs", "first_difference"}


@pytest.fixture
def slices(lamella: Lamella) -> Path:
    assert lamella("slice", "mlp.onnx", "--slices", "3", "--copy-weights", "-o", "mlp.slices").status == 0
    return Path("mlp.slices")


@pytest.fixture
def other(folder: Path) -> str:
    """The same model with one weight of its third layer changed."""
    model = onnx.load(folder / "mlp.onnx")
    for tensor in model.graph.initializer:
        if tensor.name == "w2":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), "w2"))
    onnx.save(model, folder / "other.onnx")
    return "other.onnx"


def test_equal_slices_are_ok(lamella: Lamella, slices: Path) -> None:
    result = lamella("verify", "mlp.onnx", str(slices), "--json")
    assert (result.status, result.err) == (0, "")
    shown = result.json
    assert shown["schema"] == "lamella.verify/1"
    assert shown.keys() >= KEYS
    assert (shown["ok"], shown["first_difference"]) == (True, None)
    assert shown["outputs"] == [{"name": "y", "datatype": "FP32", "ok": True, "max_abs_diff": 0.0, "max_rel_diff": 0.0}]


def test_difference_is_exit_status_1_and_names_the_first_slice_and_node(
    lamella: Lamella, slices: Path, other: str
) -> None:
    result = lamella("verify", other, str(slices), "--json")
    assert result.status == 1
    shown = result.json
    assert shown["ok"] is False
    assert shown["max_abs_diff"] > 0
    assert shown["first_difference"]["node"] == "MatMul 'matmul2'"
    assert shown["first_difference"]["output"]["name"] == "product2"
    assert result.err.startswith("error: output `y` differs from the whole model's by up to ")
    assert "MatMul 'matmul2'" in result.err


def test_table_says_which_output_differs(lamella: Lamella, slices: Path, other: str) -> None:
    result = lamella("verify", other, str(slices))
    assert result.status == 1
    assert result.out.splitlines()[1].split()[:3] == ["y", "FP32", "differs"]


def test_tolerance_is_the_users(lamella: Lamella, slices: Path, other: str) -> None:
    assert lamella("verify", other, str(slices), "--tolerance", "100").status == 0


def test_given_inputs_decide(lamella: Lamella, slices: Path, other: str) -> None:
    np.save("x.npy", np.zeros((2, 32), np.float32))
    result = lamella("verify", other, str(slices), "--input", "x=x.npy", "--json")
    assert result.json["max_abs_diff"] != lamella("verify", other, str(slices), "--json").json["max_abs_diff"]
    assert lamella("verify", "mlp.onnx", str(slices), "--input", "x=x.npy").status == 0


def test_slices_of_another_model_are_refused(lamella: Lamella, slices: Path, folder: Path) -> None:
    models.conditional(folder / "if.onnx", width=32)
    model = onnx.load("if.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = "z"
    onnx.save(model, "if.onnx")
    result = lamella("verify", "if.onnx", str(slices))
    assert result.status == 2
    assert "holds the slices of another model" in result.err


def test_model_is_no_slices_directory(lamella: Lamella) -> None:
    result = lamella("verify", "mlp.onnx", "mlp.onnx")
    assert result.status == 2
    assert "is no slices directory" in result.err
