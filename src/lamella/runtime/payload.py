"""The events that a slice's function takes, and its answers, as JSON: the one place that makes and reads them.

```text
event   {"frame": BASE64, "request_id": TEXT, "references": [REFERENCE...],
         "answer": {"inline_bytes": N, "store": URI, "prefix": "requests/ID/slice-1/"}}
answer  {"frame": BASE64, "references": [REFERENCE...], "timing": {...}}
ping    {"lamella": "ping"} -> {"lamella": "pong", "cold_start": BOOL}
```

A frame (`lamella.wire`) is nearly all of a payload. It comes first in what is written here, so that reading can take it
out before the rest is parsed as JSON; any other order, and any spacing, is read as well.
"""

from __future__ import annotations

import json
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from lamella.errors import InputError, LamellaError
from lamella.runtime import json_fields as fields
from lamella.runtime.timing import InitTiming, Timing
from lamella.tensors import Array, Tensors
from lamella.wire import Kind, decode, encode

Payload = bytes | Mapping[str, object]
"""As it travels, or as somebody else has parsed it."""

PING = b'{"lamella":"ping"}'
"""Asks an instance whether it is there; nothing is inferred."""

_LONGEST_PING = 64  # bytes, in anybody's spacing; longer events are not parsed to find out
_FRAME_FIRST = re.compile(rb'\s*\{\s*"frame"\s*:\s*"')
_BEHIND_FRAME = re.compile(rb'\s*(?:,(?=\s*")|(?=\}))')
_HINT = "an event has `request_id`, and tensors in `frame` or `references`"


@dataclass(frozen=True, slots=True)
class Reference:
    """A tensor in an object store.

    Attributes:
        name: The tensor's name.
        datatype: Name of its datatype.
        shape: Its dimensions.
        uri: Where its raw little-endian bytes lie; of text, as in a frame.
        size: How many they are.
        sha256: Their digest.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    uri: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where outputs go.

    Attributes:
        inline_bytes: Outputs that together are larger go to the store, the largest first.
        store: Which one; references in the event may come from there.
        prefix: What the keys of this request's outputs begin with.
    """

    inline_bytes: int
    store: str
    prefix: str


@dataclass(frozen=True, slots=True)
class Event:
    """What a slice's function is asked.

    Attributes:
        request_id: Of the request that it is a part of.
        tensors: The inputs that came along; read-only views of the event.
        references: The inputs that lie in a store.
        answer: Where outputs go; without, all come back in the answer.
    """

    request_id: str
    tensors: Tensors = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    answer: AnswerPlace | None = None


@dataclass(frozen=True, slots=True)
class SliceAnswer:
    """What it answers.

    Attributes:
        tensors: The outputs that came along.
        references: The outputs that lie in the store.
        timing: Where the time went.
    """

    tensors: dict[str, Array]
    references: tuple[Reference, ...]
    timing: Timing


def encode_event(event: Event) -> bytes:
    """An event as JSON; its tensors are copied into it once, and encoded."""
    document: dict[str, object] = {"request_id": event.request_id}
    if event.references:
        document["references"] = [asdict(reference) for reference in event.references]
    if event.answer is not None:
        document["answer"] = asdict(event.answer)
    return _joined(encode_frame(event.tensors, kind="inputs"), document)


def decode_event(payload: Payload) -> Event:
    """Read an event.

    Raises:
        InputError: It is none; the message says what is wrong.
    """
    frame, document = _split(payload)
    try:
        answer = document.get("answer")
        return Event(
            fields.text(document["request_id"]),
            _tensors(frame),
            _references(document),
            None if answer is None else _place(fields.members(answer)),
        )
    except (KeyError, TypeError) as error:
        raise _refused("event", error) from error


def encode_frame(tensors: Tensors, *, kind: Kind) -> bytes:
    """Tensors as a frame in base64.

    Raises:
        UnsupportedModelError: The wire has no datatype for one.
    """
    return b2a_base64(encode(tensors, kind=kind).to_bytes(), newline=False)


def encode_answer(frame: bytes, references: Sequence[Reference], timing: Timing) -> bytes:
    """An answer as JSON, around a frame from `encode_frame`."""
    return _joined(frame, _answer_members(references, timing))


def answer_document(frame: bytes, references: Sequence[Reference], timing: Timing) -> dict[str, object]:
    """The same as a document, for a runtime that serialises answers itself."""
    return {"frame": frame.decode("ascii"), **_answer_members(references, timing)}


def decode_answer(payload: Payload) -> SliceAnswer:
    """Read an answer.

    Raises:
        InputError: It is none; the message says what is wrong.
    """
    frame, document = _split(payload)
    try:
        return SliceAnswer(_tensors(frame), _references(document), _timing(fields.members(document["timing"])))
    except (KeyError, TypeError) as error:
        raise _refused("answer", error) from error


def is_ping(payload: object) -> bool:
    """Whether an event only asks for a sign of life. What is no event at all is no ping either."""
    if isinstance(payload, Mapping):
        return payload.get("lamella") == "ping"
    if not isinstance(payload, bytes):  # AWS's runtime client hands over whatever JSON came
        return False
    if len(payload) > _LONGEST_PING:
        return False
    try:
        return is_ping(fields.members(json.loads(payload)))
    except (ValueError, TypeError):
        return False


def pong(timing: Timing) -> dict[str, object]:
    """The answer to a ping."""
    return {"lamella": "pong", "cold_start": timing.cold_start}


def encode_pong(timing: Timing) -> bytes:
    """The same as JSON."""
    return json.dumps(pong(timing), separators=(",", ":")).encode()


class Failure(NamedTuple):
    """What an `errorMessage` of a function says."""

    message: str
    hint: str | None


def encode_error(error: LamellaError) -> str:
    """What goes into `errorMessage`: the message, and the hint on a line of its own."""
    return error.message if error.hint is None else f"{error.message}\nhint: {error.hint}"


def decode_error(text: str) -> Failure:
    """Message and hint from an `errorMessage`; of errors that are not Lamella's, all of it is the message."""
    message, mark, hint = text.partition("\nhint: ")
    return Failure(message, hint) if mark else Failure(text, None)


def _joined(frame: bytes, document: Mapping[str, object]) -> bytes:
    """A JSON object with `frame` in front: `json.dumps` would look at each of its characters, twice."""
    rest = json.dumps(document, separators=(",", ":")).encode()
    return b"".join((b'{"frame":"', frame, b'",', rest[1:]))


def _split(payload: Payload) -> tuple[bytes | memoryview | str | None, Mapping[str, object]]:
    """The frame, still in base64, and the members around it."""
    if not isinstance(payload, bytes):
        if not isinstance(payload, Mapping):
            raise InputError("a payload is no JSON object", hint=_HINT)
        return _frame_of(payload), payload
    found = _FRAME_FIRST.match(payload)
    if found is not None:
        start, end = found.end(), payload.find(b'"', found.end())
        behind = _BEHIND_FRAME.match(payload, end + 1) if end >= 0 else None
        if behind is not None and payload.find(b"\\", start, end) < 0:  # JSON may escape slashes, which base64 has
            return memoryview(payload)[start:end], _parsed(b"{" + payload[behind.end() :])
    document = _parsed(payload)
    return _frame_of(document), document


def _parsed(text: bytes) -> dict[str, object]:
    try:
        return fields.members(json.loads(text))
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"a payload is no JSON object: {error}", hint=_HINT) from error


def _frame_of(document: Mapping[str, object]) -> str | None:
    frame = document.get("frame")
    if frame is None or isinstance(frame, str):
        return frame
    raise InputError("`frame` is no text", hint="give a frame in base64")


def _tensors(frame: bytes | memoryview | str | None) -> dict[str, Array]:
    if not frame:
        return {}
    try:
        return decode(a2b_base64(frame))
    except (Base64Error, ValueError) as error:
        raise InputError(f"`frame` is no base64: {error}", hint="give a frame in base64") from error


def _references(document: Mapping[str, object]) -> tuple[Reference, ...]:
    return tuple(
        Reference(
            fields.text(entry["name"]),
            fields.text(entry["datatype"]),
            fields.sizes(entry["shape"]),
            fields.text(entry["uri"]),
            fields.size(entry["size"]),
            fields.text(entry["sha256"]),
        )
        for entry in fields.objects(document.get("references", []))
    )


def _place(entry: Mapping[str, object]) -> AnswerPlace:
    return AnswerPlace(fields.size(entry["inline_bytes"]), fields.text(entry["store"]), fields.text(entry["prefix"]))


def _answer_members(references: Sequence[Reference], timing: Timing) -> dict[str, object]:
    spent = {name: value for name, value in asdict(timing).items() if value is not None}
    return {"references": [asdict(reference) for reference in references], "timing": spent}


def _timing(entry: Mapping[str, object]) -> Timing:
    init = entry.get("init")
    return Timing(
        fields.number(entry["fetch_ms"]),
        fields.number(entry["decode_ms"]),
        fields.number(entry["infer_ms"]),
        fields.number(entry["encode_ms"]),
        fields.number(entry["put_ms"]),
        entry["cold_start"] is True,
        None if init is None else _init_timing(fields.members(init)),
    )


def _init_timing(entry: Mapping[str, object]) -> InitTiming:
    return InitTiming(
        fields.number(entry["import_ms"]), fields.number(entry["weights_ms"]), fields.number(entry["session_ms"])
    )


def _refused(what: str, error: Exception) -> InputError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return InputError(f"a payload is no {what} of a slice's function: {reason}", hint=_HINT)
