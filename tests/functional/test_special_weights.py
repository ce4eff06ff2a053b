"""Weights wherever ONNX lets them lie, each in a small real model: slices equal the whole."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.conformance.whole import same
from tests.functional.special_models import LARGE, assert_slices_equal, floats, saved, tensor, weight

import lamella


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model" / "model.onnx"


def test_weights_inside_branches_are_referred_to_also_as_typed_fields(path: Path) -> None:
    typed = helper.make_tensor("t", TensorProto.INT32, [LARGE, LARGE], range(LARGE * LARGE))
    constant = helper.make_node("Constant", [], ["c"], value=weight("", LARGE, LARGE))
    then = helper.make_graph([constant, helper.make_node("MatMul", ["h", "c"], ["a"])], "then", [], [tensor("a")])
    other = helper.make_graph(
        [helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT), helper.make_node("MatMul", ["h", "f"], ["b"])],
        "else",
        [],
        [tensor("b")],
        [typed],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("If", ["first"], ["y"], then_branch=then, else_branch=other),
        helper.make_node("Neg", ["y"], ["z"]),
    ]
    first = tensor("first", TensorProto.BOOL, [])
    saved(path, nodes, [tensor("x", shape=["n", LARGE]), first], [tensor("z")])
    for decision in (True, False):
        assert_slices_equal(path, {"x": floats(2, LARGE), "first": np.array(decision)}, at_least=3)
    assert sum(part.stat().st_size for part in path.parent.parent.glob("3-False.slices/*.onnx")) < 3000


def test_sparse_initializers_stay_sparse(path: Path) -> None:
    values = numpy_helper.from_array(floats(400), "w")
    indices = numpy_helper.from_array(np.sort(np.random.default_rng(3).permutation(LARGE * LARGE)[:400]), "")
    sparse = helper.make_sparse_tensor(values, indices, [LARGE, LARGE])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
    ]
    saved(path, nodes, [tensor("x", shape=["n", LARGE])], [tensor("y")], sparse=[sparse])
    assert_slices_equal(path, {"x": floats(3, LARGE)}, at_least=3)
    part = onnx.load(path.parent.parent / "3-True.slices" / "slice_000.onnx", load_external_data=False)
    assert len(part.graph.sparse_initializer) == 1


@pytest.mark.parametrize(
    ("dtype", "field"),
    [
        ("float32", "float_data"),
        ("float64", "double_data"),
        ("int64", "int64_data"),
        ("uint64", "uint64_data"),
        ("uint32", "uint64_data"),
        ("int32", "int32_data"),
        ("int16", "int32_data"),
        ("int8", "int32_data"),
        ("uint8", "int32_data"),
        ("float16", "int32_data"),
        ("bool", "int32_data"),
    ],
)
def test_weights_in_typed_fields(path: Path, dtype: str, field: str) -> None:
    values = np.random.default_rng(6).integers(0 if dtype.startswith("u") else -100, 100, (64, 64)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(values.dtype)
    typed = onnx.TensorProto(name="w", data_type=kind, dims=values.shape)
    numbers = values.view({"float16": np.uint16, "bool": np.uint8}.get(dtype, values.dtype))
    getattr(typed, field).extend(numbers.ravel().tolist())
    nodes = [
        helper.make_node("Gather", ["w", "rows"], ["a"]),
        helper.make_node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("Gather", ["w", "rows"], ["b"]),
        helper.make_node("Cast", ["b"], ["g"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["r", "g"], ["y"]),
    ]
    saved(path, nodes, [tensor("rows", TensorProto.INT64, ["n"])], [tensor("y")], [typed])
    found = assert_slices_equal(path, {"rows": np.array([0, 63, 7])}, at_least=4)
    expected = values[[0, 63, 7]].astype(np.float32)
    assert np.array_equal(found["y"], np.maximum(expected, 0) * expected)


@pytest.mark.parametrize(
    ("kind", "per_number"), [(TensorProto.INT4, 2), (TensorProto.FLOAT8E4M3FN, 1), (TensorProto.BFLOAT16, 1)]
)
def test_small_types_in_typed_fields(path: Path, kind: int, per_number: int) -> None:
    values = floats(64, 64).astype(helper.tensor_dtype_to_np_dtype(kind))
    raw = numpy_helper.from_array(values).raw_data
    typed = onnx.TensorProto(name="w", data_type=kind, dims=values.shape)
    typed.int32_data.extend(np.frombuffer(raw, np.uint16 if kind == TensorProto.BFLOAT16 else np.uint8).tolist())
    assert len(typed.int32_data) * per_number == values.size
    make = "Cast" if kind == TensorProto.BFLOAT16 else "DequantizeLinear"
    inputs, attributes = (["w"], {"to": TensorProto.FLOAT}) if make == "Cast" else (["w", "s"], {})
    nodes = [
        helper.make_node(make, inputs, ["f"], **attributes),
        helper.make_node("MatMul", ["x", "f"], ["h"]),
        helper.make_node("MatMul", ["h", "f"], ["y"]),
    ]
    weights = [typed, numpy_helper.from_array(np.float32(1), "s")]
    saved(path, nodes, [tensor("x", shape=["n", 64])], [tensor("y")], weights)
    found = assert_slices_equal(path, {"x": floats(2, 64)})
    wide = values.astype(np.float32)
    assert np.allclose(found["y"], floats(2, 64) @ wide @ wide, rtol=1e-3, atol=1e-2)


def external(path: Path, location: str) -> None:
    """Three matrices one after the other, whose weights lie at `location`."""
    nodes = [helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(3)]
    saved(
        path,
        nodes,
        [tensor("h0", shape=["n", LARGE])],
        [tensor("h3")],
        [weight(f"w{i}", LARGE, LARGE) for i in range(3)],
    )
    (path.parent / location).parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(path), path, save_as_external_data=True, location=location, size_threshold=0)


def test_external_data_in_a_subfolder(path: Path) -> None:
    external(path, "weights/deep/model.data")
    assert_slices_equal(path, {"h0": floats(2, LARGE)}, at_least=3)
    data = path.parent.parent / "3-False.slices" / "weights" / "deep" / "model.data"
    assert data.samefile(path.parent / "weights" / "deep" / "model.data")


def test_hugging_face_cache_where_model_and_data_are_links_into_one_store(path: Path) -> None:
    external(path, "model.onnx_data")
    blobs, snapshot = path.parents[1] / "cache" / "blobs", path.parents[1] / "cache" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for name, digest in (("model.onnx", "aaaa"), ("model.onnx_data", "bbbb")):
        (path.parent / name).rename(blobs / digest)
        (snapshot / name).symlink_to(os.path.relpath(blobs / digest, snapshot))
    model = lamella.load(snapshot / "model.onnx")
    feeds = {"h0": floats(2, LARGE)}
    with lamella.Pipeline(snapshot / "model.onnx", optimization="none", threads=1) as pipeline:
        whole = pipeline.infer(feeds)
    for copy_weights in (False, True):
        directory = path.parents[1] / f"{copy_weights}.slices"
        lamella.slice(model, directory, slices=3, copy_weights=copy_weights, inputs=feeds)
        with lamella.Pipeline(directory, optimization="none", threads=1) as pipeline:
            assert same(whole["h3"], pipeline.infer(feeds)["h3"])
    expected = feeds["h0"]
    for i in range(3):
        expected = expected @ numpy_helper.to_array(weight(f"w{i}", LARGE, LARGE))
    assert np.allclose(whole["h3"], expected, rtol=1e-4, atol=1e-2)


def test_large_tensors_in_attributes(path: Path) -> None:
    keys = np.arange(300, dtype=np.int64)
    tensors = {
        "keys_tensor": numpy_helper.from_array(keys),
        "values_tensor": numpy_helper.from_array((keys * 3).astype(np.int64)),
        "default_tensor": numpy_helper.from_array(np.array([-1], np.int64)),
    }
    nodes = [
        helper.make_node("LabelEncoder", ["x"], ["e"], domain="ai.onnx.ml", **tensors),
        helper.make_node("Neg", ["e"], ["y"]),
    ]
    number = TensorProto.INT64
    saved(path, nodes, [tensor("x", number, ["n"])], [tensor("y", number, ["n"])], domains={"ai.onnx.ml": 4})
    found = assert_slices_equal(path, {"x": np.array([5, 299, 300])})
    assert np.array_equal(found["y"], [-15, -897, 1])
