"""Reads nodes, and what their subgraphs use from outside."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lamella.errors import MalformedModelError
from lamella.graph.model import Node, OpId, Weight
from lamella.graph.protobuf import LEN, MAX_DEPTH, fields, text
from lamella.graph.schema import Attribute, Graph, Sparse
from lamella.graph.schema import Node as NodeField
from lamella.graph.source import MemorySource
from lamella.graph.stored import Span, read_stored_tensor
from lamella.graph.weights import weight_of

_TEXTS = {NodeField.NAME, NodeField.OP_TYPE, NodeField.DOMAIN, NodeField.OVERLOAD}
# First byte of the tag of a tensor or graph in an attribute, in every encoding of it: most attributes have none.
_MAY_NEST = re.compile(
    b"[%s]"
    % b"".join(
        re.escape(bytes([number << 3 | LEN])) + re.escape(bytes([number << 3 | LEN | 0x80]))
        for number in (Attribute.T, Attribute.G, Attribute.TENSORS, Attribute.GRAPHS)
    )
)
_NO_CALLS: frozenset[OpId] = frozenset()


@dataclass(slots=True)
class _Inner:
    """What the attributes of one node hold."""

    captures: dict[str, None] = field(default_factory=dict)
    calls: set[OpId] = field(default_factory=set)
    weights: list[Weight] = field(default_factory=list)


class NodeReader:
    """Reads NodeProtos out of a structure."""

    def __init__(self, data: bytes) -> None:
        self.source = MemorySource(data)
        self._data = data

    def read(self, index: int, body: Span, tag_start: int, depth: int = 0) -> Node:
        """Read the node whose fields are at `body` and whose tag is at `tag_start`.

        Raises:
            MalformedModelError: It has no operator, or nests too deeply.
        """
        data = self._data
        inputs: list[str] = []
        outputs: list[str] = []
        texts: dict[int, str] = {}
        inner = None
        for number, wire, _, value, stop in fields(data, *body):
            if wire != LEN:
                continue
            if number == NodeField.INPUT:
                inputs.append(text(data, value, stop))
            elif number == NodeField.OUTPUT:
                outputs.append(text(data, value, stop))
            elif number == NodeField.ATTRIBUTE:
                inner = self._attribute(value, stop, inner, depth)
            elif number in _TEXTS:
                texts[number] = text(data, value, stop)
        name, op_type = texts.get(NodeField.NAME, ""), texts.get(NodeField.OP_TYPE, "")
        domain, overload = texts.get(NodeField.DOMAIN, ""), texts.get(NodeField.OVERLOAD, "")
        if not op_type:
            raise MalformedModelError(f"node {index} {name!r} has no operator type", hint="export the model again")
        op = ("" if domain == "ai.onnx" else domain, op_type, overload)
        span = (tag_start, body[1])
        if inner is None:
            return Node(index, op, name, tuple(inputs), tuple(outputs), (), _NO_CALLS, (), span)
        calls = frozenset(inner.calls)
        return Node(index, op, name, tuple(inputs), tuple(outputs), tuple(inner.captures), calls, inner.weights, span)

    def _attribute(self, start: int, end: int, inner: _Inner | None, depth: int) -> _Inner | None:
        if _MAY_NEST.search(self._data, start, end) is None:
            return inner
        for number, wire, _, value, stop in fields(self._data, start, end):
            if wire != LEN:
                continue
            if number in (Attribute.T, Attribute.TENSORS):
                inner = inner or _Inner()
                self._tensor(value, stop, inner)
            elif number in (Attribute.G, Attribute.GRAPHS):
                inner = inner or _Inner()
                self._subgraph(value, stop, inner, depth + 1)
        return inner

    def _tensor(self, start: int, end: int, inner: _Inner) -> None:
        weight = weight_of(read_stored_tensor(self.source, start, end))
        if weight.range is not None:
            inner.weights.append(weight)

    def _subgraph(self, start: int, end: int, inner: _Inner, depth: int) -> None:
        """Collect the names that a body uses and does not define, whatever it defines later or deeper."""
        if depth * 3 > MAX_DEPTH:  # a level is a GraphProto in an AttributeProto in a NodeProto
            raise MalformedModelError(
                f"subgraphs nest deeper than {MAX_DEPTH // 3}", hint="no exporter writes this; do not trust the model"
            )
        data = self._data
        used: dict[str, None] = {}
        defined: set[str] = set()
        for number, wire, tag_start, value, stop in fields(data, start, end):
            if wire != LEN:
                continue
            if number == Graph.NODE:
                node = self.read(0, (value, stop), tag_start, depth)
                used.update(dict.fromkeys(node.uses))
                defined.update(node.outputs)
                inner.calls |= {node.op, *node.calls}
                inner.weights += node.weights
            elif number == Graph.INPUT:
                defined.add(self._name(value, stop))
            elif number == Graph.OUTPUT:
                used[self._name(value, stop)] = None
            elif number == Graph.INITIALIZER:
                self._tensor(value, stop, inner)
                defined.add(read_stored_tensor(self.source, value, stop).name)
            elif number == Graph.SPARSE_INITIALIZER:
                defined.add(self._sparse_name(value, stop))
        inner.captures.update((name, None) for name in used if name and name not in defined)

    def _name(self, start: int, end: int) -> str:
        for number, wire, _, value, stop in fields(self._data, start, end):
            if number == 1 and wire == LEN:
                return text(self._data, value, stop)
        return ""

    def _sparse_name(self, start: int, end: int) -> str:
        for number, wire, _, value, stop in fields(self._data, start, end):
            if number == Sparse.VALUES and wire == LEN:
                return read_stored_tensor(self.source, value, stop).name
        return ""


