"""Slices as packages hold them: with their own weights in one file, wherever these lay before."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tests import models

import lamella
from lamella.errors import SlicesError, UnsafeModelError
from lamella.packaging.slice_files import SliceFiles, read_slice
from lamella.workflow.manifest import SliceEntry, read_manifest


def entry_of(path: Path, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",)) -> SliceEntry:
    data = path.read_bytes()
    return SliceEntry(0, path.name, len(data), hashlib.sha256(data).hexdigest(), inputs, outputs, (), 1, 0, 128, ())


def written(part: SliceFiles, folder: Path) -> Path:
    folder.mkdir()
    (folder / part.name).write_bytes(part.data)
    if part.weights is not None:
        part.weights.write(folder / part.weights.name)
    return folder / part.name


def test_references_and_copies_become_the_same_files(tmp_path: Path) -> None:
    model = models.mlp(tmp_path / "mlp.onnx", width=40)
    found = []
    for copy_weights in (False, True):
        directory = tmp_path / f"slices-{copy_weights}"
        lamella.slice(model, directory, slices=3, copy_weights=copy_weights, verify=False)
        found.append([read_slice(directory, entry) for entry in read_manifest(directory).slices])
    for referring, copied in zip(*found, strict=True):
        assert referring.weights is not None
        assert copied.weights is not None
        assert referring.data == copied.data
        assert referring.weights.sha256 == copied.weights.sha256
        assert referring.tensors == copied.tensors


def test_weights_inside_of_a_slice_file_are_gathered_too(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx", width=40)
    part = read_slice(tmp_path, entry_of(path))
    assert len(part.data) < path.stat().st_size / 4
    moved = written(part, tmp_path / "moved")
    inputs = {"x": np.ones((2, 40), np.float32)}
    with lamella.Pipeline(path) as whole, lamella.Pipeline(moved) as other:
        np.testing.assert_array_equal(whole.infer(inputs)["y"], other.infer(inputs)["y"])
    assert {weight.name for weight in part.tensors} == {"w0", "w1", "w2", "w3"}
    assert part.inputs[0].shape == ("batch", 40)


def test_a_weight_that_is_used_under_two_names_is_there_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "v"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    weights = [models.weight("v", 32, 32), models.weight("w", 32, 32)]
    graph = helper.make_graph(nodes, "tied", [models.floats("x", [1, 32])], [models.floats("y", [1, 32])], weights)
    path = models.save(tmp_path / "tied.onnx", graph)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="tied.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    first, second = model.graph.initializer
    del second.external_data[:]
    second.external_data.extend(first.external_data)
    path.write_bytes(model.SerializeToString())
    part = read_slice(tmp_path, entry_of(path))
    assert part.weights is not None
    assert part.weights.size == 32 * 32 * 4
    assert [(weight.name, weight.offset) for weight in part.tensors] == [("v", 0), ("w", 0)]


def test_a_slice_without_large_weights_has_no_file(tmp_path: Path) -> None:
    path = models.strings(tmp_path / "strings.onnx")
    part = read_slice(tmp_path, entry_of(path, ("words",), ("names", "squares")))
    assert part.weights is None
    assert part.tensors == ()
    assert [spec.datatype for spec in part.specs] == ["BYTES", "BYTES", "INT64"]


def test_weights_that_no_slicing_writes_are_refused(tmp_path: Path) -> None:
    typed = helper.make_tensor("w", TensorProto.INT64, [40, 40], range(1600))
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, 40]) for name in ("x", "y")]
    path = models.save(tmp_path / "typed.onnx", helper.make_graph([node], "typed", values[:1], values[1:], [typed]))
    with pytest.raises(SlicesError, match=r"tensor `w` of `.*` is stored as no slicing stores it"):
        read_slice(tmp_path, entry_of(path))


def test_weights_outside_of_the_directory_are_refused(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx", layers=1, width=40)
    model = onnx.load(path)
    (tmp_path / "slices").mkdir()
    onnx.save(model, tmp_path / "slices" / "s.onnx", save_as_external_data=True, location="w.data", size_threshold=0)
    data = (tmp_path / "slices" / "s.onnx").read_bytes().replace(b"w.data", b"../w.d")
    (tmp_path / "slices" / "s.onnx").write_bytes(data)
    (tmp_path / "slices" / "w.data").rename(tmp_path / "w.d")
    with pytest.raises(UnsafeModelError):
        read_slice(tmp_path / "slices", entry_of(tmp_path / "slices" / "s.onnx"))


def test_a_name_that_the_slice_file_lacks_is_refused(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    with pytest.raises(SlicesError, match=r"mlp\.onnx` has no input or output `z`"):
        read_slice(tmp_path, entry_of(path, outputs=("z",)))
