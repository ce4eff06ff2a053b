"""A TensorProto as it is stored: its description, and where its payload lies, without the payload."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod

from lamella.errors import MalformedModelError, UnsupportedModelError
from lamella.graph.protobuf import (
    LEN,
    VARINT,
    fields,
    packed_or_single,
    signed,
    text,
)
from lamella.graph.schema import Entry, Tensor
from lamella.graph.source import Source, source_fields
from lamella.tensors import Datatype, datatype

INLINE_BYTES = 1024
"""Payloads up to this size stay in the structure; ONNX Runtime needs the values of small ones to infer shapes."""

_PLAIN = {Tensor.RAW_DATA: "raw_data", Tensor.FLOAT_DATA: "float_data", Tensor.DOUBLE_DATA: "double_data"}
_CODED = {Tensor.INT32_DATA: "int32_data", Tensor.INT64_DATA: "int64_data", Tensor.UINT64_DATA: "uint64_data"}
_REMOVED = {*_PLAIN, *_CODED, Tensor.EXTERNAL_DATA, Tensor.DATA_LOCATION}
_MAX_ELEMENTS = 1 << 62
_MAX_RANK = 64

Span = tuple[int, int]

# key, then value, both shorter than 128 bytes: what everybody writes, matched at the speed of C
_PLAIN_ENTRY = re.compile(rb"\x0a([\x00-\x7f])([a-z]+)\x12([\x00-\x7f])(.*)", re.DOTALL)


@dataclass(slots=True)
class StoredTensor:
    """What the structure says of one tensor.

    Attributes:
        name: Its name, empty for the value of an attribute.
        data_type: Number of `TensorProto.DataType`.
        dims: Its shape.
        payloads: (field number, wire type, start, end) of each payload field in the source.
        external: Entries of `external_data`, if `data_location` is EXTERNAL, else None.
        kept: Spans of all other fields.
    """

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    payloads: list[tuple[int, int, int, int]] = field(default_factory=list)
    external: dict[str, str] | None = None
    kept: list[Span] = field(default_factory=list)

    @property
    def datatype(self) -> Datatype:
        """Its element type."""
        if self.data_type == 0:
            raise MalformedModelError(f"tensor {self.label} has no datatype", hint="export the model again")
        return datatype(self.data_type)

    @property
    def label(self) -> str:
        """Its name for messages."""
        return f"`{self.name}`" if self.name else "in an attribute"

    @property
    def elements(self) -> int:
        """Number of elements that its shape claims."""
        return prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Bytes that its shape and datatype claim; 0 for strings."""
        return self.datatype.size_bytes(self.elements)

    def payload_in_place(self) -> tuple[int, int, str | None] | None:
        """(offset, length, coding) of a payload that is large enough to be referred to, else None.

        `coding` names the typed field where the bytes are varints and must be decoded before use.
        """
        if self.external is not None or len(self.payloads) != 1:
            return None
        number, wire, start, end = self.payloads[0]
        if wire != LEN or end - start <= INLINE_BYTES or number == Tensor.STRING_DATA:
            return None
        return start, end - start, _CODED.get(number)


def read_stored_tensor(source: Source, start: int, end: int) -> StoredTensor:
    """Read a TensorProto at `[start, end)` of `source`; its payload is passed over.

    Raises:
        MalformedModelError: The fields contradict each other or the shape is impossible.
        UnsupportedModelError: The tensor is stored in segments, or has an unknown datatype.
    """
    tensor = StoredTensor()
    entries: dict[str, str] = {}
    location = 0
    for number, wire, tag_start, value, stop in source_fields(source, start, end):
        if number in _PLAIN or number in _CODED or number == Tensor.STRING_DATA:
            tensor.payloads.append((number, wire, value, stop))
        elif number == Tensor.DIMS:
            tensor.dims += _read_dims(source.read(tag_start, stop))
        elif number == Tensor.DATA_TYPE and wire == VARINT:
            tensor.data_type = value
        elif number == Tensor.NAME and wire == LEN:
            tensor.name = text(source.read(value, stop), 0, stop - value)
        elif number == Tensor.DATA_LOCATION and wire == VARINT:
            location = value
        elif number == Tensor.EXTERNAL_DATA and wire == LEN:
            key, entry = read_entry(source.read(value, stop))
            entries[key] = entry
        elif number == Tensor.SEGMENT:
            raise UnsupportedModelError(
                f"tensor {tensor.label} is stored in segments", hint="no runtime reads these; export the model again"
            )
        if number not in _REMOVED:
            tensor.kept.append((tag_start, stop))
    if location == 1:
        tensor.external = entries
    _check_description(tensor)
    return tensor


def _read_dims(data: bytes) -> list[int]:
    """Dimensions from one or more `dims` fields, packed or not."""
    if len(data) == 2 and data[1] < 0x80:
        return [data[1]]
    return [
        signed(number)
        for _, wire, _, value, stop in fields(data, 0, len(data))
        for number in packed_or_single(data, wire, value, stop)
    ]


def read_entry(data: bytes) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    match = _PLAIN_ENTRY.fullmatch(data)
    if match is not None and len(match[2]) == match[1][0] and len(match[4]) == match[3][0]:
        return text(match[2], 0, len(match[2])), text(match[4], 0, len(match[4]))
    key = value = ""
    for number, wire, _, start, stop in fields(data, 0, len(data)):
        if wire == LEN and number == Entry.KEY:
            key = text(data, start, stop)
        elif wire == LEN and number == Entry.VALUE:
            value = text(data, start, stop)
    return key, value


def _check_description(tensor: StoredTensor) -> None:
    if len(tensor.dims) > _MAX_RANK:
        raise MalformedModelError(
            f"tensor {tensor.label} has {len(tensor.dims)} dimensions, more than {_MAX_RANK}",
            hint="the file is damaged; export it again",
        )
    negative = [d for d in tensor.dims if d < 0]
    if negative or tensor.elements > _MAX_ELEMENTS:
        raise MalformedModelError(
            f"tensor {tensor.label} has the impossible shape {tensor.dims}",
            hint="the file is damaged; export it again",
        )
    if tensor.external is not None and tensor.payloads:
        raise MalformedModelError(
            f"tensor {tensor.label} is stored both inside the file and outside it", hint="export the model again"
        )
    if tensor.external is not None and tensor.datatype.bits == 0:
        raise MalformedModelError(
            f"tensor {tensor.label} holds strings in external data, which ONNX does not allow",
            hint="export the model again",
        )
    _check_payload_size(tensor)


def _check_payload_size(tensor: StoredTensor) -> None:
    if tensor.external is not None or tensor.data_type == 0:
        return
    raw = [stop - start for number, wire, start, stop in tensor.payloads if number == Tensor.RAW_DATA and wire == LEN]
    typed = [p for p in tensor.payloads if p[0] != Tensor.RAW_DATA]
    if raw and typed or len(raw) > 1:
        raise MalformedModelError(f"tensor {tensor.label} has two payloads", hint="export the model again")
    if raw and tensor.datatype.bits == 0:
        raise MalformedModelError(f"tensor {tensor.label} holds strings as raw bytes", hint="export the model again")
    if not tensor.payloads and tensor.elements:
        raise MalformedModelError(
            f"tensor {tensor.label} of shape {tensor.dims} has no data", hint="the file is damaged; export it again"
        )
    packed = [stop - start for number, wire, start, stop in typed if number in _PLAIN and wire == LEN]
    for size in raw or (packed if len(typed) == 1 else []):
        if size != tensor.nbytes:
            raise wrong_size(tensor, size)


def wrong_size(tensor: StoredTensor, size: int) -> MalformedModelError:
    """The error for a payload whose size does not match shape and datatype."""
    return MalformedModelError(
        f"tensor {tensor.label} holds {size} bytes, but {tensor.datatype.name} of shape {tensor.dims} "
        f"takes {tensor.nbytes}",
        hint="the file is damaged; export it again",
    )
