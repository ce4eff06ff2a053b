"""Random models of everything that makes slicing hard, as a Hypothesis strategy."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

ROWS, WIDTH = 3, 20  # a square weight takes 1,600 bytes: slices refer to it; a row takes 80: they hold it

Storage = Literal["raw", "typed", "external", "subfolder"]


@dataclass
class RandomModel:
    """A model and where its weights are to lie."""

    proto: onnx.ModelProto
    storage: Storage
    overridden: list[str]

    def save(self, folder: Path) -> Path:
        path = folder / "model.onnx"
        location = {"external": "model.data", "subfolder": "some/where/model.data"}.get(self.storage)
        if location is not None:
            (folder / location).parent.mkdir(parents=True, exist_ok=True)
            onnx.save(self.proto, path, save_as_external_data=True, location=location, size_threshold=512)
        else:
            onnx.save(self.proto, path)
        return path


@dataclass
class _Builder:
    """A model while it grows; values of each kind, in the order they were made."""

    draw: st.DrawFn
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[str] = field(default_factory=lambda: ["x0", "x1"])
    values: list[str] = field(default_factory=lambda: ["x0", "x1"])
    halves: list[str] = field(default_factory=list)
    indices: list[str] = field(default_factory=list)
    sequences: list[str] = field(default_factory=list)
    squares: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    typed: bool = False
    count: int = 0

    def name(self, prefix: str = "v") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def any(self, names: list[str]) -> str:
        return self.draw(st.sampled_from(names))

    def value(self) -> str:
        return self.any(self.values)

    def node(self, op: str, inputs: list[str], outputs: int = 1, domain: str = "", **attributes: object) -> list[str]:
        made = [self.name() for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, made, domain=domain, **attributes))
        return made

    def weight(self, pool: list[str], *shape: int) -> str:
        """One of the weights so far, or a new one: an initializer, or the value of a `Constant`."""
        if pool and self.draw(st.booleans()):
            return self.any(pool)
        name = self.name("w")
        numbers = np.random.default_rng(self.count).standard_normal(shape).astype(np.float32) / 4
        tensor = numpy_helper.from_array(numbers, name)
        if self.typed:
            tensor.ClearField("raw_data")
            tensor.float_data.extend(numbers.ravel().tolist())
        kind = self.draw(st.sampled_from(["initializer", "initializer", "constant", "overridable"]))
        if kind == "constant":
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.weights.append(tensor)
            if kind == "overridable":
                self.inputs.append(name)
        pool.append(name)
        return name

    def square(self) -> str:
        return self.weight(self.squares, WIDTH, WIDTH)

    def row(self) -> str:
        return self.weight(self.rows, WIDTH)

    def integer(self, number: int) -> str:
        name = self.name("i")
        self.weights.append(numpy_helper.from_array(np.int64(number), name))
        return name


def _unary(b: _Builder) -> None:
    b.values += b.node(b.any(["Relu", "Neg", "Tanh", "Identity", "Sigmoid"]), [b.value()])


def _binary(b: _Builder) -> None:
    b.values += b.node(b.any(["Add", "Sub", "Mul", "Max"]), [b.value(), b.draw(st.sampled_from([b.value(), b.row()]))])


def _matmul(b: _Builder) -> None:
    b.values += b.node("MatMul", [b.value(), b.square()])


def _transposed_weight(b: _Builder) -> None:
    """A weight behind a node that depends on weights alone, which each slice repeats."""
    b.squares += b.node("Transpose", [b.square()])


def _clip_without_lower_bound(b: _Builder) -> None:
    name = b.name("w")
    b.weights.append(numpy_helper.from_array(np.float32(0.5), name))
    b.values += b.node("Clip", [b.value(), "", name])


def _split(b: _Builder) -> None:
    b.halves += b.node("Split", [b.value()], 2, axis=1, num_outputs=2)


def _join(b: _Builder) -> None:
    if b.halves:
        b.values += b.node("Concat", [b.any(b.halves), b.any(b.halves)], axis=1)


def _top(b: _Builder) -> None:
    name = b.name("w")
    b.weights.append(numpy_helper.from_array(np.array([WIDTH], np.int64), name))
    sorted_, indices = b.node("TopK", [b.value(), name], 2)
    b.values.append(sorted_)
    b.indices.append(indices)


def _gather(b: _Builder) -> None:
    if b.indices:
        b.values += b.node("GatherElements", [b.value(), b.any(b.indices)], axis=1)


def _make_sequence(b: _Builder) -> None:
    b.sequences += b.node("SequenceConstruct", [b.value(), b.value()])


def _use_sequence(b: _Builder) -> None:
    if b.sequences:
        b.values += b.node("SequenceAt", [b.any(b.sequences), b.integer(b.draw(st.integers(0, 1)))])


def _call(b: _Builder) -> None:
    b.values += b.node("Blend", [b.value(), b.value()], domain="local")


def _body(b: _Builder, depth: int) -> onnx.GraphProto:
    """A body that captures values and weights from outside, and may hold another."""
    first, second, last = b.name("c"), b.name("c"), b.name("c")
    nodes = [helper.make_node("MatMul", [b.value(), b.square()], [first])]
    if depth and b.draw(st.booleans()):
        nodes += _if(b, b.value(), second, depth - 1)
    else:
        nodes += _own_constant(b, second) if b.draw(st.booleans()) else [helper.make_node("Neg", [b.value()], [second])]
    nodes.append(helper.make_node("Add", [first, second], [last]))
    return helper.make_graph(nodes, b.name("g"), [], [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)])


def _own_constant(b: _Builder, output: str) -> list[onnx.NodeProto]:
    numbers = np.random.default_rng(b.count).standard_normal((WIDTH, WIDTH)).astype(np.float32)
    name = b.name("c")
    constant = helper.make_node("Constant", [], [name], value=numpy_helper.from_array(numbers))
    return [constant, helper.make_node("MatMul", [b.value(), name], [output])]


def _if(b: _Builder, decider: str, output: str, depth: int) -> list[onnx.NodeProto]:
    total, positive, zero = b.name("c"), b.name("c"), b.name("c")
    return [
        helper.make_node("Constant", [], [zero], value_float=0.0),
        helper.make_node("ReduceMax", [decider], [total], keepdims=0),
        helper.make_node("Greater", [total, zero], [positive]),
        helper.make_node("If", [positive], [output], then_branch=_body(b, depth), else_branch=_body(b, depth)),
    ]


def _branch(b: _Builder) -> None:
    name = b.name()
    b.nodes += _if(b, b.value(), name, 1)
    b.values.append(name)


def _loop(b: _Builder) -> None:
    index, go, still, state, following, sum_ = (b.name("c") for _ in range(6))
    body = helper.make_graph(
        [
            helper.make_node("Identity", [go], [still]),
            helper.make_node("MatMul", [state, b.square()], [sum_]),
            helper.make_node("Add", [sum_, b.value()], [following]),
        ],
        b.name("g"),
        [
            helper.make_tensor_value_info(index, TensorProto.INT64, []),
            helper.make_tensor_value_info(go, TensorProto.BOOL, []),
            helper.make_tensor_value_info(state, TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info(still, TensorProto.BOOL, []),
            helper.make_tensor_value_info(following, TensorProto.FLOAT, None),
        ],
    )
    b.values += b.node("Loop", [b.integer(2), "", b.value()], body=body)


def _scan(b: _Builder) -> None:
    """Over the rows, with a row weight captured."""
    item, each = b.name("c"), b.name("c")
    body = helper.make_graph(
        [helper.make_node("Mul", [item, b.row()], [each])],
        b.name("g"),
        [helper.make_tensor_value_info(item, TensorProto.FLOAT, [WIDTH])],
        [helper.make_tensor_value_info(each, TensorProto.FLOAT, [WIDTH])],
    )
    b.values += b.node("Scan", [b.value()], body=body, num_scan_inputs=1)


_STEPS = [
    _unary, _binary, _matmul, _transposed_weight, _clip_without_lower_bound, _split, _join, _top, _gather,
    _make_sequence, _use_sequence, _call, _branch, _loop, _scan,
]  # fmt: skip


@st.composite
def random_models(draw: st.DrawFn) -> RandomModel:
    """Models of up to 20 steps over inputs `x0` and `x1`, FP32 of shape `[ROWS, WIDTH]`."""
    storage: Storage = draw(st.sampled_from(["raw", "typed", "external", "subfolder"]))
    builder = _Builder(draw, typed=storage == "typed")
    for step in draw(st.lists(st.sampled_from(_STEPS), min_size=6, max_size=20)):
        step(builder)
    last = builder.node("Sum", builder.values if draw(st.booleans()) else builder.values[-2:])  # not all are needed
    more = [*builder.values, *builder.halves, *builder.squares, *builder.rows]
    outputs = dict.fromkeys([*last, *draw(st.lists(st.sampled_from(more), max_size=4))])
    nodes = draw(st.permutations(builder.nodes)) if draw(st.booleans()) else builder.nodes
    overridable = builder.inputs[2:]
    overridden = [name for name in overridable if draw(st.booleans())]
    shapes = {weight.name: list(weight.dims) for weight in builder.weights}
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shapes.get(n, ["rows", WIDTH])) for n in builder.inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        builder.weights,
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, ir_version=10, opset_imports=opsets, functions=[_blend(opsets)])
    return RandomModel(model, storage, overridden)


def _blend(opsets: list[onnx.OperatorSetIdProto]) -> onnx.FunctionProto:
    large = numpy_helper.from_array(np.linspace(-1, 1, WIDTH * WIDTH, dtype=np.float32).reshape(WIDTH, WIDTH))
    nodes = [
        helper.make_node("Constant", [], ["c"], value=large),
        helper.make_node("MatMul", ["a", "c"], ["p"]),
        helper.make_node("Tanh", ["p"], ["t"]),
        helper.make_node("Mul", ["t", "b"], ["o"]),
    ]
    return helper.make_function("local", "Blend", ["a", "b"], ["o"], nodes, opsets)
