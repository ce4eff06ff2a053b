"""A door in front of slices that invoke each other: real packages on the local platform, and a bucket."""

import json
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote_plus
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tests import models
from tests.functional.doors import Deployed, binary, bucket, deploy, local_platform

import lamella
from lamella.runtime.protocol import HEADER_LENGTH
from lamella.stores.base import Store
from lamella.stores.opening import open_store
from lamella.targets.local.platform import LocalPlatform
from lamella.wire import decode_parts, encode

WIDTH = 64
X = np.linspace(-1, 1, 2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
EVENTS = {"inputs": "inbox/", "results": "outbox/"}
RECORDED = Path(__file__).parent / "events"


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.fixture(scope="module")
def place(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with bucket(patch) as (uri, _):
        yield uri


@pytest.fixture(scope="module")
def store(place: str) -> Store:
    return open_store(place)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("door")


@pytest.fixture(scope="module")
def platform(folder: Path) -> Iterator[LocalPlatform]:
    with local_platform(folder / "platform") as local:
        yield local


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return models.mlp(folder / "mlp.onnx", width=WIDTH)


def sliced(model: Path, slices: int) -> Path:
    directory = model.parent / f"slices-{slices}"
    lamella.slice(model, directory, slices=slices, verify=False)
    return directory


@pytest.fixture(scope="module")
def expected(model: Path) -> Any:
    with lamella.Pipeline(model) as pipeline:
        return pipeline.infer({"x": X})["y"]


@pytest.fixture(scope="module")
def three(model: Path) -> Path:
    return sliced(model, 3)


@pytest.fixture(scope="module")
def chained(platform: LocalPlatform, three: Path, folder: Path, place: str) -> Deployed:
    return deploy(platform, three, name="mlp", store=place, cache=folder / "cache", events=EVENTS)


@pytest.fixture(scope="module")
def tight(platform: LocalPlatform, three: Path, folder: Path, place: str) -> Deployed:
    """The same with hardly any room in an event."""
    return deploy(platform, three, name="tight", store=place, cache=folder / "cache", inline_bytes=64)


@pytest.fixture(scope="module")
def single(platform: LocalPlatform, model: Path, folder: Path, place: str) -> Deployed:
    one = sliced(model, 1)
    return deploy(platform, one, name="one", store=place, cache=folder / "cache", events=EVENTS)


@pytest.fixture(params=["chained", "tight", "single"])
def deployed(request: pytest.FixtureRequest) -> tuple[str, Deployed]:
    name = {"chained": "mlp", "tight": "tight", "single": "one"}[request.param]
    return name, request.getfixturevalue(request.param)


def given(**parameters: Any) -> dict[str, Any]:
    entry = {"name": "x", "shape": list(X.shape), "datatype": "FP32", "data": X.ravel().tolist()}
    return {"id": "mine", "inputs": [entry], **({"parameters": parameters} if parameters else {})}


def keys(store: Store) -> list[str]:
    return [entry.key for entry in store.list("requests/")]


def test_json_and_binary_requests_give_what_a_pipeline_gives(
    deployed: tuple[str, Deployed], expected: Any, store: Store
) -> None:
    name, door = deployed
    status, found = door.infer(name, given())
    assert (status, found["model_name"], found["id"]) == (200, name, "mine")
    np.testing.assert_allclose(np.reshape(found["outputs"][0]["data"], expected.shape), expected, rtol=1e-6)
    body, headers = binary(encode({"x": X}))
    wanted = json.loads(body[: int(headers[HEADER_LENGTH.lower()])]) | {"parameters": {"binary_data_output": True}}
    header = json.dumps(wanted).encode()
    sent = header + X.tobytes()
    status, content, answered = door.http(
        "POST", f"/v2/models/{name}/infer", sent, {HEADER_LENGTH.lower(): str(len(header))}
    )
    assert (status, answered["Content-Type"]) == (200, "application/octet-stream")
    end = int(answered[HEADER_LENGTH])
    np.testing.assert_allclose(decode_parts(content[:end], content[end:])["y"], expected, rtol=1e-6)
    assert keys(store) == []


def test_health_and_metadata(deployed: tuple[str, Deployed]) -> None:
    name, door = deployed
    for path in ("/v2/health/live", "/v2/health/ready", f"/v2/models/{name}/ready"):
        assert door.http("GET", path)[0] == 200
    status, content, _ = door.http("GET", f"/v2/models/{name}")
    found = json.loads(content)
    assert (status, found["name"]) == (200, name)
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, WIDTH]}]
    assert json.loads(door.http("GET", "/v2")[1])["extensions"] == ["binary_tensor_data"]
    status, content, _ = door.http("GET", f"/v2/models/{name}/versions/{found['versions'][0]}")
    assert (status, json.loads(content)) == (200, found)


def test_what_is_wrong_is_said_with_its_status(deployed: tuple[str, Deployed]) -> None:
    name, door = deployed
    narrow = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    for status, method, path, body, said in (
        (404, "GET", "/v2/models/nobody", {}, "there is no model `nobody`"),
        (404, "GET", f"/v2/models/{name}/versions/99", {}, "no version 99"),
        (404, "GET", "/v1", {}, "nothing at `/v1`"),
        (404, "GET", "/v2/nothing", {}, "nothing at `/v2/nothing`"),
        (404, "GET", f"/v2/requests/{'0' * 32}", {}, "there is no request"),
        (404, "GET", "/v2/requests/..", {}, "there is no request"),
        (405, "DELETE", f"/v2/models/{name}", {}, "does not take DELETE"),
        (400, "POST", f"/v2/models/{name}/infer", {"inputs": [narrow]}, "has shape [1, 2]"),
        (400, "POST", f"/v2/models/{name}/infer", {"inputs": []}, "input `x` is missing"),
        (400, "POST", f"/v2/models/{name}/infer", {}, "no list of `inputs`"),
        (400, "POST", f"/v2/models/{name}/infer", {**given(), "outputs": [{"name": "z"}]}, "no output `z`"),
        (400, "POST", f"/v2/models/{name}/infer", given(slice=1), "whole models"),
    ):
        found, content, _ = door.http(method, path, json.dumps(body).encode())
        assert (found, said in json.loads(content)["error"]) == (status, True), (path, content)
        assert json.loads(content)["hint"]


def test_large_tensors_go_around_the_door(tight: Deployed, expected: Any, store: Store) -> None:
    """In by a URL that the door signs, out by another."""
    status, content, _ = tight.http("POST", "/lamella/uploads")
    upload = json.loads(content)
    assert status == 201
    headers = {"Content-Type": "application/octet-stream"}
    with urlopen(Request(upload["url"], X.tobytes(), headers, method="PUT"), timeout=20) as put:
        assert put.status == 200
    parameters = {"uri": upload["uri"], "sha256": sha256(X.tobytes()).hexdigest()}
    entry = {"name": "x", "shape": list(X.shape), "datatype": "FP32", "parameters": parameters}
    status, found = tight.infer("tight", {"inputs": [entry], "parameters": {"references": True}})
    assert status == 200
    (output,) = found["outputs"]
    with urlopen(output["parameters"]["url"], timeout=20) as got:
        raw = got.read()
    assert sha256(raw).hexdigest() == output["parameters"]["sha256"]
    np.testing.assert_allclose(np.frombuffer(raw, np.float32).reshape(output["shape"]), expected, rtol=1e-6)
    store.delete_all("requests/")
    for wrong, said in (
        ({**parameters, "sha256": "0" * 64}, "there is no object"),
        ({**parameters, "uri": "s3://other/requests/x"}, "where no inputs are"),
        ({**parameters, "uri": upload["uri"].replace("requests/", "weights/")}, "where no inputs are"),
        ({"uri": upload["uri"]}, "incomplete"),
    ):
        status, found = tight.infer("tight", {"inputs": [{**entry, "parameters": wrong}]})
        assert (status in (400, 502), said in found["error"]) == (True, True), found


def test_requests_are_answered_later(deployed: tuple[str, Deployed], expected: Any, store: Store) -> None:
    name, door = deployed
    status, content, headers = door.http(
        "POST", f"/v2/models/{name}/infer", json.dumps(given()).encode(), {"prefer": "respond-async"}
    )
    assert (status, json.loads(content)["status"]) == (202, "running")
    status, found = until_answered(door, headers["Location"])
    assert status == 200
    np.testing.assert_allclose(np.reshape(found["outputs"][0]["data"], expected.shape), expected, rtol=1e-6)
    wrong = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
    _, _, headers = door.http(
        "POST", f"/v2/models/{name}/infer", json.dumps(wrong).encode(), {"prefer": "respond-async"}
    )
    status, found = until_answered(door, headers["Location"])
    assert (status, "has shape [1]" in found["error"]) == (400, True)
    deadline = monotonic() + 60
    while keys(store):  # the answer is there first: nothing is lost if the function ends in between
        assert monotonic() < deadline


def until_answered(door: Deployed, location: str) -> tuple[int, dict[str, Any]]:
    deadline = monotonic() + 60
    while True:
        status, content, _ = door.http("GET", location)
        if status != 202:
            return status, json.loads(content)
        assert monotonic() < deadline


def queue_event(**bodies: str) -> dict[str, Any]:
    """Messages by their id."""
    (record,) = json.loads((RECORDED / "sqs.json").read_text())["Records"]
    return {"Records": [{**record, "messageId": name, "body": body} for name, body in bodies.items()]}


def notification(key: str, size: int) -> str:
    """What S3 says of a new object."""
    content = json.loads((RECORDED / "s3.json").read_text())
    place = content["Records"][0]["s3"]
    place["bucket"]["name"] = "deployment"
    place["object"] |= {"key": quote_plus(key, safe="/"), "size": size}
    return json.dumps(content)


@pytest.mark.parametrize("which", ["chained", "single"])
def test_objects_are_answered_and_only_what_failed_comes_again(
    which: str, request: pytest.FixtureRequest, expected: Any, store: Store
) -> None:
    door: Deployed = request.getfixturevalue(which)
    buffer = BytesIO()
    np.save(buffer, X)
    good, bad = "inbox/a folder/größe+1.npy", "inbox/bad.npy"
    store.put(good, buffer.getvalue())
    store.put(bad, b"no array")
    test_event = json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "deployment"})
    found = door.ask(
        queue_event(
            one=notification(good, 600),
            two=notification(bad, 8),
            three=test_event,
            four=notification("inbox/gone.npy", 8),
            five="no JSON",
            six=notification("elsewhere/x.npy", 8),
        )
    )
    assert found == {"batchItemFailures": [{"itemIdentifier": name} for name in ("two", "five", "six")]}
    answers = [entry.key for entry in store.list("outbox/")]
    assert answers == ["outbox/a folder/größe+1.npy.json"]
    content = json.loads(store.get(answers[0]))
    assert content["parameters"]["key"] == good
    np.testing.assert_allclose(np.reshape(content["outputs"][0]["data"], expected.shape), expected, rtol=1e-6)
    store.delete_all("inbox/")
    store.delete_all("outbox/")


def test_a_schedule_keeps_every_slice_warm(chained: Deployed, single: Deployed) -> None:
    assert chained.ask({"lamella": "warm"}) == {"lamella": "pong", "functions": 3, "failed": {}}
    assert single.ask({"lamella": "warm"}) == {"lamella": "pong", "functions": 0, "failed": {}}
    assert chained.ask({"lamella": "ping"}) == {"lamella": "pong"}


def test_a_slice_that_fails_is_named(
    platform: LocalPlatform, three: Path, folder: Path, place: str, store: Store
) -> None:
    """However many functions are between it and the door."""
    door = deploy(platform, three, name="broken", store=place, cache=folder / "cache")
    functions = {status.name for status in platform.functions()}
    assert "broken-slice-2" in functions
    platform.delete("broken-slice-2")
    status, found = door.infer("broken", given())
    assert status == 502
    assert found["error"].startswith("slice 2 (`arn:aws:lambda:")
    assert "ResourceNotFoundException" in found["error"]
    assert found["type"] == "RemoteError"
    assert keys(store) == []


def test_a_single_slice_still_answers_as_one(single: Deployed, expected: Any) -> None:
    from lamella.runtime.payload import Event, decode_answer, encode_event

    found = single.platform.invoke(single.door, encode_event(Event("r", {"x": X})))
    np.testing.assert_allclose(decode_answer(found.payload).tensors["y"], expected, rtol=1e-6)
