"""Where a scanner reads from: a file through small windows, or bytes in memory.

A memory map would be simpler, but the kernel maps the neighbours of every page that is touched ("fault-around"), and
the resident set of a 1 GB model grows by hundreds of megabytes. `pread` costs what it reads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from typing import Protocol

from lamella.graph.protobuf import (
    FIXED32,
    FIXED64,
    LEN,
    MAX_TAG,
    VARINT,
    Field,
    bad_tag,
    overrun,
    read_varint,
)

_HEADER_BYTES = 20  # the longest tag and length: two varints of ten bytes
_SMALLEST_WINDOW, _LARGEST_WINDOW = 4 << 10, 256 << 10


class Source(Protocol):
    """Bytes with random access."""

    size: int

    def window(self, position: int, need: int) -> tuple[bytes, int]:
        """Bytes that hold `[position, position + need)`, less only at the end, and the offset of their first."""
        ...

    def read(self, start: int, end: int) -> bytes:
        """Exactly the bytes `[start, end)`."""
        ...


class MemorySource:
    """A source over bytes that are there already. No I/O, no copy but in `read`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)

    def window(self, position: int, need: int) -> tuple[bytes, int]:
        """All of it."""
        return self.data, 0

    def read(self, start: int, end: int) -> bytes:
        """A copy of `[start, end)`."""
        return self.data[start:end]


class FileSource:
    """A source over an open file. One window is kept; it doubles while it is read on and shrinks after a jump."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.size = size
        self._descriptor = descriptor
        self._data, self._start = b"", 0
        self._length = _SMALLEST_WINDOW

    def window(self, position: int, need: int) -> tuple[bytes, int]:
        """A window from the cache, or one read from the file."""
        end = self._start + len(self._data)
        if not (self._start <= position and min(position + need, self.size) <= end):
            near = self._start <= position <= end + _LARGEST_WINDOW
            self._length = min(self._length * 2, _LARGEST_WINDOW) if near else _SMALLEST_WINDOW
            self._data = os.pread(self._descriptor, max(need, self._length), position)
            self._start = position
        return self._data, self._start

    def read(self, start: int, end: int) -> bytes:
        """Out of the window, or by one `pread` past it."""
        first = start - self._start
        if first >= 0 and end - self._start <= len(self._data):
            return self._data[first : end - self._start]
        return os.pread(self._descriptor, end - start, start)


@cache
def _run_of(tag: int, wire: int) -> re.Pattern[bytes]:
    """Matches consecutive fields with this one-byte tag: unpacked lists of numbers, at the speed of C."""
    value = {FIXED32: rb".{4}", FIXED64: rb".{8}", VARINT: rb"[\x80-\xff]{0,9}[\x00-\x7f]"}[wire]
    return re.compile(rb"(?:" + re.escape(bytes([tag])) + value + rb")+", re.DOTALL)


def source_fields(source: Source, start: int, end: int) -> Iterator[Field]:
    """Walk the fields of the message at `[start, end)`, like `protobuf.fields`, through windows.

    Payloads are passed over without being read. A run of unpacked numbers comes as one field.

    Raises:
        MalformedModelError: A field runs past the message, or has no legal tag.
    """
    position = start
    data, base, limit = b"", 0, 0
    while position < end:
        if position + _HEADER_BYTES > base + limit or position < base:
            data, base = source.window(position, min(_HEADER_BYTES, end - position))
            limit = min(end - base, len(data))
        tag_start = position
        here = position - base
        tag = data[here] if here < limit else 0x80
        here += 1
        if tag > 0x7F:
            tag, here = read_varint(data, here - 1, limit, base)
            if tag > MAX_TAG:
                raise bad_tag(tag, tag_start)
        wire = tag & 7
        if wire == LEN:
            length = data[here] if here < limit else 0x80
            here += 1
            if length > 0x7F:
                length, here = read_varint(data, here - 1, limit, base)
            value = base + here
            position = value + length
        elif wire == VARINT:
            value, here = read_varint(data, here, limit, base)
            position = _run_end(data, tag_start - base, here, limit, tag) + base
        elif wire == FIXED32 or wire == FIXED64:
            value = base + here
            here += 4 if wire == FIXED32 else 8
            position = _run_end(data, tag_start - base, here, limit, tag) + base
        else:
            raise bad_tag(tag, tag_start)
        if position > end or tag < 8:
            raise overrun(tag >> 3, tag_start, position - end)
        yield tag >> 3, wire, tag_start, value, position


def _run_end(data: bytes, start: int, end: int, limit: int, tag: int) -> int:
    """Where the run of equal tags that starts with the field at `data[start:end]` ends."""
    if end < limit and tag < 0x80 and data[end] == tag and data[start] == tag:
        match = _run_of(tag, tag & 7).match(data, start, limit)
        if match is not None:
            return max(end, match.end())
    return end
