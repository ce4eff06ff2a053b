"""Large objects are written to S3 in parts, several at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

PART_BYTES = 64 << 20
"""Objects above this are written in parts. S3 takes 10,000 of them, and 5 GB at once."""

PARTS_AT_ONCE = 4


def parts_of(views: Sequence[memoryview]) -> Iterator[Sequence[memoryview]]:
    """The bytes of buffers in a row, in parts of `PART_BYTES`, as views."""
    part: list[memoryview] = []
    room = PART_BYTES
    for whole in views:
        view = whole
        while len(view) >= room:
            yield [*part, view[:room]]
            view, part, room = view[room:], [], PART_BYTES
        if view:
            part.append(view)
            room -= len(view)
    if part:
        yield part
