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
        piece: Where not 0, the bytes are no single run: they come in pieces of this many bytes.
        stride: From the start of one piece to the start of the next.
    """

    location: str
    offset: int
    length: int
    coding: str | None = None
    piece: int = 0
    stride: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether a tensor's elements lie there as they are, in one run: only such a range reaches an engine."""
        return self.coding is None and not self.piece


def encode_external(place: Range) -> bytes:
    """The fields of a TensorProto that say where its payload lies.

    `coding` and `piece` add entries of Lamella's own; such tensors never reach ONNX Runtime.
    """
    coding = b"" if place.coding is None else _entry(_CODING, place.coding)
    pieces = b"" if not place.piece else _entry(_PIECE, str(place.piece)) + _entry(_STRIDE, str(place.stride))
    offset, length = _entry(_OFFSET, str(place.offset)), _entry(_LENGTH_KEY, str(place.length))
    return _entry(_LOCATION, place.location) + offset + length + coding + pieces + _EXTERNAL


def _entry(key: bytes, value: str) -> bytes:
    return encode_len(Tensor.EXTERNAL_DATA, key + encode_len(Entry.VALUE, value))


_LOCATION, _OFFSET, _LENGTH_KEY, _CODING, _PIECE, _STRIDE = (
    encode_len(Entry.KEY, key) for key in ("location", "offset", "length", "coding", "piece", "stride")
)
_EXTERNAL = encode_int(Tensor.DATA_LOCATION, 1)
_LENGTH = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_FIELDS = (
    rb"\x6a%(n)s\x0a\x08location\x12%(n)s(?P<location>[^\x00-\x1f]+?)"
    rb"\x6a%(n)s\x0a\x06offset\x12%(n)s(?P<offset>\d{1,19})"
    rb"\x6a%(n)s\x0a\x06length\x12%(n)s(?P<length>\d{1,19})"
    rb"(?:\x6a%(n)s\x0a\x06coding\x12%(n)s(?P<coding>\w+))?"
    rb"(?:\x6a%(n)s\x0a\x05piece\x12%(n)s(?P<piece>\d{1,19})"
    rb"\x6a%(n)s\x0a\x06stride\x12%(n)s(?P<stride>\d{1,19}))?\x70\x01" % {b"n": _LENGTH}
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
    location, coding = found["location"].decode(errors="replace"), found["coding"]
    offset, length, piece, stride = (int(found[key] or 0) for key in ("offset", "length", "piece", "stride"))
    return Range(location, offset, length, coding.decode() if coding else None, piece, stride)


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
