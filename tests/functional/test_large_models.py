"""Size does not matter: files that hold more than memory should, most of it holes that no reader may touch."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import lamella
from lamella.graph.protobuf import encode_int, encode_varint, len_prefix
from lamella.graph.schema import Graph, Model, Tensor

ROWS, WIDTH = 3_000_000, 256
TABLE_BYTES = ROWS * WIDTH * 4


def graph_without_table() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Relu", ["rows"], ["positive"]),
        helper.make_node("ReduceSum", ["positive"], ["total"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])]
    outputs = [helper.make_tensor_value_info("total", TensorProto.FLOAT, [])]
    graph = helper.make_graph(nodes, "lookup", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def three_gigabytes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One `.onnx` file with a 3 GB table inside: a hole in the file, but for its last row."""
    path = tmp_path_factory.mktemp("large") / "lookup.onnx"
    model = graph_without_table()
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    tensor = b"".join(encode_int(Tensor.DIMS, dim) for dim in (ROWS, WIDTH)) + encode_int(Tensor.DATA_TYPE, 1)
    tensor += encode_varint(Tensor.NAME << 3 | 2) + b"\x05table" + len_prefix(Tensor.RAW_DATA, TABLE_BYTES)
    initializer = len_prefix(Graph.INITIALIZER, len(tensor) + TABLE_BYTES) + tensor
    start = model.SerializeToString() + len_prefix(Model.GRAPH, len(graph) + len(initializer) + TABLE_BYTES)
    with path.open("wb") as file:
        file.write(start + graph + initializer)
        file.seek(TABLE_BYTES - WIDTH * 4, os.SEEK_CUR)
        file.write(np.ones(WIDTH, "f4").tobytes())
    return path


def test_a_file_above_two_gigabytes_is_sliced_and_run_by_reference(three_gigabytes: Path, tmp_path: Path) -> None:
    model = lamella.load(three_gigabytes)
    assert model.weights_bytes == TABLE_BYTES
    sliced = lamella.slice(model, tmp_path / "slices", slices=3, verify=False)
    ids = np.array([0, ROWS - 1, ROWS // 2], np.int64)
    for low_memory in (False, True):
        with lamella.Pipeline(sliced, low_memory=low_memory) as pipeline:
            assert pipeline.infer({"ids": ids})["total"] == WIDTH


def peak_above_imports(arguments: str) -> int:
    """Peak memory of a call in a fresh process, above what its imports take."""
    code = f"""
import lamella, numpy, onnx.shape_inference
import lamella.graph, lamella.planner, lamella.slicing
from lamella.runtime.memory import peak_rss_bytes
before = peak_rss_bytes()
{arguments}
print(peak_rss_bytes() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_memory_does_not_grow_with_the_weights(three_gigabytes: Path, tmp_path: Path) -> None:
    limit = 25_000_000
    assert peak_above_imports(f"lamella.load({str(three_gigabytes)!r})") < limit
    sliced = f"lamella.slice(lamella.load({str(three_gigabytes)!r}), {str(tmp_path / 's')!r}, slices=3, verify=False)"
    assert peak_above_imports(sliced) < limit


def test_thousands_of_initializers_are_found(tmp_path: Path) -> None:
    count = 5000
    weights = [
        helper.make_tensor(f"w{i}", TensorProto.FLOAT, [512], np.full(512, 1, "f4").tobytes(), raw=True)
        for i in range(count)
    ]
    nodes = [helper.make_node("Add", [f"h{i}", f"w{i}"], [f"h{i + 1}"]) for i in range(count)]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [512]) for name in ("h0", f"h{count}")]
    model = helper.make_model(
        helper.make_graph(nodes, "sum", value[:1], value[1:], weights),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    path = tmp_path / "many.onnx"
    onnx.save(model, path)
    loaded = lamella.load(path)
    assert len(loaded.graph.initializers) == count
    raw = path.read_bytes()
    for weight in loaded.graph.initializers.values():
        assert weight.range is not None
        assert raw[weight.range.offset : weight.range.offset + 2048] == np.full(512, 1, "f4").tobytes()
    planned = lamella.plan(loaded, slices=7)
    assert {part.weights_bytes // 2048 for part in planned.slices} <= set(range(500, 850))
