"""INT8 weights beyond seven bits, where they meet UINT8 activations, are found by their values."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models
from tests.unit.checking.conftest import Settings

from lamella.checking.report import Check
from lamella.checking.saturation import saturation_check
from lamella.checking.subject import Subject
from lamella.graph import load


def weights(largest: int, *, shape: tuple[int, int] = (64, 64), dtype: Any = np.int8) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).integers(-20, 20, shape).astype(np.int8)
    values.flat[1234 % values.size] = -largest
    return values.astype(dtype)


def matmul_integer(path: Path, weight: Any, *, activation: int = TensorProto.UINT8, raw: bool = True) -> Path:
    stored = numpy_helper.from_array(weight, "w")
    if not raw:
        stored = helper.make_tensor("w", stored.data_type, weight.shape, weight.ravel().tolist())
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"], "product")],
        "quantised",
        [helper.make_tensor_value_info("x", activation, ["batch", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, ["batch", weight.shape[1]])],
        [stored],
    )
    return models.save(path, graph)


def qdq(path: Path, weight: Any) -> Path:
    scalars = {"scale": np.float32(0.1), "zero": np.uint8(128), "wscale": np.float32(0.05), "wzero": np.int8(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "wscale", "wzero"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"], "folded"),
    ]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in scalars.items()]
    initializers.append(numpy_helper.from_array(weight, "w"))
    inputs = [models.floats("x", ["batch", weight.shape[0]])]
    outputs = [models.floats("y", ["batch", weight.shape[1]])]
    return models.save(path, helper.make_graph(nodes, "qdq", inputs, outputs, initializers))


def found(setting: Settings, path: Path, architecture: str = "x86_64") -> Check | None:
    subject = Subject(load(path), None, {}, ())
    return next(saturation_check(setting(architecture=architecture), subject), None)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize(("largest", "verdict"), [(64, "ok"), (65, "warning"), (128, "warning")])
def test_the_values_of_the_weights_decide(
    tmp_path: Path, setting: Settings, largest: int, verdict: str, raw: bool
) -> None:
    check = found(setting, matmul_integer(tmp_path / "q.onnx", weights(largest), raw=raw))
    assert check is not None
    assert (check.value, check.allowed, check.verdict) == (largest, 64, verdict)
    assert (check.hint is None) == (verdict == "ok")
    if verdict == "warning":
        assert check.detail is not None
        assert "MatMulInteger 'product'" in check.detail


def test_other_processors_are_named_where_the_platform_has_them(tmp_path: Path, setting: Settings) -> None:
    where, part = setting(), Subject(load(matmul_integer(tmp_path / "q.onnx", weights(127))), None, {}, ())
    alone = replace(where, platform=replace(where.platform, architectures=("x86_64",)))
    hints = [next(saturation_check(each, part)).hint or "" for each in (where, alone)]
    assert ["choose arm64" in hint for hint in hints] == [True, False]


def test_small_weights_inside_the_structure_are_read_too(tmp_path: Path, setting: Settings) -> None:
    check = found(setting, matmul_integer(tmp_path / "q.onnx", weights(127, shape=(8, 8))))
    assert check is not None
    assert check.value == 127


def test_dequantised_operands_count_as_quantised_operators(tmp_path: Path, setting: Settings) -> None:
    check = found(setting, qdq(tmp_path / "qdq.onnx", weights(127)))
    assert check is not None
    assert check.verdict == "warning"
    assert check.detail is not None
    assert "MatMul 'folded'" in check.detail


def test_nothing_is_said_where_nothing_can_overflow(tmp_path: Path, setting: Settings) -> None:
    full = matmul_integer(tmp_path / "full.onnx", weights(127))
    assert found(setting, full, "arm64") is None
    signed = matmul_integer(tmp_path / "signed.onnx", weights(127), activation=TensorProto.INT8)
    assert found(setting, signed) is None
    unsigned = matmul_integer(tmp_path / "unsigned.onnx", np.full((64, 64), 250, np.uint8))
    assert found(setting, unsigned) is None
    assert found(setting, models.mlp(tmp_path / "mlp.onnx")) is None


def test_weights_that_are_no_initializer_are_a_warning(tmp_path: Path, setting: Settings) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "dynamic",
        [
            helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 8]),
            helper.make_tensor_value_info("w", TensorProto.INT8, [8, 8]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 8])],
    )
    check = found(setting, models.save(tmp_path / "dynamic.onnx", graph))
    assert check is not None
    assert (check.value, check.verdict) == (None, "warning")
