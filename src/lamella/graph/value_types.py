"""Types of values: TypeProto in both directions, and ONNX Runtime's notation for them."""

from __future__ import annotations

import re
from functools import lru_cache

from lamella.errors import MalformedModelError, UnsupportedModelError
from lamella.graph.model import Value, ValueType
from lamella.graph.payloads import MAX_RANK
from lamella.graph.protobuf import LEN, VARINT, encode_int, encode_len, fields, signed, text
from lamella.graph.schema import Type, ValueInfo
from lamella.tensors import DATATYPES, Dimension

_KINDS = {
    Type.TENSOR: "tensor",
    Type.SEQUENCE: "sequence",
    Type.MAP: "map",
    Type.OPAQUE: "opaque",
    Type.SPARSE_TENSOR: "sparse_tensor",
    Type.OPTIONAL: "optional",
}


def read_value(data: bytes, start: int, end: int) -> Value:
    """Read a ValueInfoProto."""
    name, kind = "", None
    for number, wire, _, value, stop in fields(data, start, end):
        if wire == LEN and number == ValueInfo.NAME:
            name = text(data, value, stop)
        elif wire == LEN and number == ValueInfo.TYPE:
            kind = _named_type(data[value:stop], kind, name)
    if kind is not None and kind.datatype > DATATYPES[-1].onnx:
        raise UnsupportedModelError(
            f"value `{name}` has the unknown datatype {kind.datatype}",
            hint="it may be newer than this version of Lamella",
        )
    return Value(name, kind, data[start:end])


def _named_type(data: bytes, before: ValueType | None, name: str) -> ValueType | None:
    try:
        found = _read_type(data)
    except MalformedModelError as error:
        raise MalformedModelError(f"type of value `{name}`: {error.message}", hint=error.hint) from error
    if before is not None:
        raise _two_types(f"value `{name}`")
    return found


def _two_types(what: str) -> MalformedModelError:
    return MalformedModelError(f"{what} has two types", hint="export the model again")


@lru_cache(maxsize=1024)  # a model has thousands of values and a few dozen types
def _read_type(data: bytes) -> ValueType | None:
    found = None
    for number, wire, _, value, stop in fields(data, 0, len(data)):
        if wire == LEN and number in _KINDS:
            if found is not None:
                raise _two_types("it")
            if number in (Type.TENSOR, Type.SPARSE_TENSOR):
                found = _read_tensor_type(data, value, stop, _KINDS[number])
            else:
                found = ValueType(_KINDS[number])
    return found


def _read_tensor_type(data: bytes, start: int, end: int, kind: str) -> ValueType:
    element, shape = 0, None
    for number, wire, _, value, stop in fields(data, start, end):
        if number == Type.ELEM_TYPE and wire == VARINT:
            element = value
        elif number == Type.SHAPE and wire == LEN:
            shape = (shape or ()) + tuple(
                _read_dimension(data, begin, finish)
                for dim, kind_of_wire, _, begin, finish in fields(data, value, stop)
                if dim == Type.SHAPE_DIM and kind_of_wire == LEN
            )
        if shape is not None and len(shape) > MAX_RANK:
            raise MalformedModelError(
                f"it has {len(shape)} dimensions, more than {MAX_RANK}", hint="export the model again"
            )
    return ValueType(kind, element, shape)


def _read_dimension(data: bytes, start: int, end: int) -> Dimension:
    found: Dimension = None
    for number, wire, _, value, stop in fields(data, start, end):
        if number == Type.DIM_VALUE and wire == VARINT:
            found = signed(value)
        elif number == Type.DIM_PARAM and wire == LEN:
            found = text(data, value, stop) or None
    return None if isinstance(found, int) and found < 0 else found


def tensor_value(name: str, datatype: int, shape: tuple[Dimension, ...] | None) -> Value:
    """A value of tensor type with its serialised ValueInfoProto."""
    dims = b"".join(encode_len(Type.SHAPE_DIM, _encode_dimension(d)) for d in shape or ())
    body = encode_int(Type.ELEM_TYPE, datatype)
    if shape is not None:
        body += encode_len(Type.SHAPE, dims)
    proto = encode_len(ValueInfo.NAME, name) + encode_len(ValueInfo.TYPE, encode_len(Type.TENSOR, body))
    return Value(name, ValueType("tensor", datatype, shape), proto)


def _encode_dimension(dimension: Dimension) -> bytes:
    if isinstance(dimension, int):
        return encode_int(Type.DIM_VALUE, dimension)
    return b"" if dimension is None else encode_len(Type.DIM_PARAM, dimension)


_ORT_NAMES = {
    "FP32": "float", "FP64": "double", "FP16": "float16", "BF16": "bfloat16", "BYTES": "string",
}  # fmt: skip
_BY_ORT_NAME = {_ORT_NAMES.get(d.name, d.name.lower()): d.onnx for d in DATATYPES}
_ORT_KINDS = {"seq": "sequence", "map": "map", "optional": "optional", "sparse_tensor": "sparse_tensor"}


def read_ort_type(notation: str) -> ValueType:
    """Read ONNX Runtime's notation, such as `tensor(float)` or `seq(tensor(int64))`; the shape stays unknown."""
    match = re.match(r"(\w+)\((.*)\)$", notation)
    if match is None:
        return ValueType("opaque")
    kind, inner = match.groups()
    if kind == "tensor":
        return ValueType("tensor", _BY_ORT_NAME.get(inner, 0))
    return ValueType(_ORT_KINDS.get(kind, "opaque"))
