"""The events that a slice's function takes, and its answers, as JSON: the one place that makes and reads them.

```text
event   {"frame": BASE64, "request_id": TEXT, "references": [REFERENCE...],
         "answer": {"inline_bytes": N, "store": URI, "prefix": "requests/ID/slice-1/"}}
         and, for what a workflow has collected so far, "parts": [{"frame": BASE64, "references": [REFERENCE...]}...],
         and, where each slice invokes the next, "chain": {"later": {"0": [NAME...], ...}, "timings": {"0": {...}}}
answer  {"frame": BASE64, "references": [REFERENCE...], "timing": {...}}
output  {"parts": [answer...], "request_id": TEXT, "timings": {"0": {...}, ...}}: of a whole workflow
ping    {"lamella": "ping"} -> {"lamella": "pong", "cold_start": BOOL}
```

Frames (`lamella.wire`) are nearly all of a payload. They are taken out before the rest is parsed as JSON, in whatever
order and spacing it comes. Of `parts` a function takes the values that it has inputs for, and leaves the others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from lamella.errors import InputError, LamellaError
from lamella.runtime import json_fields as fields
from lamella.runtime.frames import (
    HINT,
    Frame,
    Payload,
    encode_frame,
    frame_of,
    joined,
    names_in,
    split_payload,
    tensors_of,
)
from lamella.runtime.timing import InitTiming, Timing
from lamella.tensors import Array, Tensors

PING = b'{"lamella":"ping"}'
"""Asks an instance whether it is there; nothing is inferred."""

_LONGEST_PING = 64  # bytes, in anybody's spacing; longer events are not parsed to find out


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
class Part:
    """Values that came from one place: the caller, or a slice.

    Attributes:
        frame: Those that came along, in base64 as they came.
        tensors: The same; read-only views of the decoded frame.
        references: Those that lie in a store.
    """

    frame: Frame
    tensors: Tensors
    references: tuple[Reference, ...] = ()

    def has_any(self, names: Collection[str]) -> bool:
        """Whether one of these values is in it."""
        return any(name in names for name in (*self.tensors, *(reference.name for reference in self.references)))


@dataclass(frozen=True, slots=True)
class Chain:
    """What slices pass on that invoke each other.

    Attributes:
        later: By slice, in the order in which they run: the values that are needed when it has run.
        timings: By slice, what those have measured that ran.
    """

    later: Mapping[str, Sequence[str]]
    timings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """What a slice's function is asked.

    Attributes:
        request_id: Of the request that it is a part of.
        tensors: The inputs that came along; read-only views of the event.
        references: The inputs that lie in a store.
        answer: Where outputs go; without, all come back in the answer.
        parts: What a workflow has collected: inputs are among it, and values that this slice does not take.
        chain: Where slices invoke each other: what they pass on.
    """

    request_id: str
    tensors: Tensors = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    answer: AnswerPlace | None = None
    parts: tuple[Part, ...] = ()
    chain: Chain | None = None

    def taking(self, names: Collection[str]) -> Event:
        """The event with the values of these names taken out of its parts, and with nothing else of them."""
        if not self.parts:
            return self
        tensors = {name: array for part in self.parts for name, array in part.tensors.items() if name in names}
        references = (entry for part in self.parts for entry in part.references if entry.name in names)
        return replace(self, tensors={**tensors, **self.tensors}, references=(*self.references, *references), parts=())


@dataclass(frozen=True, eq=False)
class SliceAnswer:
    """What it answers. What came along is decoded when it is asked for: mostly it only travels on.

    Attributes:
        frame: The outputs that came along, in base64 as they came.
        references: The outputs that lie in the store.
        timing: Where the time went.
    """

    frame: Frame | None
    references: tuple[Reference, ...]
    timing: Timing

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs that came along.

        Raises:
            InputError: They are no frame.
        """
        return names_in(self.frame)

    @cached_property
    def tensors(self) -> dict[str, Array]:
        """The outputs that came along.

        Raises:
            InputError: They are no frame.
        """
        return tensors_of(self.frame)


def encode_event(event: Event, *, frames: Sequence[Frame] = ()) -> bytes:
    """An event as JSON; its tensors are copied into it once, and encoded.

    Args:
        event: The event.
        frames: What it has beside: tensors that came in base64, and go on so.
    """
    document: dict[str, object] = {"request_id": event.request_id}
    if event.references:
        document["references"] = [asdict(reference) for reference in event.references]
    if event.answer is not None:
        document["answer"] = asdict(event.answer)
    if event.chain is not None:
        document["chain"] = asdict(event.chain)
    own = encode_frame(event.tensors, kind="inputs")
    parts: list[tuple[Frame, Sequence[Reference]]] = [(frame, ()) for frame in frames]
    parts += [(part.frame, part.references) for part in event.parts]
    if not parts:
        return joined(own, document)
    return encode_parts([(own, ()), *parts] if event.tensors else parts, document)


def decode_event(payload: Payload) -> Event:
    """Read an event.

    Raises:
        InputError: It is none; the message says what is wrong.
    """
    document, frames = split_payload(payload)
    try:
        answer, chain = document.get("answer"), document.get("chain")
        return Event(
            fields.text(document["request_id"]),
            tensors_of(frame_of(document, frames)),
            _references(document),
            None if answer is None else _place(fields.members(answer)),
            tuple(_part(entry, frames) for entry in fields.objects(document.get("parts", []))),
            None if chain is None else _chain(fields.members(chain)),
        )
    except (KeyError, TypeError) as error:
        raise _refused("event", error) from error


def encode_answer(frame: bytes, references: Sequence[Reference], timing: Timing) -> bytes:
    """An answer as JSON, around a frame from `encode_frame`."""
    return joined(frame, _answer_members(references, timing))


def answer_document(frame: bytes, references: Sequence[Reference], timing: Timing) -> dict[str, object]:
    """The same as a document, for a runtime that serialises answers itself."""
    return {"frame": frame.decode("ascii"), **_answer_members(references, timing)}


def decode_answer(payload: Payload) -> SliceAnswer:
    """Read an answer.

    Raises:
        InputError: It is none; the message says what is wrong.
    """
    document, frames = split_payload(payload)
    try:
        frame, timing = frame_of(document, frames), read_timing(fields.members(document["timing"]))
        return SliceAnswer(frame, _references(document), timing)
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


def encode_parts(parts: Iterable[tuple[Frame, Sequence[Reference]]], document: Mapping[str, object]) -> bytes:
    """A JSON object with `parts` in front of what else is in it; no frame is looked at.

    Args:
        parts: Frames in base64, each with the references beside it.
        document: The other members.
    """
    pieces: list[bytes] = []
    for frame, references in parts:
        entry = {"references": [asdict(reference) for reference in references]}
        pieces.append(joined(frame, entry))
    rest = json.dumps(document, separators=(",", ":")).encode()
    return b"".join((b'{"parts":[', b",".join(pieces), b"],", rest[1:]))


@dataclass(frozen=True, slots=True)
class Output:
    """What a whole workflow has made.

    Attributes:
        parts: The values, some that nobody asked for among them.
        timings: By slice, what it has measured; empty where the workflow does not say.
    """

    parts: tuple[Part, ...]
    timings: Mapping[int, Timing]


def decode_output(payload: Payload) -> Output:
    """Read the output of a workflow, or the answer of a slice that is a workflow by itself.

    Raises:
        InputError: It is neither; the message says what is wrong.
    """
    document, frames = split_payload(payload)
    try:
        if "parts" not in document:
            return Output((_part(document, frames),), {0: read_timing(fields.members(document["timing"]))})
        timings = fields.members(document.get("timings", {}))
        return Output(
            tuple(_part(entry, frames) for entry in fields.objects(document["parts"])),
            {int(slice): read_timing(fields.members(timing)) for slice, timing in timings.items()},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise _refused("output", error) from error


def _part(entry: Mapping[str, object], frames: Sequence[memoryview]) -> Part:
    frame = frame_of(entry, frames)
    return Part(frame or b"", tensors_of(frame), _references(entry))


def _chain(entry: Mapping[str, object]) -> Chain:
    later = fields.members(entry["later"])
    names = {slice: tuple(fields.text(name) for name in fields.items(listed)) for slice, listed in later.items()}
    return Chain(names, fields.members(entry.get("timings", {})))


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
    return {"references": [asdict(reference) for reference in references], "timing": timing_document(timing)}


def timing_document(timing: Timing) -> dict[str, object]:
    """A timing as JSON values."""
    return {name: value for name, value in asdict(timing).items() if value is not None}


def read_timing(entry: Mapping[str, object]) -> Timing:
    """The inverse.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
    """
    init = entry.get("init")
    return Timing(
        fields.number(entry["fetch_ms"]),
        fields.number(entry["decode_ms"]),
        fields.number(entry["infer_ms"]),
        fields.number(entry["encode_ms"]),
        fields.number(entry["put_ms"]),
        entry["cold_start"] is True,
        None if init is None else _init_timing(fields.members(init)),
        fields.size(entry.get("put_bytes", 0)),
    )


def _init_timing(entry: Mapping[str, object]) -> InitTiming:
    return InitTiming(
        fields.number(entry["import_ms"]), fields.number(entry["weights_ms"]), fields.number(entry["session_ms"])
    )


def _refused(what: str, error: Exception) -> InputError:
    reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
    return InputError(f"a payload is no {what} of a slice's function: {reason}", hint=HINT)
