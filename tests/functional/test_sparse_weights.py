"""Sparse initializers above 1 KiB, whose values and indices lie in raw or in typed fields."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lamella

COUNT = 2000


@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("copy_weights", [False, True])
def test_sparse_weights_are_sliced(tmp_path: Path, is_raw: bool, copy_weights: bool) -> None:
    numbers, places = np.arange(COUNT, dtype=np.float32), np.arange(0, 2 * COUNT, 2, dtype=np.int64)
    values = helper.make_tensor("w", TensorProto.FLOAT, [COUNT], numbers.tobytes() if is_raw else numbers, raw=is_raw)
    indices = helper.make_tensor("", TensorProto.INT64, [COUNT], places.tobytes() if is_raw else places, raw=is_raw)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "sparse",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2 * COUNT])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2 * COUNT])],
        sparse_initializer=[helper.make_sparse_tensor(values, indices, [2 * COUNT])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "model.onnx")
    sliced = lamella.slice(
        lamella.load(tmp_path / "model.onnx"), tmp_path / "slices", slices=2, copy_weights=copy_weights
    )
    assert sliced.verification is not None
    assert sliced.verification.ok
    with lamella.Pipeline(tmp_path / "slices") as pipeline:
        found = pipeline.infer({"x": np.zeros(2 * COUNT, np.float32)})["y"]
    np.testing.assert_array_equal(found[::2], numbers)
