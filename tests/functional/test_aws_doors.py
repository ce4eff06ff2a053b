"""Doors of a deployment on AWS: its URL, an HTTP API, requests that are answered later, and objects in the bucket."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.http_api import http_api
from tests.functional.aws import X, client, everything, expected, keys, remove_all, sliced, target, wanted

from lamella.runtime.protocol import HEADER_LENGTH
from lamella.targets.aws.doors import ROUTES
from lamella.targets.aws.settings import ObjectEvents
from lamella.wire import decode_parts

NAME = "door"
CLAIMS = {"iss": "https://issuer.example", "aud": "lamella", "sub": "somebody"}
_PATIENCE_S = 60
_Found = TypeVar("_Found")


@dataclass
class Deployed:
    directory: Path
    outputs: dict[str, str]
    server: str

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        """Through the function's URL: its host is known to the server that stands for AWS, not to the network."""
        host = urlsplit(self.outputs["FunctionUrl"]).netloc
        sent = {"Host": host, "Content-Type": "application/json", **headers}
        request = Request(self.server + path, body, sent, method=method)
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except HTTPError as error:
            return error.code, json.loads(error.read())


@pytest.fixture(scope="module", params=[(1, False), (2, False), (1, True)], ids=["single", "express", "mounted"])
def deployed(request: pytest.FixtureRequest, aws: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("door")
    slices, on_mount = request.param
    if on_mount and os.geteuid() != 0:
        pytest.skip("only root may mount a file system for a function")
    directory = sliced(models.mlp(folder / "model.onnx"), folder / "slices", slices)
    delivery: dict[str, Any] = {"delivery": "mount"} if on_mount else {}
    kind: dict[str, Any] = {**delivery, "mount": "efs"} if on_mount else {}
    chosen = target(function_url=True, asynchronous=True, s3_events=ObjectEvents(batch_size=4), **kind)
    try:
        chosen.apply(wanted(NAME, directory, **delivery))
        yield Deployed(directory, dict(chosen.outputs(NAME)), aws)
        chosen.delete(NAME)
        assert everything(NAME) == []
    finally:
        remove_all()


def body(x: np.ndarray) -> bytes:
    given = {"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}
    return json.dumps({"inputs": [given]}).encode()


def assert_right(answer: dict[str, Any], deployed: Deployed, x: np.ndarray) -> None:
    (output,) = answer["outputs"]
    found = np.array(output["data"], np.float32).reshape(output["shape"])
    np.testing.assert_allclose(found, expected(deployed.directory, {"x": x})["y"], rtol=1e-4, atol=1e-5)


def awaited(look: Callable[[], _Found | None]) -> _Found:
    deadline = time.monotonic() + _PATIENCE_S
    while (found := look()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return found


def test_the_url_of_the_door_speaks_the_protocol(deployed: Deployed) -> None:
    assert deployed.ask("GET", "/v2/health/ready")[0] == 200
    status, described = deployed.ask("GET", "/v2/models/model")
    assert (status, [entry["name"] for entry in described["inputs"]]) == (200, ["x"])
    status, answer = deployed.ask("POST", "/v2/models/model/infer", body(X))
    assert status == 200, answer
    assert_right(answer, deployed, X)
    status, answer = deployed.ask("POST", "/v2/models/model/infer", body(X[:, :3]))
    assert (status, bool(answer["error"])) == (400, True)
    assert deployed.ask("POST", "/v2/models/other/infer", body(X))[0] == 404
    assert keys(deployed.outputs["Bucket"], "requests/") == []


def test_a_request_is_answered_later(deployed: Deployed) -> None:
    status, taken = deployed.ask("POST", "/v2/models/model/infer", body(X), Prefer="respond-async")
    assert (status, taken["status"]) == (202, "running"), taken

    def answered() -> dict[str, Any] | None:
        status, answer = deployed.ask("GET", f"/v2/requests/{taken['id']}")
        return None if status == 202 else answer

    assert_right(awaited(answered), deployed, X)
    assert deployed.ask("GET", f"/v2/requests/{'0' * 32}")[0] == 404


def test_objects_are_answered_by_objects_and_what_cannot_be_is_kept(deployed: Deployed) -> None:
    s3, sqs, bucket = client("s3"), client("sqs"), deployed.outputs["Bucket"]
    # a message comes again after half an hour, which is too long for a test
    sqs.set_queue_attributes(QueueUrl=deployed.outputs["Queue"], Attributes={"VisibilityTimeout": "1"})
    s3.put_object(Bucket=bucket, Key="inbox/wrong.json", Body=b"{}")
    for index in range(3):
        s3.put_object(Bucket=bucket, Key=f"inbox/deep/größe {index}.json", Body=body(X + index))
    found = awaited(lambda: found if len(found := keys(bucket, "outbox/")) == 3 else None)
    for index, key in enumerate(sorted(found)):
        assert key.startswith(f"outbox/deep/größe {index}")
        assert_right(json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read()), deployed, X + index)

    def dead() -> dict[str, Any] | None:
        messages = sqs.receive_message(QueueUrl=deployed.outputs["DeadLetters"]).get("Messages", [])
        return json.loads(messages[0]["Body"]) if messages else None

    (record,) = awaited(dead)["Records"]
    assert record["s3"]["object"]["key"] == "inbox/wrong.json"
    assert keys(bucket, "requests/") == []


@pytest.fixture
def api(deployed: Deployed) -> Iterator[str]:
    place = {"LAMELLA_STORE": deployed.outputs["Store"]}.items()
    functions = client("lambda").list_functions()["Functions"]
    found = [each["FunctionName"] for each in functions if place <= each["Environment"]["Variables"].items()]
    (door,) = [name for name in found if name.endswith("-door")] or found
    with http_api(client("lambda"), f"{door}:live", list(ROUTES.values()), CLAIMS) as url:
        yield url


def ask(url: str, content: bytes | None = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
    sent = {"Content-Type": "application/json", "Authorization": "Bearer a.b.c", **headers}
    try:
        with urlopen(Request(url, content, sent), timeout=60) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_an_http_api_speaks_the_protocol(api: str, deployed: Deployed) -> None:
    assert ask(f"{api}/v2/health/ready")[0] == 200
    assert json.loads(ask(f"{api}/v2/models/model")[1])["inputs"][0]["name"] == "x"
    status, found, headers = ask(f"{api}/v2/models/model/infer", body(X))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert_right(json.loads(found), deployed, X)
    status, found, _ = ask(f"{api}/v2/models/model/infer", body(X[:, :3]))
    assert (status, "shape" in json.loads(found)["error"]) == (400, True)
    assert ask(f"{api}/v2/models/other/infer", body(X))[0] == 404
    assert ask(f"{api}/lamella/nothing", b"{}")[0] == 404
    assert keys(deployed.outputs["Bucket"], "requests/") == []


def test_tensors_pass_an_http_api_as_bytes(api: str, deployed: Deployed) -> None:
    entry = {"name": "x", "shape": list(X.shape), "datatype": "FP32", "parameters": {"binary_data_size": X.nbytes}}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    kind = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    status, found, headers = ask(f"{api}/v2/models/model/infer", head + X.tobytes(), **kind)
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    end = int(headers[HEADER_LENGTH])
    outputs = decode_parts(found[:end], found[end:])
    np.testing.assert_allclose(outputs["y"], expected(deployed.directory, {"x": X})["y"], rtol=1e-4, atol=1e-5)


def test_what_takes_longer_than_an_http_api_waits_is_answered_later(api: str, deployed: Deployed) -> None:
    status, taken, headers = ask(f"{api}/v2/models/model/infer", body(X), Prefer="respond-async")
    assert (status, headers["Preference-Applied"]) == (202, "respond-async")
    place = api + headers["Location"]

    def answered() -> Any:
        status, found, _ = ask(place)
        return None if status == 202 else json.loads(found)

    assert place.endswith(json.loads(taken)["id"])
    assert_right(awaited(answered), deployed, X)


def test_an_http_api_gives_a_place_for_large_tensors(api: str, deployed: Deployed) -> None:
    status, found, _ = ask(f"{api}/lamella/uploads", b"{}")
    place = json.loads(found)
    assert (status, place["method"]) == (201, "PUT")
    assert place["uri"].startswith(f"s3://{deployed.outputs['Bucket']}/requests/")
