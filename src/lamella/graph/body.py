"""Reads nodes, and what their subgraphs use from outside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamella.errors import MalformedModelError
from lamella.graph.model import Node, OpId, Weight
from lamella.graph.payloads import check_sparse
from lamella.graph.protobuf import LEN, MAX_DEPTH, VARINT, fields, packed_or_single, signed, text
from lamella.graph.rewrite import twice
from lamella.graph.schema import NESTED, SINGULAR, Attribute, Graph, Kind, Sparse
from lamella.graph.schema import Node as NodeField
from lamella.graph.source import MemorySource
from lamella.graph.stored import Span, StoredTensor, read_stored_tensor
from lamella.graph.weights import weight_of

_TEXTS = {NodeField.NAME, NodeField.OP_TYPE, NodeField.DOMAIN, NodeField.OVERLOAD}
# First byte of the tag of a tensor or graph in an attribute, in every encoding of it: most attributes have none.
_MAY_NEST = re.compile(
    b"[%s]"
    % b"".join(
        re.escape(bytes([number << 3 & 0xFF | LEN])) + re.escape(bytes([number << 3 & 0xFF | LEN | 0x80]))
        for number in NESTED[Kind.ATTRIBUTE]
    )
)
IN_FUNCTION = -1
"""The index of nodes in the bodies of functions."""

_NO_CALLS: Mapping[OpId, int] = {}


@dataclass(slots=True)
class _Inner:
    """What the attributes of one node hold."""

    captures: dict[str, None] = field(default_factory=dict)
    calls: Counter[OpId] = field(default_factory=Counter)
    weights: list[Weight] = field(default_factory=list)


class NodeReader:
    """Reads NodeProtos out of a structure."""

    def __init__(self, data: bytes) -> None:
        self.source = MemorySource(data)
        self._data = data
        self._outermost = IN_FUNCTION

    def read(self, index: int, body: Span, tag_start: int, depth: int = 0) -> Node:
        """Read the node whose fields are at `body` and whose tag is at `tag_start`; `index` may be `IN_FUNCTION`.

        Raises:
            MalformedModelError: It has no operator, or nests too deeply.
        """
        data = self._data
        if depth == 0:
            self._outermost = index
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
            label = "a node in a body" if depth or index == IN_FUNCTION else f"node {index}"
            raise MalformedModelError(f"{label} {name!r} has no operator type", hint="export the model again")
        op = ("" if domain == "ai.onnx" else domain, op_type, overload)
        span = (tag_start, body[1])
        if inner is None:
            return Node(index, op, name, tuple(inputs), tuple(outputs), (), _NO_CALLS, (), span)
        captures = tuple(inner.captures)
        return Node(index, op, name, tuple(inputs), tuple(outputs), captures, inner.calls, inner.weights, span)

    def attribute(self, start: int, end: int) -> list[Weight]:
        """The weights in the default of a function's attribute."""
        inner = self._attribute(start, end, None, 0)
        return inner.weights if inner is not None else []

    def sparse(self, start: int, end: int) -> list[Weight]:
        """The values and the indices of a SparseTensorProto, in this order.

        Raises:
            MalformedModelError: One of them is missing, or they do not fit each other.
        """
        parts: dict[int, StoredTensor] = {}
        dims: list[int] = []
        for number, wire, tag_start, value, stop in fields(self._data, start, end):
            if number == Sparse.DIMS and wire in (LEN, VARINT):
                dims += [signed(dim) for dim in packed_or_single(self._data, wire, value, stop)]
            elif number in SINGULAR[Kind.SPARSE] and wire == LEN:
                if number in parts:
                    raise twice(Kind.SPARSE, number, tag_start)
                parts[number] = read_stored_tensor(self.source, value, stop)
        check_sparse(parts.get(Sparse.VALUES), parts.get(Sparse.INDICES), dims)
        return [weight_of(parts[Sparse.VALUES]), weight_of(parts[Sparse.INDICES])]

    def _attribute(self, start: int, end: int, inner: _Inner | None, depth: int) -> _Inner | None:
        if _MAY_NEST.search(self._data, start, end) is None:
            return inner
        singular: set[int] = set()
        for number, wire, tag_start, value, stop in fields(self._data, start, end):
            if wire != LEN or number not in NESTED[Kind.ATTRIBUTE]:
                continue
            if number in SINGULAR[Kind.ATTRIBUTE]:
                if number in singular:
                    raise twice(Kind.ATTRIBUTE, number, tag_start)
                singular.add(number)
            inner = inner or _Inner()
            if number in (Attribute.T, Attribute.TENSORS):
                self._tensor(value, stop, inner)
            elif number in (Attribute.G, Attribute.GRAPHS):
                self._subgraph(value, stop, inner, depth + 1)
            else:
                inner.weights += [part for part in self.sparse(value, stop) if part.range is not None]
        return inner

    def _tensor(self, start: int, end: int, inner: _Inner) -> str:
        where = "in a function" if self._outermost == IN_FUNCTION else f"in node {self._outermost}"
        weight = weight_of(read_stored_tensor(self.source, start, end, where))
        if weight.range is not None:
            inner.weights.append(weight)
        return weight.name

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
                inner.calls[node.op] += 1
                inner.calls.update(node.calls)
                inner.weights += node.weights
            elif number == Graph.INPUT:
                defined.add(self._name(value, stop))
            elif number == Graph.OUTPUT:
                used[self._name(value, stop)] = None
            elif number == Graph.INITIALIZER:
                defined.add(self._tensor(value, stop, inner))
            elif number == Graph.SPARSE_INITIALIZER:
                parts = self.sparse(value, stop)
                defined.add(parts[0].name)
                inner.weights += [part for part in parts if part.range is not None]
        inner.captures.update((name, None) for name in used if name and name not in defined)

    def _name(self, start: int, end: int) -> str:
        name = ""
        for number, wire, _, value, stop in fields(self._data, start, end):
            if number == 1 and wire == LEN:
                name = text(self._data, value, stop)
        return name
