"""References to weights inside a structure: how they are written, and found again."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lamella.graph.protobuf import encode_int, encode_len
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
    entries = {"location": place.location, "offset": str(place.offset), "length": str(place.length)}
    if place.coding is not None:
        entries["coding"] = place.coding
    encoded = (encode_len(Entry.KEY, k) + encode_len(Entry.VALUE, v) for k, v in entries.items())
    return b"".join([encode_len(Tensor.EXTERNAL_DATA, e) for e in encoded]) + _EXTERNAL


_EXTERNAL = encode_int(Tensor.DATA_LOCATION, 1)
_LENGTH = rb"[\x80-\xff]{0,4}[\x00-\x7f]"
_REFERENCE = re.compile(
    rb"\x6a%(n)s\x0a\x08location\x12%(n)s([^\x00-\x1f]+?)"
    rb"\x6a%(n)s\x0a\x06offset\x12%(n)s(\d{1,19})\x6a%(n)s\x0a\x06length\x12%(n)s(\d{1,19})"
    rb"(?:\x6a%(n)s\x0a\x06coding\x12%(n)s(\w+))?\x70\x01" % {b"n": _LENGTH},
    re.DOTALL,
)


def find_references(data: bytes) -> list[Range]:
    """What looks like a reference that `encode_external` wrote into `data`, at the speed of C.

    Text in a hostile model may look like one too, or hide one: see whether each is a range in a known file.
    """
    return [
        Range(found[1].decode(errors="replace"), int(found[2]), int(found[3]), found[4].decode() if found[4] else None)
        for found in _REFERENCE.finditer(data)
    ]
