"""Which nodes can be computed in parts, along which axis, and what the rewritten model holds."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.models import IR_VERSION, OPSET, conditional, floats, weight

import lamella
from lamella.errors import MalformedModelError, PlanError
from lamella.graph.inference import infer_values
from lamella.graph.model import Model
from lamella.graph.pieces import read_pieces
from lamella.graph.references import Range
from lamella.graph.splits import MOST_PARTS, Split, SplitAxis, splittable
from lamella.graph.splitting import split


def one_node(folder: Path, node: onnx.NodeProto, *weights: onnx.TensorProto, **changes: object) -> Model:
    """`x` FP32[batch, 64] through one node to `y`; `changes` are other inputs, outputs or versions."""
    graph = helper.make_graph(
        [node],
        "one node",
        changes.get("inputs", [floats("x", ["batch", 64])]),
        changes.get("outputs", [floats("y", None)]),
        weights,
    )
    opset, version = changes.get("opset", OPSET), changes.get("ir_version", IR_VERSION)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=version)
    onnx.save(model, folder / "m.onnx")
    return lamella.load(folder / "m.onnx")


def found(model: Model, index: int = 0) -> SplitAxis | str:
    return splittable(model, model.graph.nodes[index], infer_values(model))


def gemm(**attributes: int) -> onnx.NodeProto:
    return helper.make_node("Gemm", ["x", "w", "b"], ["y"], **attributes)


def test_rows_of_a_transposed_weight_lie_in_one_run_and_are_concatenated(tmp_path: Path) -> None:
    model = one_node(tmp_path, gemm(transB=1), weight("w", 32, 64), weight("b", 32))
    axis = found(model)
    assert isinstance(axis, SplitAxis)
    assert (axis.axis, axis.steps, axis.join, axis.contiguous) == (0, 32, "concat", True)
    whole = model.graph.initializers["w"].range
    parts = split(model, [Split(0, "w", 0, 3)]).model.graph.initializers
    assert whole is not None
    assert [parts[f"w.axis0.{a}-{b}"].range for a, b in ((0, 10), (10, 21), (21, 32))] == [
        Range("m.onnx", whole.offset + 256 * start, 256 * rows) for start, rows in ((0, 10), (10, 11), (21, 11))
    ]


@pytest.mark.parametrize(("inner", "outer", "axis"), [(64, 32, 0), (64, 64, 0), (64, 128, 1)])
def test_what_sends_fewer_bytes_between_slices_decides_where_rows_are_inputs(
    tmp_path: Path, inner: int, outer: int, axis: int
) -> None:
    model = one_node(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]), weight("w", inner, outer))
    best = found(model)
    assert isinstance(best, SplitAxis)
    assert best.axis == axis
    assert (best.join, best.contiguous) == (("sum", True) if axis == 0 else ("concat", False))


def test_columns_are_a_range_in_pieces(tmp_path: Path) -> None:
    model = one_node(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]), weight("w", 64, 128))
    parts = split(model, [Split(0, "w", 1, 4)]).model.graph.initializers
    whole, second = model.graph.initializers["w"].range, parts["w.axis1.32-64"].range
    assert whole is not None
    assert second == Range("m.onnx", whole.offset + 128, 64 * 128, piece=128, stride=512)


@pytest.mark.parametrize(
    ("rows", "stride", "start", "end"), [(20_000, 64, 16, 48), (3, 5 << 20, 1 << 20, 5 << 20), (7, 1 << 20, 1, 1000)]
)
def test_pieces_are_read_in_blocks(tmp_path: Path, rows: int, stride: int, start: int, end: int) -> None:
    whole = np.arange(rows * stride // 4, dtype=np.uint32).view(np.uint8).reshape(rows, stride)
    (tmp_path / "w").write_bytes(b"before" + whole.tobytes())
    place = Range("w", 6 + start, rows * (end - start), piece=end - start, stride=stride)
    with (tmp_path / "w").open("rb") as file:
        blocks = list(read_pieces(file.fileno(), place))
    assert b"".join(blocks) == whole[:, start:end].tobytes()
    assert max(map(len, blocks)) <= 4 << 20


def test_pieces_of_a_file_that_has_become_shorter_are_refused(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(bytes(100))
    with (tmp_path / "w").open("rb") as file, pytest.raises(MalformedModelError, match="ended while it was read"):
        list(read_pieces(file.fileno(), Range("w", 0, 40, piece=10, stride=40)))


def test_integers_are_never_added_in_parts(tmp_path: Path) -> None:
    table = numpy_helper.from_array(np.ones((64, 32), np.int32), "w")
    numbers = helper.make_tensor_value_info("x", TensorProto.INT32, ["batch", 64])
    output = helper.make_tensor_value_info("y", TensorProto.INT32, None)
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    axis = found(one_node(tmp_path, node, table, inputs=[numbers], outputs=[output]))
    assert isinstance(axis, SplitAxis)
    assert axis.join == "concat"


def test_groups_of_a_convolution_stay_together(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=4)
    model = one_node(tmp_path, node, weight("w", 20, 16, 3, 3), inputs=[floats("x", ["batch", 64, 8, 8])])
    axis = found(model)
    assert isinstance(axis, SplitAxis)
    assert axis.steps == 4
    assert [cut.step for cut in axis.cuts] == [5, 16]


def test_reasons_against_a_split(tmp_path: Path) -> None:
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    large = weight("w", 64, 64)
    varints = helper.make_tensor("w", TensorProto.INT32, [64, 64], range(64 * 64))
    numbers = helper.make_tensor_value_info("x", TensorProto.INT32, ["batch", 64])
    half_bytes = helper.make_tensor("w", TensorProto.INT4, [64, 64], bytes(64 * 32), raw=True)
    column = numpy_helper.from_array(np.ones((300, 1), np.int32), "w")
    reasons = {
        "unknown how parts of a `Relu`": one_node(tmp_path, helper.make_node("Relu", ["x"], ["y"])),
        "no weight as it is stored": one_node(tmp_path, helper.make_node("MatMul", ["x", "x"], ["y"])),
        "too small": one_node(tmp_path, matmul, weight("w", 64, 2)),
        "is an output": one_node(tmp_path, matmul, large, outputs=[floats("y", None), floats("w", [64, 64])]),
        "overridden": one_node(tmp_path, matmul, large, inputs=[floats("x", ["n", 64]), floats("w", [64, 64])]),
        "varying length": one_node(tmp_path, matmul, varints, inputs=[numbers]),
        "taken twice": one_node(tmp_path, helper.make_node("MatMul", ["w", "w"], ["y"]), large),
        "has no axis": one_node(tmp_path, matmul, column, inputs=[numbers]),
        "rules of its own": one_node(tmp_path, gemm(), large, weight("b", 64), opset=6),
        "no engine selects": one_node(tmp_path, helper.make_node("Gather", ["w", "x"], ["y"]), large, opset=8),
        "inner axis": one_node(tmp_path, helper.make_node("Gather", ["w", "x"], ["y"], axis=1), large),
        "several INT4 to a byte": one_node(tmp_path, matmul, half_bytes, opset=21, ir_version=10),
        "shape of its input `x` is not known": one_node(tmp_path, matmul, large, inputs=[floats("x", None)]),
    }
    for reason, model in reasons.items():
        assert reason in str(found(model)), reason


def test_a_weight_that_two_nodes_share_is_parted_once_and_stays_where_one_node_stays_whole(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", [x, "w"], [y]) for x, y in (("x", "h"), ("h", "y"))]
    graph = helper.make_graph(nodes, "tied", [floats("x", [1, 64])], [floats("y", [1, 64])], [weight("w", 64, 64)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), tmp_path / "m.onnx")
    model = lamella.load(tmp_path / "m.onnx")
    both = split(model, [Split(0, "w", 0, 2), Split(1, "w", 0, 2)]).model
    assert sorted(n for n in both.graph.initializers if n.startswith("w")) == ["w.axis0.0-32", "w.axis0.32-64"]
    one = split(model, [Split(1, "w", 0, 2)]).model
    assert "w" in one.graph.initializers
    assert both.weights_bytes < one.weights_bytes


def test_a_weight_that_a_branch_captures_stays(tmp_path: Path) -> None:
    model = lamella.load(conditional(tmp_path / "m.onnx", width=32))
    assert found(model, 0).__class__ is SplitAxis
    captured = model.graph.nodes[4]
    assert "unknown how parts of a `If`" in str(splittable(model, captured, infer_values(model)))


def test_new_names_are_free_and_new_nodes_know_where_they_come_from(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["y.part0"], doc_string="w.axis1.0-64"),
    ]
    graph = helper.make_graph(nodes, "names", [floats("x", [1, 64])], [floats("y.part0", None)], [weight("w", 64, 128)])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)]), tmp_path / "m.onnx")
    result = split(lamella.load(tmp_path / "m.onnx"), [Split(0, "w", 1, 2)])
    assert [node.outputs[0] for node in result.model.graph.nodes] == ["y.part0.2", "y.part1", "y", "y.part0"]
    assert result.origin == (0, 0, 0, 1)
    assert set(result.model.graph.initializers) == {"w.axis1.0-64.2", "w.axis1.64-128"}


def test_no_split_is_the_same_model(tmp_path: Path) -> None:
    model = one_node(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]), weight("w", 64, 64))
    assert split(model, []).model is model


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ([Split(7, "w", 0, 2)], "node 7 of 1"),
        ([Split(0, "v", 0, 2)], "along axis 0 of `v`"),
        ([Split(0, "w", 2, 2)], "along axis 2"),
        ([Split(0, "w", 0, 1)], "into 1 parts"),
        ([Split(0, "w", 0, 65)], "into 65 parts"),
        ([Split(0, "w", 0, 2), Split(0, "w", 1, 2)], "split twice"),
    ],
)
def test_splits_that_make_no_sense_are_refused(tmp_path: Path, wanted: list[Split], text: str) -> None:
    model = one_node(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]), weight("w", 64, 64))
    with pytest.raises(PlanError, match=text):
        split(model, wanted)


def test_no_node_comes_in_more_parts_than_a_plan_may_hold(tmp_path: Path) -> None:
    ids = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    node = helper.make_node("Gather", ["w", "x"], ["y"])
    model = one_node(tmp_path, node, weight("w", MOST_PARTS + 1, 1), inputs=[ids])
    with pytest.raises(PlanError, match="into 1025 parts"):
        split(model, [Split(0, "w", 0, MOST_PARTS + 1)])
