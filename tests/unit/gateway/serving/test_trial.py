"""What is found out about a model before its requests are computed together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lamella
from lamella.gateway.serving.joining import joins
from lamella.gateway.serving.trial import Subject, Trial, try_out


def _model(
    path: Path, nodes: list[onnx.NodeProto], *, inputs: dict[str, list], outputs: dict[str, list], **weights: np.ndarray
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def _tried(path: Path, *, largest: int = 64, padding: bool = True) -> Trial:
    with lamella.Pipeline(path) as pipeline:
        subject = Subject(pipeline.infer, pipeline.inputs, pipeline.outputs, pipeline.index_bounds)
        return try_out(subject, largest=largest, padding=padding)


FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64
WEIGHTS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


def test_rows_that_do_not_know_each_other_are_computed_together(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = _model(
        tmp_path / "m.onnx", [node], inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 3])}, w=WEIGHTS
    )
    tried = _tried(path)
    assert (tried.layout.joins, tried.reason) == (True, "")
    assert tried.measured_ms is not None
    assert 1 in tried.measured_ms


def test_a_mean_over_the_batch_is_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ]
    path = _model(tmp_path / "m.onnx", nodes, inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 4])})
    tried = _tried(path)
    assert not tried.layout.joins
    assert tried.reason == "output `y` of a request depends on the others in its batch"


def test_dynamic_quantisation_over_all_rows_is_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    path = _model(tmp_path / "m.onnx", nodes, inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 4])})
    tried = _tried(path)
    assert not tried.layout.joins
    assert "depends on the others in its batch" in tried.reason


def test_whole_numbers_with_a_mean_over_the_batch_are_not(tmp_path: Path) -> None:
    """Made-up whole numbers are ones: two requests that are equal show nothing."""
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["f", "m"], ["y"]),
    ]
    path = _model(tmp_path / "m.onnx", nodes, inputs={"x": (INT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 4])})
    assert not _tried(path).layout.joins


@pytest.mark.parametrize("largest", [0, 1])
def test_rows_put_in_order_are_not(tmp_path: Path, largest: int) -> None:
    """Whichever of two requests comes first, by chance they may be in order already."""
    nodes = [helper.make_node("TopK", ["x", "k"], ["y", "i"], axis=0, largest=largest)]
    nodes.insert(0, helper.make_node("Shape", ["x"], ["k"], start=0, end=1))
    path = _model(tmp_path / "m.onnx", nodes, inputs={"x": (FLOAT, ["n", 1])}, outputs={"y": (FLOAT, ["n", 1])})
    assert not _tried(path).layout.joins


def test_a_table_among_the_inputs_is_not(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    path = _model(
        tmp_path / "m.onnx",
        [node],
        inputs={"table": (FLOAT, ["m", 3]), "ids": (INT, ["n"])},
        outputs={"y": (FLOAT, ["n", 3])},
    )
    assert not _tried(path).layout.joins


def test_requests_with_a_weight_of_their_own_are_not(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = _model(
        tmp_path / "m.onnx", [node], inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 3])}, w=WEIGHTS
    )
    layout = _tried(path).layout
    x = np.ones((4, 4), np.float32)
    assert joins(layout.key({"x": x}))
    assert not joins(layout.key({"x": x, "w": WEIGHTS}))


def test_a_size_that_fails_ends_the_measuring_and_no_more(tmp_path: Path) -> None:
    """A table of positions as long as the largest batch that the model can take."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"], start=0, end=1),
        helper.make_node("Slice", ["positions", "zero", "n"], ["some"]),
        helper.make_node("Mul", ["some", "nothing"], ["none"]),
        helper.make_node("Add", ["x", "none"], ["y"]),
    ]
    path = _model(
        tmp_path / "m.onnx",
        nodes,
        inputs={"x": (FLOAT, ["n", 4])},
        outputs={"y": (FLOAT, ["n", 4])},
        positions=np.ones((6, 4), np.float32),
        zero=np.array([0]),
        nothing=np.zeros(1, np.float32),
    )
    tried = _tried(path)
    assert tried.layout.joins
    assert tried.measured_ms is not None
    assert set(tried.measured_ms) <= {1, 2, 4}


def test_a_fixed_batch_is_not(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = _model(tmp_path / "m.onnx", [node], inputs={"x": (FLOAT, [1, 4])}, outputs={"y": (FLOAT, [1, 3])}, w=WEIGHTS)
    assert _tried(path).reason == "the first dimension of input `x` takes no other number of rows"


def test_an_output_without_rows_is_not(tmp_path: Path) -> None:
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    path = _model(tmp_path / "m.onnx", [node], inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["a", "b"])})
    assert _tried(path).reason == "output `y` has no row for each row of a request"


def test_nothing_is_tried_where_one_row_is_the_most(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    path = _model(
        tmp_path / "m.onnx", [node], inputs={"x": (FLOAT, ["n", 4])}, outputs={"y": (FLOAT, ["n", 3])}, w=WEIGHTS
    )
    assert _tried(path, largest=1) == Trial(_tried(path, largest=1).layout)


def _text_model(path: Path, *, masked: bool) -> Path:
    """Embeddings, summed over the words that the mask leaves, or over all; and the embeddings themselves."""
    table = np.random.default_rng(1).standard_normal((50, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["m"], to=FLOAT),
        helper.make_node("Unsqueeze", ["m", "last"], ["mask"]),
        helper.make_node("Mul", ["words", "mask"], ["left"]),
        helper.make_node("ReduceSum", ["left" if masked else "words", "axis"], ["sum"], keepdims=0),
        helper.make_node("Identity", ["words"], ["tokens"]),
    ]
    return _model(
        path,
        nodes,
        inputs={"input_ids": (INT, ["n", "length"]), "attention_mask": (INT, ["n", "length"])},
        outputs={"sum": (FLOAT, ["n", 4]), "tokens": (FLOAT, ["n", "length", 4])},
        table=table,
        last=np.array([-1]),
        axis=np.array([1]),
    )


def test_texts_are_padded_where_a_mask_leaves_the_padding_out(tmp_path: Path) -> None:
    tried = _tried(_text_model(tmp_path / "m.onnx", masked=True))
    assert tried.layout.padded == {"input_ids", "attention_mask"}
    assert tried.layout.cropped == {"tokens"}


def test_texts_are_not_padded_where_padding_counts(tmp_path: Path) -> None:
    tried = _tried(_text_model(tmp_path / "m.onnx", masked=False))
    assert tried.layout.joins
    assert not tried.layout.padded
    assert tried.reason == "texts of different lengths are not put together: output `sum` depends on the padding"


def test_texts_are_not_padded_where_nobody_wants_it(tmp_path: Path) -> None:
    assert not _tried(_text_model(tmp_path / "m.onnx", masked=True), padding=False).layout.padded
