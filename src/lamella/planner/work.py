"""What each operator of a model computes and moves, from the shapes of its values. Reads no weights."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

from lamella.graph.body import NodeReader
from lamella.graph.model import Model, Node, OpId, Value
from lamella.graph.protobuf import LEN, VARINT, fields, packed_or_single, signed, text
from lamella.graph.samples import evaluate
from lamella.graph.schema import Attribute
from lamella.graph.schema import Graph as GraphField
from lamella.graph.schema import Node as NodeField
from lamella.graph.stored import Span
from lamella.graph.value_types import read_value, tensor_value
from lamella.graph.weights import read_weight
from lamella.planner.flops import PICKS, VIEWS, Attributes, Call, Shape, flops_of
from lamella.planner.flow import flow_of
from lamella.tensors import datatype

_Scope = MutableMapping[str, Value]
"""The types of the values that a node can see; only read."""

_TEXT = 4  # field of AttributeProto
_FUNCTION_INPUT, _FUNCTION_OUTPUT, _FUNCTION_NODE = 4, 5, 7  # fields of FunctionProto


WEIGHTS_SLOWDOWN = 2.5
"""How many times longer a byte of weights takes than one of activations: 10 GB/s against 25 on one thread, measured
with ONNX Runtime 1.31 in matrix products of 1, 16 and 64 rows and in element-wise operators."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of an operator takes.

    Attributes:
        flops: Floating-point operations, or integer ones where the operator is quantised.
        moved_bytes: Bytes of its inputs, weights and outputs, each once.
        weights_bytes: Those of them that are weights.
    """

    flops: int
    moved_bytes: int
    weights_bytes: int = 0

    def milliseconds(self, *, gflops: float, memory_gb_s: float) -> float:
        """Time on a processor that computes or moves activations, whichever takes longer, after it has got the weights.

        The first is the roofline model (doi:10.1145/1498765.1498785). Activations come from the cache, as the operator
        before left them there; weights have been displaced by all others since the run before, and come from memory.
        """
        activations = (self.moved_bytes - self.weights_bytes) / memory_gb_s
        return (max(self.flops / gflops, activations) + WEIGHTS_SLOWDOWN * self.weights_bytes / memory_gb_s) / 1e6


def works_of(
    model: Model,
    values: Mapping[str, Value],
    dims: Mapping[str, int],
    *,
    sizes: Mapping[str, int] | None = None,
) -> list[Work]:
    """The work of each node of the main graph, by its index.

    The bodies of `If`, `Loop` and `Scan` and of model-local functions count once each, whatever the branch taken or the
    number of turns. What has no known shape counts as nothing.

    Args:
        model: The model.
        values: Types by name, as `planner.sizes.value_sizes` finds them.
        dims: Sizes of the symbolic dimensions.
        sizes: Bytes by name for values of unknown shape, as `value_sizes` measures them.
    """
    return _Reckoner(model, dims, sizes or {}).nodes(model.graph.nodes, dict(values))


class _Reckoner:
    """Reckons the work of nodes in a scope: the types of the values that they can see."""

    def __init__(self, model: Model, dims: Mapping[str, int], sizes: Mapping[str, int]) -> None:
        self._model, self._dims, self._sizes = model, dims, sizes
        self._data = model.structure
        flow = flow_of(model)
        self._weights = {name for index in flow.constant for name in model.graph.nodes[index].outputs}
        self._weights |= model.graph.initializers.keys()
        self._open: set[OpId] = set()  # functions that are being looked into: malformed models call in circles

    def nodes(self, nodes: Sequence[Node], scope: _Scope) -> list[Work]:
        return [self._node(node, scope) for node in nodes]

    def _node(self, node: Node, scope: _Scope) -> Work:
        inner = [self._body(span, scope) for span in _bodies(self._data, node)] if node.calls else []
        if node.op in self._model.functions:
            inner.append(self._function(node, scope))
        if inner:
            return _total(inner)
        op = node.op[1]
        if op in VIEWS:
            return Work(0, 0)
        flops = flops_of(Call(op, *self._shapes(node, scope), self._attributes(node)))
        given = sum(self._bytes(name, scope) for name in node.outputs)
        taken = dict.fromkeys(node.inputs)
        if op in PICKS:
            return Work(flops, 2 * given + sum(self._bytes(name, scope) for name in list(taken)[1:]))
        sizes = {name: self._bytes(name, scope) for name in taken}
        weights = sum(size for name, size in sizes.items() if name in self._weights)
        return Work(flops, given + sum(sizes.values()), weights)

    def _shapes(self, node: Node, scope: _Scope) -> tuple[list[Shape | None], list[Shape | None]]:
        return [self._shape(name, scope) for name in node.inputs], [self._shape(name, scope) for name in node.outputs]

    def _shape(self, name: str, scope: _Scope) -> Shape | None:
        value = scope.get(name)
        if value is None or value.type is None or value.type.shape is None:
            elements = self._elements(name, value)
            return (elements,) if elements else None
        sizes = [evaluate(dim, self._dims) for dim in value.type.shape]
        known = tuple(1 if size is None else size for size in sizes)
        if None not in sizes:
            return known
        left = self._elements(name, value) // max(1, prod(known))
        at = sizes.index(None)
        return (*known[:at], left, *known[at + 1 :]) if left else None

    def _elements(self, name: str, value: Value | None) -> int:
        """Elements of a value whose size was measured; 0 of any other."""
        if value is None or value.type is None or not value.type.is_tensor:
            return 0
        bits = datatype(value.type.datatype).bits
        return self._sizes.get(name, 0) * 8 // bits if bits else 0

    def _bytes(self, name: str, scope: _Scope) -> int:
        weight = self._model.graph.initializers.get(name)
        if weight is not None:
            return weight.nbytes
        shape, value = self._shape(name, scope), scope.get(name)
        if shape is None or value is None or value.type is None or not value.type.is_tensor:
            return 0
        return datatype(value.type.datatype).size_bytes(prod(shape))

    def _body(self, span: Span, scope: _Scope) -> Work:
        """The nodes of a subgraph, each once, with the types that it declares beside those from outside."""
        found: dict[str, Value] = {}
        nodes: list[Node] = []
        reader = NodeReader(self._data)
        for number, wire, tag, start, end in fields(self._data, *span):
            if wire != LEN:
                continue
            if number == GraphField.NODE:
                nodes.append(reader.read(len(nodes), (start, end), tag))
            elif number in (GraphField.INPUT, GraphField.OUTPUT, GraphField.VALUE_INFO):
                value = read_value(self._data, start, end)
                found[value.name] = value
            elif number == GraphField.INITIALIZER:
                weight = read_weight(reader.source, start, end)
                found[weight.name] = tensor_value(weight.name, weight.datatype, weight.shape)
        return _total(self.nodes(nodes, ChainMap(found, scope)))

    def _function(self, node: Node, scope: _Scope) -> Work:
        """The nodes of a model-local function, with the types of what it is called with."""
        if node.op in self._open:
            return Work(0, 0)
        names: dict[int, list[str]] = {_FUNCTION_INPUT: [], _FUNCTION_OUTPUT: []}
        nodes: list[Node] = []
        reader = NodeReader(self._data)
        _, _, _, body, stop = next(fields(self._data, *self._model.functions[node.op].span))
        for number, wire, tag, start, end in fields(self._data, body, stop):
            if wire == LEN and number in names:
                names[number].append(text(self._data, start, end))
            elif wire == LEN and number == _FUNCTION_NODE:
                nodes.append(reader.read(len(nodes), (start, end), tag))
        pairs = (*zip_longest(names[_FUNCTION_INPUT], node.inputs), *zip_longest(names[_FUNCTION_OUTPUT], node.outputs))
        inside = {formal: scope[actual] for formal, actual in pairs if formal is not None and actual in scope}
        self._open.add(node.op)
        try:
            return _total(self.nodes(nodes, inside))
        finally:
            self._open.discard(node.op)

    def _attributes(self, node: Node) -> Attributes:
        """The integers, lists of integers and texts among a node's attributes."""
        found: dict[str, int | str | tuple[int, ...]] = {}
        for start, end in _attribute_spans(self._data, node):
            name = ""
            value: int | str | None = None
            integers: list[int] = []
            for number, wire, _, begin, finish in fields(self._data, start, end):
                if number == Attribute.NAME and wire == LEN:
                    name = text(self._data, begin, finish)
                elif number == Attribute.INT and wire == VARINT:
                    value = signed(begin)
                elif number == _TEXT and wire == LEN:
                    value = self._data[begin:finish].decode(errors="replace")
                elif number == Attribute.INTS and wire in (LEN, VARINT):
                    integers += [signed(item) for item in packed_or_single(self._data, wire, begin, finish)]
            if value is not None or integers:
                found[name] = tuple(integers) if value is None else value
        return found


def _total(works: Sequence[Work]) -> Work:
    return Work(
        sum(work.flops for work in works),
        sum(work.moved_bytes for work in works),
        sum(work.weights_bytes for work in works),
    )


def _attribute_spans(data: bytes, node: Node) -> Iterator[Span]:
    _, _, _, body, stop = next(fields(data, *node.span))
    for number, wire, _, start, end in fields(data, body, stop):
        if number == NodeField.ATTRIBUTE and wire == LEN:
            yield start, end


def _bodies(data: bytes, node: Node) -> Iterator[Span]:
    """The subgraphs of a node. The model's reader has bounded how deeply they nest."""
    for start, end in _attribute_spans(data, node):
        for number, wire, _, begin, finish in fields(data, start, end):
            if wire == LEN and number in (Attribute.G, Attribute.GRAPHS):
                yield begin, finish


def tables(model: Model) -> set[str]:
    """Initializers of which every operator takes rows, as an embedding's: engines leave them where they lie."""
    users = [(node, name) for node in model.graph.nodes for name in node.uses]
    picked = {node.inputs[0] for node in model.graph.nodes if node.op[1] in PICKS and not node.calls and node.inputs}
    packed = {name for node, name in users if node.op[1] not in PICKS or name != node.inputs[0]}
    return (picked - packed) & model.graph.initializers.keys()
