"""Rewrites the tensors of an ONNX message, wherever they nest, and keeps every other byte as it is.

This one walk serves the scanner (file in, structure out) and everything that later moves references: what is not a
tensor is never decoded, so nothing that ONNX has, or will have, is lost on the way.
"""

from __future__ import annotations

from collections.abc import Callable

from lamella.errors import MalformedModelError
from lamella.graph.protobuf import LEN, MAX_DEPTH, len_prefix
from lamella.graph.schema import NESTED, SINGULAR, Kind
from lamella.graph.source import MemorySource, Source, source_fields
from lamella.graph.stored import INLINE_BYTES, Span, StoredTensor, read_stored_tensor

Replace = Callable[[StoredTensor], bytes | None]
"""Given a tensor, the fields that replace its payload and external data, or None to keep it as it is."""

Piece = bytes | Span

_EXTERNAL_MARK = b"location"  # the key without which no external data can be found, in every encoding of it
_MAX_STRUCTURE_BYTES = 2 << 30
_NONE: frozenset[int] = frozenset()


def rewrite(source: Source, kind: Kind, start: int, end: int, replace: Replace) -> bytes:
    """Copy the message at `[start, end)` with each of its tensors replaced.

    `replace` sees every tensor with a payload above `INLINE_BYTES` or with external data; smaller ones are kept.

    Raises:
        MalformedModelError: The message is broken or nested too deeply.
    """
    pieces, length = _message(source, kind, start, end, replace, 0)
    if length >= _MAX_STRUCTURE_BYTES:
        raise MalformedModelError(
            f"the model's structure alone takes {length} bytes, above the {_MAX_STRUCTURE_BYTES} of protobuf",
            hint="what is not a tensor must fit one protobuf message; is this an ONNX model?",
        )
    return b"".join(p if isinstance(p, bytes) else source.read(*p) for p in pieces)


def rewrite_bytes(data: bytes, kind: Kind, replace: Replace) -> bytes:
    """`rewrite` of a message in memory."""
    return rewrite(MemorySource(data), kind, 0, len(data), replace)


def _message(source: Source, kind: Kind, start: int, end: int, replace: Replace, depth: int) -> tuple[list[Piece], int]:
    if depth > MAX_DEPTH:
        raise MalformedModelError(
            f"messages nest deeper than {MAX_DEPTH} at byte {start}", hint="no exporter writes this; do not trust it"
        )
    nested, once, seen = NESTED[kind], SINGULAR.get(kind, _NONE), set[int]()
    pieces: list[Piece] = []
    length, verbatim = 0, start
    for number, wire, tag_start, value, stop in source_fields(source, start, end):
        child = nested.get(number) if wire == LEN else None
        if child is not None and number in once:
            if number in seen:
                raise twice(kind, number, tag_start)
            seen.add(number)
        if child is None or not (stop - value > INLINE_BYTES or _mentions_external(source, value, stop)):
            continue
        inner = _child(source, child, value, stop, replace, depth + 1)
        if inner is None:
            continue
        prefix = len_prefix(number, inner[1])
        pieces += [(verbatim, tag_start), prefix, *inner[0]]
        length += tag_start - verbatim + len(prefix) + inner[1]
        verbatim = stop
    pieces.append((verbatim, end))
    return pieces, length + end - verbatim


def twice(kind: Kind, number: int, position: int) -> MalformedModelError:
    """The error for a second message where one may be, which other readers would merge into the first."""
    return MalformedModelError(
        f"field {number} of {kind.value} at byte {position} comes twice",
        hint="no exporter writes this; do not trust it",
    )


def _mentions_external(source: Source, start: int, end: int) -> bool:
    data, base = source.window(start, end - start)
    return data.find(_EXTERNAL_MARK, start - base, end - base) >= 0


def _child(
    source: Source, kind: Kind, start: int, end: int, replace: Replace, depth: int
) -> tuple[list[Piece], int] | None:
    if kind is not Kind.TENSOR:
        return _message(source, kind, start, end, replace, depth)
    tensor = read_stored_tensor(source, start, end, f"at byte {start}")
    replacement = replace(tensor)
    if replacement is None:
        return None
    kept = sum(stop - begin for begin, stop in tensor.kept)
    return [*tensor.kept, replacement], kept + len(replacement)
