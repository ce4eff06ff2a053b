"""Protobuf and ONNX messages written by hand, field by field, so that they can be wrong in every way."""

from collections.abc import Mapping

VARINT, FIXED64, LEN, START_GROUP, END_GROUP, FIXED32 = range(6)
FLOAT, INT32, STRING, INT64, UINT4 = 1, 6, 8, 7, 21


def varint(value: int, *, length: int = 0) -> bytes:
    """A varint; with `length`, in more bytes than it needs."""
    value &= (1 << 70) - 1 if length else (1 << 64) - 1
    out = bytearray()
    while value > 0x7F or len(out) + 1 < length:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def number(field: int, value: int) -> bytes:
    return tag(field, VARINT) + varint(value)


def message(field: int, *parts: bytes | str) -> bytes:
    """A length-delimited field with these parts in a row."""
    body = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    return tag(field, LEN) + varint(len(body)) + body


def entry(field: int, key: str | bytes, value: str | bytes) -> bytes:
    return message(field, message(1, key), message(2, value))


def tensor(name: str | bytes = "w", dims: tuple[int, ...] = (4,), datatype: int = FLOAT, payload: bytes = b"") -> bytes:
    """The fields of a TensorProto."""
    return b"".join(number(1, dim) for dim in dims) + number(2, datatype) + message(8, name) + payload


def raw(data: bytes) -> bytes:
    return message(9, data)


def external(entries: Mapping[str, str | bytes], *, location: bytes = number(14, 1)) -> bytes:
    return b"".join(entry(13, key, value) for key, value in entries.items()) + location


def value(name: str | bytes, shape: tuple[int | str, ...] = (4,), datatype: int = FLOAT) -> bytes:
    """The fields of a ValueInfoProto."""
    dims = b"".join(message(1, number(1, d) if isinstance(d, int) else message(2, d)) for d in shape)
    return message(1, name) + message(2, message(1, number(1, datatype), message(2, dims)))


def node(op: str | bytes, inputs: tuple[str, ...], outputs: tuple[str, ...], *attributes: bytes) -> bytes:
    """The fields of a NodeProto; attributes are fields of an AttributeProto each."""
    return b"".join(
        [
            *(message(1, name) for name in inputs),
            *(message(2, name) for name in outputs),
            message(4, op),
            *(message(5, attribute) for attribute in attributes),
        ]
    )


def graph(*fields: bytes, output: str = "y") -> bytes:
    """The fields of a GraphProto from `x` to `output`."""
    return b"".join((message(2, "g"), message(11, value("x")), message(12, value(output)), *fields))


def model(body: bytes, *fields: bytes, ir_version: int = 8, opset: int = 17) -> bytes:
    """A ModelProto around the fields of a GraphProto."""
    return number(1, ir_version) + b"".join(fields) + message(8, message(1, ""), number(2, opset)) + message(7, body)


def adding(weight: bytes, *fields: bytes) -> bytes:
    """A model that computes `y = x + w`, with the fields of `w` given."""
    return model(graph(message(1, node("Add", ("x", "w"), ("y",))), message(5, weight), *fields))


def constant(*attribute: bytes) -> bytes:
    """A model with a `Constant` whose attribute has these fields."""
    made = message(1, node("Constant", (), ("c",), b"".join((message(1, "value"), *attribute))))
    return model(graph(made, message(1, node("Add", ("x", "c"), ("y",)))))
