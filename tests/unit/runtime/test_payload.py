"""Events and answers come back as they were, however they were written down."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from lamella.errors import InputError, LamellaError
from lamella.runtime.frames import Payload, encode_frame
from lamella.runtime.payload import (
    PING,
    AnswerPlace,
    Chain,
    Event,
    Part,
    Reference,
    answer_document,
    decode_answer,
    decode_error,
    decode_event,
    decode_output,
    encode_answer,
    encode_error,
    encode_event,
    encode_parts,
    encode_pong,
    is_ping,
    timing_document,
)
from lamella.runtime.timing import InitTiming, Timing

TENSORS = {"größe": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "t": np.array(["a", ""], object)}
REFERENCE = Reference("big", "FP32", (3, 5), "file:///a/b", 60, "00" * 32)
EVENT = Event("id-1", TENSORS, (REFERENCE,), AnswerPlace(4_000_000, "file:///a", "requests/id-1/"))
TIMING = Timing(1.5, 2.5, 3.0, 4.0, 5.0, cold_start=True, init=InitTiming(100.0, 0.0, 20.0))

FORMS: dict[str, Callable[[bytes], Payload]] = {
    "as written": lambda payload: payload,
    "a document": json.loads,
    "indented": lambda payload: json.dumps(json.loads(payload), indent=2).encode(),
    "spaced": lambda payload: b" \n" + json.dumps(json.loads(payload)).encode() + b"\n ",
    "frame last": lambda payload: json.dumps(dict(reversed(json.loads(payload).items()))).encode(),
    "slashes escaped": lambda payload: payload.replace(b"/", b"\\/"),
    "frame escaped": lambda payload: payload[:10] + b"\\u%04x" % payload[10] + payload[11:],
}


@pytest.mark.parametrize("form", FORMS)
def test_an_event_comes_back(form: str) -> None:
    found = decode_event(FORMS[form](encode_event(EVENT)))
    assert (found.request_id, found.references, found.answer) == (EVENT.request_id, EVENT.references, EVENT.answer)
    assert found.tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert found.tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(found.tensors[name], array)


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_comes_back(form: str) -> None:
    frame = encode_frame(TENSORS, kind="outputs")
    found = decode_answer(FORMS[form](encode_answer(frame, [REFERENCE], TIMING)))
    assert (found.references, found.timing) == ((REFERENCE,), TIMING)
    np.testing.assert_array_equal(found.tensors["größe"], TENSORS["größe"])
    assert json.loads(encode_answer(frame, [REFERENCE], TIMING)) == json.loads(
        json.dumps(answer_document(frame, [REFERENCE], TIMING))
    )


def test_an_event_may_be_bare() -> None:
    for payload in (encode_event(Event("r")), b'{"request_id":"r"}', {"request_id": "r"}):
        assert decode_event(payload) == Event("r")
    assert "answer" not in json.loads(encode_event(Event("r")))
    assert "init" not in json.loads(encode_answer(b"", [], Timing()))["timing"]
    assert decode_answer(encode_answer(b"", [], Timing())).timing == Timing()


def test_tensors_are_views_of_one_decoded_frame() -> None:
    array = np.arange(1000, dtype=np.float32)
    found = decode_event(encode_event(Event("r", {"a": array, "b": array}))).tensors
    owners = {id(np.asarray(tensor).base) for tensor in found.values()}
    assert None not in owners
    assert not found["a"].flags.writeable


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is no JSON object"),
        (b"[]", "is no JSON object: expected an object, found list"),
        (b"[" * 100_000, "is no JSON object"),
        (b"\xff", "is no JSON object"),
        (b'{"frame":"', "is no JSON object"),
        (b'{"frame":"AA=="', "is no JSON object"),
        (b'{"frame":"AA==" "request_id":"r"}', "is no JSON object"),
        (b'{"frame":"AA==",}', "is no JSON object"),
        (b'{"frame":"AA==",,"request_id":"r"}', "is no JSON object"),
        (b"{}", "it has no 'request_id'"),
        (b'{"request_id":7}', "expected text, found int"),
        (b'{"request_id":"r","frame":[]}', "`frame` is no text"),
        (b'{"request_id":"r","frame":"A"}', "`frame` is no base64"),
        ('{"request_id":"r","frame":"\u00e9"}'.encode(), "cannot hold its header"),
        (b'{"request_id":"r","frame":"AA=="}', "cannot hold its header"),
        (b'{"request_id":"r","references":{}}', "expected a list, found dict"),
        (b'{"request_id":"r","references":[{}]}', "it has no 'name'"),
        (b'{"request_id":"r","answer":[]}', "expected an object, found list"),
        (b'{"request_id":"r","answer":{"inline_bytes":-1,"store":"","prefix":""}}', "expected a size, found -1"),
    ],
)
def test_what_is_no_event_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_event(payload)
    assert reason in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "timing", [None, {}, {"fetch_ms": "1"}, {**dict.fromkeys(["fetch_ms", "decode_ms"], True), "infer_ms": 0}]
)
def test_what_is_no_answer_is_refused(timing: object) -> None:
    with pytest.raises(InputError, match="is no answer of a slice's function"):
        decode_answer(json.dumps({"frame": "", "references": [], "timing": timing}).encode())


@pytest.mark.parametrize("payload", [PING, b'{ "lamella" : "ping" }', {"lamella": "ping"}])
def test_a_ping_is_one(payload: Payload) -> None:
    assert is_ping(payload)
    assert json.loads(encode_pong(Timing(cold_start=True))) == {"lamella": "pong", "cold_start": True}


@pytest.mark.parametrize(
    "payload",
    [b"", b"{", b"7", b"[]", b"\xff", b'{"lamella":"pong"}', b'{"lamella":["ping"]}', {}, encode_event(EVENT)],
)
def test_nothing_else_is_a_ping(payload: Payload) -> None:
    assert not is_ping(payload)


@pytest.mark.parametrize("error", [LamellaError("no"), LamellaError("no\nhint: x", hint="do\nthis")])
def test_message_and_hint_of_an_error_come_back(error: LamellaError) -> None:
    assert decode_error(encode_error(error)) == (error.message, error.hint)


def test_an_error_of_somebody_else_is_all_message() -> None:
    assert decode_error("list index\nout of range") == ("list index\nout of range", None)


@pytest.mark.parametrize("event", [[1], "x", None, 3])
def test_an_event_that_is_no_object_is_refused_also_when_somebody_else_parsed_it(event: object) -> None:
    assert not is_ping(event)
    with pytest.raises(InputError, match="no JSON object"):
        decode_event(event)  # type: ignore[arg-type]


PARTS = (
    Part(encode_frame({"x": TENSORS["größe"]}, kind="inputs"), {}, (REFERENCE,)),
    Part(encode_frame({"h": TENSORS["n"], "unused": TENSORS["t"]}, kind="outputs"), {}),
)
PARTED = Event("id-1", {}, (), EVENT.answer, PARTS, Chain({"0": ("h",), "1": ("y",)}, {"0": {"infer_ms": 1}}))


@pytest.mark.parametrize("form", [name for name in FORMS if name != "frame escaped"])
def test_parts_come_back_and_only_what_is_wanted_is_taken(form: str) -> None:
    found = decode_event(FORMS[form](encode_event(PARTED)))
    assert [sorted(part.tensors) for part in found.parts] == [["x"], ["h", "unused"]]
    assert found.chain == PARTED.chain
    for names, tensors, references in (({"h", "big"}, ["h"], ["big"]), ({"x"}, ["x"], []), (set(), [], [])):
        taken = found.taking(names)
        assert sorted(taken.tensors) == tensors
        assert [reference.name for reference in taken.references] == references
        assert (taken.parts, taken.answer) == ((), EVENT.answer)
    np.testing.assert_array_equal(found.taking({"x"}).tensors["x"], TENSORS["größe"])


def test_parts_are_passed_on_as_they_came() -> None:
    once = encode_event(PARTED)
    assert encode_event(decode_event(once)) == once
    assert encode_event(decode_event(json.loads(once))) == once


def test_an_event_without_parts_keeps_what_nobody_takes() -> None:
    assert EVENT.taking(()) is EVENT


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"request_id":"r","parts":[{"frame":"AA=="}]}', "cannot hold its header"),
        (b'{"request_id":"r","parts":{}}', "expected a list, found dict"),
        (b'{"request_id":"r","parts":[{"frame":"","references":[{}]}]}', "it has no 'name'"),
        (b'{"request_id":"r","chain":{}}', "it has no 'later'"),
        (b'{"request_id":"r","frame":"#0"}', "`frame` is no base64"),
        (b'{"request_id":"r","fr\\u0061me":"#7","parts":[{"frame":""}]}', "`frame` is no base64"),
    ],
)
def test_what_is_no_event_of_a_workflow_is_refused(payload: bytes, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_event(payload)
    assert reason in caught.value.message


def test_the_output_of_a_workflow_and_a_slice_s_own_answer_are_read_alike() -> None:
    frame = encode_frame({"y": TENSORS["n"]}, kind="outputs")
    whole = encode_parts([(frame, [REFERENCE])], {"request_id": "r", "timings": {"3": timing_document(TIMING)}})
    for name in FORMS.keys() - {"frame escaped"}:
        found = decode_output(FORMS[name](whole))
        assert (found.parts[0].references, found.timings) == ((REFERENCE,), {3: TIMING})
        np.testing.assert_array_equal(found.parts[0].tensors["y"], 7)
    alone = decode_output(encode_answer(frame, [REFERENCE], TIMING))
    assert (list(alone.parts[0].tensors), alone.timings) == (["y"], {0: TIMING})


@pytest.mark.parametrize("payload", [b"{}", b"[]", b'{"parts":3}', b'{"parts":[],"timings":{"x":{}}}'])
def test_what_is_no_output_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError):
        decode_output(payload)
