"""Reads and writes those attributes of nodes that rewriting needs; every other one stays as the bytes it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lamella.graph.model import Model, Node
from lamella.graph.protobuf import LEN, VARINT, encode_int, encode_len, fields, signed, text
from lamella.graph.schema import Attribute
from lamella.graph.schema import Node as NodeField

_INT, _INTS = 2, 7  # AttributeProto.AttributeType
_REPLACED = (NodeField.INPUT, NodeField.OUTPUT, NodeField.NAME)


def integer_attribute(model: Model, node: Node, name: str, default: int) -> int:
    """The value of a node's attribute of type INT; `default` where the node has none of that name."""
    data, found = model.structure, default
    for number, wire, _, start, end in _fields_of(model, node):
        if number == NodeField.ATTRIBUTE and wire == LEN and _name(data, start, end) == name:
            for inner, kind, _, value, _ in fields(data, start, end):
                if inner == Attribute.INT and kind == VARINT:
                    found = signed(value)
    return found


def integer(name: str, value: int) -> bytes:
    """An AttributeProto of type INT, as a field of its node."""
    body = encode_len(Attribute.NAME, name) + encode_int(Attribute.INT, value) + encode_int(Attribute.TYPE, _INT)
    return encode_len(NodeField.ATTRIBUTE, body)


def integers(name: str, values: Sequence[int]) -> bytes:
    """An AttributeProto of type INTS, as a field of its node."""
    listed = b"".join(encode_int(Attribute.INTS, value) for value in values)
    body = encode_len(Attribute.NAME, name) + listed + encode_int(Attribute.TYPE, _INTS)
    return encode_len(NodeField.ATTRIBUTE, body)


def node_proto(op_type: str, inputs: Iterable[str], output: str, *attributes: bytes) -> bytes:
    """A NodeProto of the standard domain with one output, whose name it shares."""
    return _named(inputs, output) + encode_len(NodeField.OP_TYPE, op_type) + b"".join(attributes)


def renamed(model: Model, node: Node, inputs: Iterable[str], output: str, **replaced: int) -> bytes:
    """The NodeProto of `node` with other inputs, another output, and other values of some attributes of type INT."""
    data, kept = model.structure, []
    for number, wire, tag, start, end in _fields_of(model, node):
        is_replaced = number == NodeField.ATTRIBUTE and wire == LEN and _name(data, start, end) in replaced
        if number not in _REPLACED and not is_replaced:
            kept.append(data[tag:end])
    return _named(inputs, output) + b"".join((*kept, *(integer(name, value) for name, value in replaced.items())))


def _named(inputs: Iterable[str], output: str) -> bytes:
    names = b"".join(encode_len(NodeField.INPUT, name) for name in inputs)
    return names + encode_len(NodeField.OUTPUT, output) + encode_len(NodeField.NAME, output)


def _fields_of(model: Model, node: Node) -> Iterable[tuple[int, int, int, int, int]]:
    _, _, _, start, end = next(fields(model.structure, *node.span))
    return fields(model.structure, start, end)


def _name(data: bytes, start: int, end: int) -> str:
    found = ""
    for number, wire, _, value, stop in fields(data, start, end):
        if number == Attribute.NAME and wire == LEN:
            found = text(data, value, stop)
    return found
