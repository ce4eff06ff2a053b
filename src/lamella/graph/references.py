"""References to weights inside a structure: how they are written, and found again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamella.graph.protobuf import encode_int, encode_len, encode_varint, read_varint
from lamella.graph.schema import Entry, Tensor


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes in a file.

    Attributes:
        location: Key of the file in `Structure.files`.
        offset: First byte.
        length: Number of bytes.
        coding: The typed field whose varints these bytes are, or None where they are the elements themselves.
    """

    location: str
    offset: int
    length: int
    coding: str | None = None


def encode_external(place: Range) -> bytes:
    """The fields of a TensorProto that say where its payload lies.

    `coding` adds an entry of Lamella's own; such tensors never reach ONNX Runtime.
    """
    coding = b"" if place.coding is None else _entry(_CODING, place.coding)
    offset, length = _entry(_OFFSET, str(place.offset)), _entry(_LENGTH_KEY, str(place.length))
    return _entry(_LOCATION, place.location) + offset + length + coding + _EXTERNAL


def _entry(key: bytes, value: str) -> bytes:
    return encode_len(Tensor.EXTERNAL_DATA, key + encode_len(Entry.VALUE, value))


_LOCATION, _OFFSET, _LENGTH_KEY, _CODING = (
    encode_len(Entry.KEY, key) for key in ("location", "offset", "length", "coding")
)
_EXTERNAL = encode_int(Tensor.DATA_LOCATION, 1)
_LENGTH = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_FIELDS = (
    rb"\x6a%(n)s\x0a\x08location\x12%(n)s(?P<location>[^\x00-\x1f]+?)"
    rb"\x6a%(n)s\x0a\x06offset\x12%(n)s(?P<offset>\d{1,19})"
    rb"\x6a%(n)s\x0a\x06length\x12%(n)s(?P<length>\d{1,19})"
    rb"(?:\x6a%(n)s\x0a\x06coding\x12%(n)s(?P<coding>\w+))?\x70\x01" % {b"n": _LENGTH}
)
_REFERENCE = re.compile(_FIELDS, re.DOTALL)
_TENSOR = re.compile(
    rb"(?P<dims>(?:\x08%(n)s){0,16})\x10(?P<type>[\x01-\x7f])\x42(?P<name_length>%(n)s)(?P<name>.+?)" % {b"n": _LENGTH}
    + _FIELDS,
    re.DOTALL,
)


def find_references(data: bytes) -> list[Range]:
    """What looks like a reference that `encode_external` wrote into `data`, at the speed of C.

    Text in a hostile model may look like one too, or hide one: see whether each is a range in a known file.
    """
    return [_range(found) for found in _REFERENCE.finditer(data)]


def _range(found: re.Match[bytes]) -> Range:
    location, offset, length, coding = found.group("location", "offset", "length", "coding")
    return Range(location.decode(errors="replace"), int(offset), int(length), coding.decode() if coding else None)


def read_plain_reference(tensor: bytes) -> tuple[str, int, list[int], Range] | None:
    """Name, datatype, dims and range of a tensor in a structure, at the speed of C; None if it has anything else.

    For tensors that the scanner has checked: nearly all weights of nearly all models look like this.
    """
    found = _TENSOR.fullmatch(tensor)
    if found is None or found["name_length"] != encode_varint(len(found["name"])):
        return None
    dims, packed = [], found["dims"]
    position = 0
    while position < len(packed):
        dim, position = read_varint(packed, position + 1, len(packed))
        dims.append(dim)
    return found["name"].decode(), found["type"][0], dims, _range(found)
