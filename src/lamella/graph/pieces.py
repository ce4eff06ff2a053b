"""Reads bytes that lie in pieces: what a part of a weight takes of every row."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from lamella.errors import MalformedModelError
from lamella.graph.references import Range

_BLOCK_BYTES = 4 << 20


def read_pieces(descriptor: int, place: Range) -> Iterator[bytes]:
    """The bytes at `place`, one piece after the other, in blocks of at most some megabytes.

    Small pieces are read with what lies between them, since a read of its own for each would take longer.

    Raises:
        MalformedModelError: The file ends before the last piece.
    """
    count = place.length // place.piece
    together = max(1, _BLOCK_BYTES // place.stride)
    for first in range(0, count, together):
        pieces = min(together, count - first)
        start, length = place.offset + first * place.stride, (pieces - 1) * place.stride + place.piece
        if pieces == 1:
            for position in range(start, start + length, _BLOCK_BYTES):
                yield _read(descriptor, position, min(_BLOCK_BYTES, start + length - position))
        else:
            block = _read(descriptor, start, length)
            yield np.ndarray((pieces, place.piece), np.uint8, block, strides=(place.stride, 1)).tobytes()


def _read(descriptor: int, position: int, length: int) -> bytes:
    data = os.pread(descriptor, length, position)
    if len(data) != length:
        raise MalformedModelError("a file of weights ended while it was read", hint="has it changed? plan again")
    return data
