"""Decodes typed fields of tensors (`int32_data` and its like), whose elements are varints, to raw bytes."""

from __future__ import annotations

import os
from typing import BinaryIO

import numpy as np

from lamella.errors import MalformedModelError
from lamella.graph.payloads import wrong_size
from lamella.graph.references import Range
from lamella.graph.stored import StoredTensor
from lamella.tensors import Array

_BLOCK_BYTES = 1 << 20


def write_decoded(source: int, place: Range, tensor: StoredTensor, target: BinaryIO) -> None:
    """Decode the varints at `place` of the open file `source` and append them to `target`, a block at a time.

    Types of less than 32 bits travel as one varint an element; types of 4 bits as one varint a byte of two.

    Raises:
        MalformedModelError: A varint has no end, or their number does not match the tensor's shape.
    """
    dtype = np.dtype(f"<u{max(8, tensor.datatype.bits) // 8}")
    written, rest = 0, b""
    for start in range(0, place.length, _BLOCK_BYTES):
        block = rest + os.pread(source, min(_BLOCK_BYTES, place.length - start), place.offset + start)
        values, used = decode_varints(block)
        rest = block[used:]
        written += target.write(values.astype(dtype).tobytes())
        if written > tensor.nbytes:
            break
    if rest or written != tensor.nbytes:
        raise wrong_size(tensor, written)


def decode_varints(data: bytes) -> tuple[Array, int]:
    """The complete varints at the start of `data`, as uint64 of shape `[count]`, and the bytes that they took.

    Raises:
        MalformedModelError: A varint is longer than ten bytes.
    """
    raw = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(raw < 0x80)
    if not ends.size:
        if raw.size > 10:
            raise MalformedModelError("broken protobuf: a number has no end", hint="the file is damaged")
        return np.empty(0, np.uint64), 0
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > 10:
        raise MalformedModelError("broken protobuf: a number has no end", hint="the file is damaged")
    values = np.zeros(ends.size, np.uint64)
    for step in range(int(lengths.max())):
        inside = lengths > step
        values[inside] |= (raw[starts[inside] + step].astype(np.uint64) & np.uint64(0x7F)) << np.uint64(7 * step)
    return values, int(ends[-1]) + 1
