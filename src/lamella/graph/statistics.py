"""A model in numbers: what `lamella inspect` shows. Pure; no weight is read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod

from lamella.graph.model import Model, OpId
from lamella.graph.protobuf import LEN, fields, text
from lamella.graph.schema import Attribute
from lamella.graph.schema import Function as FunctionField
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Node as NodeField
from lamella.graph.stored import Span
from lamella.tensors import TensorSpec


@dataclass(frozen=True)
class FileStatistics:
    """A file that the model is made of: its location as the model says it, its size in bytes, whether it is there."""

    location: str
    size: int
    exists: bool


@dataclass(frozen=True)
class Statistics:
    """A model in numbers.

    Attributes:
        parameters: Elements of all weights: initializers, and large tensors inside nodes and functions.
        weights_bytes: Bytes of all weights.
        nodes: Nodes of the main graph.
        operators: How many of them have each operator, the most frequent first; `domain.Operator` outside ONNX's own
            domain. The values add up to `nodes`.
        subgraph_operators: Likewise, for the nodes in the bodies of `If`, `Loop`, `Scan` and the like.
        functions: Model-local functions by name, with the operators of each one's body.
        inputs: What a caller must give.
        optional_inputs: What a caller may give: inputs whose default is an initializer.
        outputs: What a caller gets.
        files: The model's files, its own first.
    """

    parameters: int
    weights_bytes: int
    nodes: int
    operators: dict[str, int]
    subgraph_operators: dict[str, int]
    functions: dict[str, dict[str, int]]
    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[FileStatistics, ...]


def statistics(model: Model) -> Statistics:
    """Count what a model is made of. Its files are looked at, not read."""
    graph = model.graph
    bodies = (op for node in graph.nodes if node.calls for op in _inner_operators(model.structure, node.span))
    return Statistics(
        parameters=sum(prod(weight.shape) for weight in model.weights),
        weights_bytes=model.weights_bytes,
        nodes=len(graph.nodes),
        operators=_counted(node.op for node in graph.nodes),
        subgraph_operators=_counted(bodies),
        functions={
            operator_name(op): _counted(_function_operators(model.structure, function.span))
            for op, function in model.functions.items()
        },
        inputs=tuple(value.spec for value in graph.required_inputs),
        optional_inputs=tuple(value.spec for value in model.optional_inputs),
        outputs=tuple(value.spec for value in graph.outputs),
        files=tuple(FileStatistics(file.location, file.size, file.path.exists()) for file in model.files.values()),
    )


def operator_name(op: OpId) -> str:
    """An operator's name, with its domain where that is not ONNX's own, and its overload where it has one."""
    domain, name, overload = op
    return ".".join(part for part in (domain, name) if part) + (f":{overload}" if overload else "")


def _counted(ops: Iterable[OpId]) -> dict[str, int]:
    found = Counter(operator_name(op) for op in ops)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _message(data: bytes, span: Span) -> Span:
    """The message in the field at `span`, tag included."""
    _, _, _, start, end = next(fields(data, *span))
    return start, end


def _inner_operators(data: bytes, node: Span) -> Iterator[OpId]:
    """Every operator in the subgraphs of the node in the field at `node`, however deep. The reader bounds the depth."""
    for number, wire, _, start, end in fields(data, *_message(data, node)):
        if number != NodeField.ATTRIBUTE or wire != LEN:
            continue
        for inner, kind, _, begin, finish in fields(data, start, end):
            if kind == LEN and inner in (Attribute.G, Attribute.GRAPHS):
                yield from _operators(data, begin, finish, GraphField.NODE)


def _function_operators(data: bytes, function: Span) -> Iterator[OpId]:
    return _operators(data, *_message(data, function), FunctionField.NODE)


def _operators(data: bytes, start: int, end: int, node_field: int) -> Iterator[OpId]:
    """The operators of a graph's or function's nodes, and of what is nested in them."""
    for number, wire, tag, begin, finish in fields(data, start, end):
        if number == node_field and wire == LEN:
            yield _operator(data, begin, finish)
            yield from _inner_operators(data, (tag, finish))


def _operator(data: bytes, start: int, end: int) -> OpId:
    found = {NodeField.DOMAIN: "", NodeField.OP_TYPE: "", NodeField.OVERLOAD: ""}
    for number, wire, _, begin, finish in fields(data, start, end):
        if wire == LEN and number in found:
            found[number] = text(data, begin, finish)
    domain = found[NodeField.DOMAIN]
    return "" if domain == "ai.onnx" else domain, found[NodeField.OP_TYPE], found[NodeField.OVERLOAD]
