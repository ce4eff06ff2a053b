"""A TensorProto as it is stored: its description, and where its payload lies, without the payload."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from math import prod

from lamella.errors import MalformedModelError, UnsupportedModelError
from lamella.graph.payloads import MAX_RANK, PAYLOADS, check, too_many_dims
from lamella.graph.protobuf import (
    LEN,
    MAX_VARINT_BYTES,
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

_CODED = {Tensor.INT32_DATA: "int32_data", Tensor.INT64_DATA: "int64_data", Tensor.UINT64_DATA: "uint64_data"}
_REMOVED = PAYLOADS - {Tensor.STRING_DATA} | {Tensor.EXTERNAL_DATA, Tensor.DATA_LOCATION}
_MAX_ENTRIES, _MAX_ENTRY_BYTES = 32, 16 << 10
_STRANGE = "no exporter writes this; do not trust it"

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
        payloads: (field number, wire type, start, end) of each payload field in the source, but strings.
        strings: Number of its strings.
        segmented: Whether it is one segment of a larger tensor.
        external: Entries of `external_data`, if `data_location` is EXTERNAL, else None.
        kept: Spans of all other fields.
        where: What messages call it if it has no name.
    """

    name: str = ""
    data_type: int = 0
    dims: list[int] = field(default_factory=list)
    payloads: list[tuple[int, int, int, int]] = field(default_factory=list)
    strings: int = 0
    segmented: bool = False
    external: dict[str, str] | None = None
    kept: list[Span] = field(default_factory=list)
    where: str = ""

    @property
    def datatype(self) -> Datatype:
        """Its element type."""
        if self.data_type == 0:
            raise MalformedModelError(f"tensor {self.label} has no datatype", hint="export the model again")
        try:
            return datatype(self.data_type)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(f"tensor {self.label} has the {error.message}", hint=error.hint) from error

    @property
    def label(self) -> str:
        """Its name for messages."""
        return f"`{self.name}`" if self.name else self.where

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
        if wire != LEN or end - start <= INLINE_BYTES:
            return None
        return start, end - start, _CODED.get(number)


def read_stored_tensor(source: Source, start: int, end: int, where: str = "in an attribute") -> StoredTensor:
    """Read a TensorProto at `[start, end)` of `source`; its payload is passed over.

    `where` is what messages call a tensor without a name.

    Raises:
        MalformedModelError: The fields contradict each other or the shape is impossible.
        UnsupportedModelError: The tensor is stored in segments, or has an unknown datatype.
    """
    tensor = StoredTensor(where=where)
    dims: list[Span] = []
    entries: list[Span] = []
    location = 0
    for number, wire, tag_start, value, stop in source_fields(source, start, end):
        if number in PAYLOADS:
            _add_payload(tensor, number, wire, value, stop)
        elif number == Tensor.DIMS:
            _extend(dims, tag_start, stop)
        elif number == Tensor.DATA_TYPE and wire == VARINT:
            tensor.data_type = _last(source, tag_start, value, stop)
        elif number == Tensor.NAME and wire == LEN:
            tensor.name = text(source.read(value, stop), 0, stop - value, value)
        elif number == Tensor.DATA_LOCATION and wire == VARINT:
            location = _last(source, tag_start, value, stop)
        elif number == Tensor.EXTERNAL_DATA and wire == LEN:
            entries.append((value, stop))
        elif number == Tensor.SEGMENT:
            tensor.segmented = True
        if number not in _REMOVED:
            _extend(tensor.kept, tag_start, stop)
    tensor.dims = _read_dims(tensor, source, dims)
    if location:
        tensor.external = _read_entries(tensor, source, entries, location)
    check(tensor, source)
    return tensor


def _add_payload(tensor: StoredTensor, number: int, wire: int, value: int, stop: int) -> None:
    if number == Tensor.STRING_DATA and wire == LEN:
        tensor.strings += 1
    else:
        tensor.payloads.append((number, wire, value, stop))


def _extend(spans: list[Span], start: int, stop: int) -> None:
    """Add a span, joined to the last one if it follows it."""
    if spans and spans[-1][1] == start:
        start = spans.pop()[0]
    spans.append((start, stop))


def _last(source: Source, tag_start: int, value: int, stop: int) -> int:
    """The value of a number that may come several times in a row: the last one counts."""
    if stop - tag_start > 2:
        data = source.read(tag_start, stop)
        for _, _, _, found, _ in fields(data, 0, len(data)):
            value = found
    return value


def _read_dims(tensor: StoredTensor, source: Source, spans: list[Span]) -> list[int]:
    """Dimensions from `dims` fields, packed or not."""
    if sum(stop - start for start, stop in spans) > MAX_RANK * 2 * MAX_VARINT_BYTES:
        raise too_many_dims(tensor)
    dims: list[int] = []
    for start, stop in spans:
        data = source.read(start, stop)
        for _, wire, _, value, end in fields(data, 0, len(data)):
            if wire in (LEN, VARINT):
                dims += [signed(number) for number in packed_or_single(data, wire, value, end)]
    return dims


def _read_entries(tensor: StoredTensor, source: Source, spans: list[Span], location: int) -> dict[str, str]:
    """The entries of `external_data`; the last of each key counts."""
    if len(spans) > _MAX_ENTRIES:
        raise MalformedModelError(
            f"tensor {tensor.label} has {len(spans)} external data entries, more than {_MAX_ENTRIES}", hint=_STRANGE
        )
    longest = max((stop - start for start, stop in spans), default=0)
    if longest > _MAX_ENTRY_BYTES:
        raise MalformedModelError(
            f"tensor {tensor.label} has an external data entry of {longest} bytes, more than {_MAX_ENTRY_BYTES}",
            hint=_STRANGE,
        )
    entries = dict(read_entry(source.read(start, stop), start) for start, stop in spans)
    if location != 1:  # protobuf keeps only 32 bits of it, or an earlier value: others would see another tensor
        raise MalformedModelError(
            f"tensor {tensor.label} has data location {location}, which ONNX does not know",
            hint="export the model again",
        )
    if not entries.get("location"):
        raise MalformedModelError(
            f"tensor {tensor.label} lies outside the file, but names no file", hint="export the model again"
        )
    return entries


def read_entry(data: bytes, base: int = 0) -> tuple[str, str]:
    """Read a StringStringEntryProto that starts at byte `base` of its file."""
    match = _PLAIN_ENTRY.fullmatch(data)
    if match is not None and len(match[2]) == match[1][0] and len(match[4]) == match[3][0]:
        return text(match[2], 0, len(match[2])), text(match[4], 0, len(match[4]), base + match.start(4))
    key = value = ""
    for number, wire, _, start, stop in fields(data, 0, len(data)):
        if wire == LEN and number == Entry.KEY:
            key = text(data, start, stop, base)
        elif wire == LEN and number == Entry.VALUE:
            value = text(data, start, stop, base)
    return key, value
