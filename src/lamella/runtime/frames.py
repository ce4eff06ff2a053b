"""JSON around frames: these are put in and taken out in base64, without being parsed or written as JSON.

That takes longer than the base64 itself, and frames are nearly all of a payload.
"""

from __future__ import annotations

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence

from lamella.errors import InputError
from lamella.runtime import json_fields as fields
from lamella.tensors import Array, Tensors
from lamella.wire import LENGTH_BYTES, Kind, decode, encode, names_of

Payload = bytes | Mapping[str, object]
"""As it travels, or as somebody else has parsed it."""

Frame = bytes | memoryview | str
"""A frame in base64."""

HINT = "an event has `request_id`, and tensors in `frame`, `references` or `parts`"

_FRAME = re.compile(rb'"frame"\s*:\s*"')  # in JSON, these quotes are in no text: there they are escaped
_CUT = "#"  # what stands in place of a frame begins so, as no base64 does


def encode_frame(tensors: Tensors, *, kind: Kind) -> bytes:
    """Tensors as a frame in base64.

    Raises:
        UnsupportedModelError: The wire has no datatype for one.
    """
    return b2a_base64(encode(tensors, kind=kind).to_bytes(), newline=False)


def joined(frame: Frame, document: Mapping[str, object]) -> bytes:
    """A JSON object with `frame` in front: `json.dumps` would look at each of its characters, twice."""
    rest = json.dumps(document, separators=(",", ":")).encode()
    given = frame.encode("ascii") if isinstance(frame, str) else frame
    return b"".join((b'{"frame":"', given, b'",', rest[1:]))


def split_payload(payload: Payload) -> tuple[Mapping[str, object], Sequence[memoryview]]:
    """The document, and the frames that were cut out of it.

    Raises:
        InputError: It is no JSON object.
    """
    if not isinstance(payload, bytes):
        if not isinstance(payload, Mapping):
            raise InputError("a payload is no JSON object", hint=HINT)
        return payload, ()
    view, frames, pieces, position = memoryview(payload), list[memoryview](), list[bytes | memoryview](), 0
    while (found := _FRAME.search(payload, position)) is not None:
        start, end = found.end(), payload.find(b'"', found.end())
        if end < 0 or payload.find(b"\\", start, end) >= 0:  # JSON may escape slashes, which base64 has
            return _parsed(payload), ()
        pieces += [view[position:start], b"%b%d" % (_CUT.encode(), len(frames))]
        frames.append(view[start:end])
        position = end
    return _parsed(b"".join((*pieces, view[position:])) if frames else payload), frames


def _parsed(text: bytes) -> dict[str, object]:
    try:
        return fields.members(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"a payload is no JSON object: {error}", hint=HINT) from error


def frame_of(document: Mapping[str, object], frames: Sequence[memoryview]) -> Frame | None:
    """The frame of an object in a document.

    Raises:
        InputError: It is no text.
    """
    frame = document.get("frame")
    if frame is None:
        return None
    if not isinstance(frame, str):
        raise InputError("`frame` is no text", hint="give a frame in base64")
    number = frame.removeprefix(_CUT)
    cut = frames and number != frame and number.isdecimal() and int(number) < len(frames)
    return frames[int(number)] if cut else frame


def tensors_of(frame: Frame | None) -> dict[str, Array]:
    """The tensors in a frame, as read-only views of what it decodes to.

    Raises:
        InputError: It is none.
    """
    if not frame:
        return {}
    try:
        return decode(a2b_base64(frame))
    except (Base64Error, ValueError) as error:
        raise _no_base64(error) from error


def names_in(frame: Frame | None) -> tuple[str, ...]:
    """Names of the tensors in a frame, of which no more than the header is decoded.

    Raises:
        InputError: It is none.
    """
    if not frame:
        return ()
    length = int.from_bytes(_decoded(frame, LENGTH_BYTES), "little")
    return names_of(_decoded(frame, LENGTH_BYTES + length)[LENGTH_BYTES:])


def bytes_in(frame: Frame | None) -> int:
    """Bytes of a frame before they were base64, give or take two."""
    return len(frame or b"") * 3 // 4


def _decoded(frame: Frame, size: int) -> bytes:
    """The first bytes of a frame."""
    try:
        found = a2b_base64(frame[: -(-size // 3) * 4])
    except (Base64Error, ValueError) as error:
        raise _no_base64(error) from error
    if len(found) < size:
        raise InputError("a frame cannot hold its header", hint="it was cut off on the way")
    return found[:size]


def _no_base64(error: Exception) -> InputError:
    return InputError(f"`frame` is no base64: {error}", hint="give a frame in base64")
