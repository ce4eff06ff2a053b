"""HTTP as front doors on AWS hand it over, and as they take it back."""

import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from lamella.errors import InputError, LamellaError
from lamella.runtime.door.http import (
    PAYLOAD_BYTES,
    HttpAnswer,
    TooLargeError,
    is_http,
    json_answer,
    read_http,
    refusal,
    write_http,
)

RECORDED = Path(__file__).parents[3] / "functional" / "events"
NAMES = ("http_api_v2.json", "function_url.json")


def recorded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / name).read_text())
    return found


@pytest.mark.parametrize("name", NAMES)
def test_recorded_events_are_read(name: str) -> None:
    event = recorded(name)
    assert is_http(event)
    found = read_http(event)
    assert (found.method, found.path, found.body) == ("POST", "/my/path", event["body"].encode())
    assert found.headers == {"header1": "value1", "header2": "value1,value2"}


def test_only_an_api_gives_up_early() -> None:
    api, url = (read_http(recorded(name)).longest_s for name in NAMES)
    assert api is not None
    assert 20 < api < 30
    assert url is None


@pytest.mark.parametrize("name", ["sqs.json", "s3.json"])
def test_other_events_are_no_http(name: str) -> None:
    assert not is_http(recorded(name))


def test_a_body_may_be_base64_and_a_path_has_its_stage_in_front() -> None:
    event = recorded(NAMES[0]) | {"body": "/wA=", "isBase64Encoded": True, "rawPath": "/prod/v2/models/a%20b"}
    event["requestContext"]["stage"] = "prod"
    found = read_http(event)
    assert (found.body, found.path) == (b"\xff\x00", "/v2/models/a b")
    event["rawPath"] = "/production"
    assert read_http(event).path == "/production"
    event["rawPath"] = "/prod"
    assert read_http(event).path == "/"


def test_an_event_without_headers_or_body_is_read() -> None:
    event = {name: value for name, value in recorded(NAMES[0]).items() if name not in ("headers", "body")}
    assert (read_http(event).headers, read_http(event).body) == ({}, b"")


@pytest.mark.parametrize(
    "broken",
    [{"rawPath": 3}, {"body": "A", "isBase64Encoded": True}, {"requestContext": {"http": {}}}, {"headers": ["a"]}],
)
def test_what_is_no_request_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no HTTP request"):
        read_http(recorded(NAMES[0]) | broken)


def test_answers_are_text_or_base64() -> None:
    plain = write_http(json_answer({"größe": 1}, 202, {"Location": "/x"}))
    assert (plain["statusCode"], plain["isBase64Encoded"]) == (202, False)
    assert json.loads(str(plain["body"])) == {"größe": 1}
    assert plain["headers"] == {"Content-Type": "application/json", "Location": "/x"}
    raw = write_http(HttpAnswer(200, b"\xff\x00", {}, "application/octet-stream"))
    assert (raw["isBase64Encoded"], b64decode(str(raw["body"]))) == (True, b"\xff\x00")
    large = write_http(HttpAnswer(200, b"1" * (2 << 20)))
    assert (large["isBase64Encoded"], len(b64decode(str(large["body"])))) == (True, 2 << 20)


def test_the_largest_answer_fits_and_one_larger_says_the_way_out() -> None:
    most = (PAYLOAD_BYTES - (8 << 10)) // 4 * 3
    fits = write_http(HttpAnswer(200, bytes(most), {}, "application/octet-stream"))
    assert len(json.dumps(fits)) <= PAYLOAD_BYTES
    with pytest.raises(TooLargeError, match="functions may answer with") as caught:
        write_http(HttpAnswer(200, bytes(most + 1), {}, "application/octet-stream"))
    refused = refusal(caught.value)
    assert refused.status == 413
    assert "respond-async" in json.loads(refused.body)["hint"]


def test_errors_are_the_protocol_s() -> None:
    found = refusal(LamellaError("no", hint="do this"))
    assert (found.status, json.loads(found.body)) == (
        400,
        {"error": "no", "hint": "do this", "type": "LamellaError"},
    )
