"""The weights of one slice, gathered into one file: which bytes of which files, and where they go.

Nothing but the slice's own weights is taken, and their order is that of the slice file, so that the same slice gives
the same bytes whether its directory refers to the model's files or holds copies, and whatever lies around them there.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lamella.errors import SlicesError
from lamella.slicing.copying import copy_range
from lamella.slicing.weights import PAGE_BYTES

ALIGNMENT_BYTES = 64
"""Where a weight begins: what the widest vector instructions load at once."""

_SHARED_BYTES = 1 << 16  # from this size on a weight keeps its place in a page, so that file systems can share pages
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a file, and where they begin in the gathered one."""

    source: Path
    offset: int
    length: int
    start: int


@dataclass(frozen=True)
class GatheredWeights:
    """A file of weights that may not have been written yet.

    Attributes:
        name: Its name.
        pieces: What it holds, in ascending order; zeros lie between.
    """

    name: str
    pieces: tuple[Piece, ...]

    @property
    def size(self) -> int:
        """Its size in bytes."""
        last = self.pieces[-1]
        return last.start + last.length

    @cached_property
    def sha256(self) -> str:
        """Its digest. Reads all weights once.

        Raises:
            SlicesError: A file ended before its weights did.
        """
        digest, position = hashlib.sha256(), 0
        with _Sources() as sources:
            for piece in self.pieces:
                digest.update(bytes(piece.start - position))
                for block in _blocks(sources.descriptor(piece.source), piece):
                    digest.update(block)
                position = piece.start + piece.length
        return digest.hexdigest()

    def write(self, path: Path) -> None:
        """Write it; the kernel copies, or shares whole pages where the file system can.

        Raises:
            OSError: Reading or writing failed.
        """
        with path.open("xb", buffering=0) as target, _Sources() as sources:
            target.truncate(self.size)
            for piece in self.pieces:
                lead = min(piece.length, -piece.offset % PAGE_BYTES)  # up to the first whole page
                for skip, length in ((0, lead), (lead, piece.length - lead)):
                    source = sources.descriptor(piece.source)
                    copy_range(source, target.fileno(), piece.offset + skip, piece.start + skip, length)

    def buffers(self) -> list[bytes | memoryview]:
        """Its bytes in a row, mapped from the files that they lie in: none is read yet."""
        maps: dict[Path, memoryview] = {}
        parts: list[bytes | memoryview] = []
        position = 0
        for piece in self.pieces:
            if piece.source not in maps:
                maps[piece.source] = _mapped(piece.source)
            parts += [bytes(piece.start - position), maps[piece.source][piece.offset : piece.offset + piece.length]]
            position = piece.start + piece.length
        return [part for part in parts if len(part)]


class UnreadWeights(GatheredWeights):
    """The same file before anything of it was read: a digest of the right length stands in for its own."""

    @cached_property
    def sha256(self) -> str:
        """Zeros."""
        return "0" * 64


def next_start(end: int, offset: int, length: int) -> int:
    """Where a weight begins that is put behind `end`, and lies at `offset` of its file now."""
    if length >= _SHARED_BYTES:
        return -(-end // PAGE_BYTES) * PAGE_BYTES + offset % PAGE_BYTES
    return -(-end // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


class _Sources(ExitStack):
    """Files that are open for reading until the end of a `with`."""

    def __init__(self) -> None:
        super().__init__()
        self._open: dict[Path, int] = {}

    def descriptor(self, path: Path) -> int:
        """The descriptor of a file, which is opened once."""
        if path not in self._open:
            self._open[path] = self.enter_context(path.open("rb", buffering=0)).fileno()
        return self._open[path]


def _blocks(descriptor: int, piece: Piece) -> Iterator[bytes]:
    for position in range(piece.offset, piece.offset + piece.length, _BLOCK_BYTES):
        wanted = min(_BLOCK_BYTES, piece.offset + piece.length - position)
        block = os.pread(descriptor, wanted, position)
        if len(block) != wanted:
            raise SlicesError(f"`{piece.source}` ended while it was read", hint="slice the model again")
        yield block


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return memoryview(b"")  # nothing can be mapped
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
