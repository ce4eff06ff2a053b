"""What operators compute and move."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models

from lamella.graph.reader import load
from lamella.planner.flops import Attributes, Call, Shape, flops_of
from lamella.planner.sizes import value_sizes
from lamella.planner.work import WEIGHTS_SLOWDOWN, Work, tables, works_of


def works(path: Path, **dims: int) -> list[Work]:
    model = load(path)
    sizes, values = value_sizes(model, dims=dims)
    return works_of(model, values, dims, sizes=sizes)


def calls(op: str, inputs: list[Shape | None], output: Shape | None, **attributes: int | str | tuple[int, ...]) -> int:
    given: Attributes = attributes
    return flops_of(Call(op, inputs, [output], given))


@pytest.mark.parametrize(
    ("op", "inputs", "output", "expected"),
    [
        # 3x3 filters over 16 of 32 channels (two groups), 64 filters, 10x10 outputs
        ("Conv", [(1, 32, 12, 12), (64, 16, 3, 3)], (1, 64, 10, 10), 2 * 64 * 100 * 16 * 9),
        ("QLinearConv", [(1, 32, 12, 12), (), (), (64, 32, 3, 3)], (1, 64, 10, 10), 2 * 64 * 100 * 32 * 9),
        ("ConvTranspose", [(1, 8, 5, 5), (8, 4, 2, 2)], (1, 4, 10, 10), 2 * 8 * 25 * 4 * 4),
        ("MatMul", [(3, 5, 7), (7, 11)], (3, 5, 11), 2 * 3 * 5 * 7 * 11),
        ("MatMul", [(7,), (7, 11)], (11,), 2 * 7 * 11),
        ("MatMulNBits", [(3, 5, 7), (11, 1, 4)], (3, 5, 11), 2 * 3 * 5 * 7 * 11),
        ("QLinearMatMul", [(5, 7), (), (), (7, 11)], (5, 11), 2 * 5 * 7 * 11),
        # two directions, hidden size 6, inputs of 4: W [2, 24, 4], R [2, 24, 6]; 10 steps of a batch of 3
        ("LSTM", [(10, 3, 4), (2, 24, 4), (2, 24, 6)], (10, 2, 3, 6), 2 * 30 * (2 * 24 * 4 + 2 * 24 * 6)),
        # 16 queries meet 16 keys of width 8, after the projections to 24
        ("Attention", [(1, 16, 8), (8, 24)], (1, 16, 8), 2 * 16 * 8 * 24 + 4 * 16 * 16 * 8),
        ("Attention", [(1, 2, 5, 4), (1, 2, 9, 4), (1, 2, 9, 4)], (1, 2, 5, 4), 4 * 2 * 5 * 4 * 9),
        ("MultiHeadAttention", [(1, 5, 8), (1, 9, 8), (1, 9, 8)], (1, 5, 8), 4 * 5 * 8 * 9),
        ("ReduceMean", [(4, 6)], (4, 1), 24),
        ("GlobalAveragePool", [(1, 3, 7, 7)], (1, 3, 1, 1), 147),
        ("Softmax", [(4, 6)], (4, 6), 5 * 24),
        ("LayerNormalization", [(4, 6), (6,)], (4, 6), 8 * 24),
        ("Erf", [(4, 6)], (4, 6), 20 * 24),
        ("Add", [(4, 6), (6,)], (4, 6), 24),
        ("Transpose", [(4, 6)], (6, 4), 0),
        ("Conv", [(1, 32, 12, 12), None], (1, 64, 10, 10), 0),
        ("MatMul", [(5, 7), (7, 11)], None, 0),
        ("Gemm", [(), (7, 11)], (5, 11), 0),
    ],
)
def test_operations_of_an_operator(op: str, inputs: list[Shape | None], output: Shape | None, expected: int) -> None:
    assert calls(op, inputs, output) == expected


def test_attributes_count() -> None:
    assert calls("Gemm", [(7, 5), (7, 11)], (5, 11), transA=1) == 2 * 5 * 7 * 11
    assert calls("MaxPool", [(1, 3, 8, 8)], (1, 3, 4, 4), kernel_shape=(2, 3)) == 3 * 16 * 6
    assert calls("Einsum", [(2, 3, 5), (5, 7)], (2, 3, 7), equation="bik, kj -> bij") == 2 * 2 * 3 * 5 * 7
    assert calls("Einsum", [(2, 3, 5), (2, 5, 7)], (2, 3, 7), equation="...ik,...kj") == 2 * 2 * 3 * 5 * 7


def test_kept_keys_are_met_too() -> None:
    queries, keys, past = (1, 1, 8), (1, 1, 8), (1, 2, 15, 4)
    assert calls("GroupQueryAttention", [queries, keys, keys, past, past], queries) == 4 * 16 * 8


def test_a_model_moves_inputs_weights_and_outputs_once(tmp_path: Path) -> None:
    found = works(models.mlp(tmp_path / "mlp.onnx", layers=2, width=32), batch=3)
    row = 3 * 32 * 4
    product, shifted, positive = (
        Work(2 * 3 * 32 * 32, 2 * row + 32 * 32 * 4, 32 * 32 * 4),
        Work(3 * 32, 2 * row + 32 * 4, 32 * 4),
        Work(3 * 32, 2 * row),
    )
    assert found == [product, shifted, positive] * 2


def test_views_move_nothing_and_a_square_reads_its_input_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["squares"]),
        helper.make_node("Flatten", ["squares"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [models.floats("x", [2, 3, 4])], [models.floats("y", [2, 12])])
    assert works(models.save(tmp_path / "m.onnx", graph)) == [Work(24, 2 * 96), Work(0, 0)]


def test_a_lookup_moves_its_rows_and_not_its_table(tmp_path: Path) -> None:
    gather = works(models.lookup(tmp_path / "m.onnx", rows=5000, width=8), batch=2, sequence=3)[0]
    assert gather == Work(0, 2 * (2 * 3 * 8 * 4) + 2 * 3 * 8)


def test_bodies_count_once_each(tmp_path: Path) -> None:
    choice = works(models.conditional(tmp_path / "m.onnx", width=16), batch=3)[4]
    row, weight = 3 * 16 * 4, 16 * 16 * 4
    # then: a product whose result no one declares, and an addition; else: a negation
    assert choice == Work(3 * 16 + 3 * 16, (row + weight) + 2 * row + 2 * row, weight)


def test_a_function_counts_by_what_it_is_called_with(tmp_path: Path) -> None:
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("local", "Product", ["a", "b"], ["c"], body, [helper.make_opsetid("", 17)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    node = helper.make_node("Product", ["x", "w"], ["y"], domain="local")
    weight = models.weight("w", 7, 11)
    graph = helper.make_graph([node], "g", [models.floats("x", [5, 7])], [models.floats("y", [5, 11])], [weight])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8), path)
    assert works(path) == [Work(2 * 5 * 7 * 11, 4 * (5 * 7 + 7 * 11 + 5 * 11))]


def test_a_measured_size_stands_in_for_an_unknown_shape(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["numbers"], ["y"]),
    ]
    graph = helper.make_graph(nodes, "g", [models.floats("x", [2, 3])], [models.floats("y", [2, "found"])])
    path = models.save(tmp_path / "m.onnx", graph)
    model = load(path)
    _, values = value_sizes(model)
    without = works_of(model, values, {})
    measured = works_of(model, values, {}, sizes={"places": 2 * 6 * 8, "numbers": 2 * 6 * 4, "y": 2 * 6 * 4})
    assert without[2] == Work(0, 0)
    assert measured[2] == Work(12, 2 * 48)


def test_a_processor_is_kept_busy_by_what_takes_longer() -> None:
    assert Work(2_000_000_000, 1000).milliseconds(gflops=100, memory_gb_s=10) == pytest.approx(20)
    assert Work(1000, 50_000_000).milliseconds(gflops=100, memory_gb_s=10) == pytest.approx(5)


def test_weights_come_before_and_more_slowly() -> None:
    work = Work(2_000_000_000, 30_000_000, 20_000_000)
    assert work.milliseconds(gflops=100, memory_gb_s=10) == pytest.approx(20 + 2 * WEIGHTS_SLOWDOWN)


def test_tables_are_the_weights_that_only_give_rows(tmp_path: Path) -> None:
    assert tables(load(models.lookup(tmp_path / "lookup.onnx"))) == {"table"}
    nodes = [
        helper.make_node("Gather", ["w", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [3])]
    graph = helper.make_graph(nodes, "tied", inputs, [models.floats("y", [3, 8])], [models.weight("w", 8, 8)])
    assert tables(load(models.save(tmp_path / "tied.onnx", graph))) == set()


def test_packed_weights_count_their_bytes(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.ones((16, 16), np.int8), "w")
    nodes = [helper.make_node("MatMulInteger", ["x", "w"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.INT8, [4, 16])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.INT32, [4, 16])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [weight])
    assert works(models.save(tmp_path / "m.onnx", graph)) == [Work(2 * 4 * 16 * 16, 64 + 256 + 256, 256)]
