"""The AWS Lambda API of the local platform, as `boto3` uses it, and AWS's own runtime parts around the same package."""

from __future__ import annotations

import base64
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from tests.functional.emulator import emulate
from tests.functional.local_functions import LIMITS, answer, create, write_package

from lamella.targets.local.platform import FunctionSpec, LocalPlatform

SOURCE = """
    import os, time

    def handle(event, context):
        print("asked for", event)
        if event.get("fail"):
            raise ValueError("as you wish")
        if event.get("exit"):
            os._exit(2)
        time.sleep(event.get("sleep", 0))
        return {"sum": sum(event.get("numbers", [])), "text": event.get("text", "").upper()}
"""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    folder = tmp_path_factory.mktemp("platform")
    with LocalPlatform(folder / "platform", limits=LIMITS) as local:
        create(local, folder, SOURCE, name="adder", reserved_concurrency=2)
        local.set_alias("adder", "live", "1")
        yield local


@pytest.fixture(scope="module")
def client(platform: LocalPlatform) -> Iterator[Any]:
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    from botocore.config import Config

    made = boto3.client(
        "lambda",
        endpoint_url=platform.url,
        region_name="us-east-1",
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}),
    )
    yield made
    made.close()


def test_boto3_invokes_and_reads_the_log(client: Any) -> None:
    found = client.invoke(FunctionName="adder", Payload=b'{"numbers": [1, 2], "text": "\xc3\xa4"}', LogType="Tail")
    assert found["StatusCode"] == 200
    assert "FunctionError" not in found
    assert found["ExecutedVersion"] == "$LATEST"
    assert json.loads(found["Payload"].read()) == {"sum": 3, "text": "Ä"}
    log = base64.b64decode(found["LogResult"]).decode()
    assert "asked for {'numbers': [1, 2], 'text': 'ä'}\n" in log
    assert f"REPORT RequestId: {found['ResponseMetadata']['RequestId']}\t" in log
    assert json.loads(client.invoke(FunctionName="adder")["Payload"].read()) == {"sum": 0, "text": ""}


@pytest.mark.parametrize(
    ("name", "qualifier"),
    [
        ("adder", "1"),
        ("adder", "live"),
        ("adder:live", None),
        ("000000000000:function:adder:1", None),
        ("arn:aws:lambda:us-east-1:000000000000:function:adder", "live"),
        ("arn:aws:lambda:us-east-1:000000000000:function:adder:live", None),
    ],
)
def test_boto3_invokes_versions_and_aliases_in_every_form(client: Any, name: str, qualifier: str | None) -> None:
    extra = {} if qualifier is None else {"Qualifier": qualifier}
    found = client.invoke(FunctionName=name, Payload=b"{}", **extra)
    assert (found["StatusCode"], found["ExecutedVersion"]) == (200, "1")


def test_boto3_sees_the_errors_of_functions(client: Any) -> None:
    failed = client.invoke(FunctionName="adder", Payload=b'{"fail": true}')
    assert (failed["StatusCode"], failed["FunctionError"]) == (200, "Unhandled")
    content = json.loads(failed["Payload"].read())
    assert (content["errorType"], content["errorMessage"]) == ("ValueError", "as you wish")
    ended = client.invoke(FunctionName="adder", Payload=b'{"exit": true}')
    assert ended["FunctionError"] == "Unhandled"
    assert json.loads(ended["Payload"].read())["errorType"] == "Runtime.ExitError"


def test_boto3_sends_events_and_dry_runs(client: Any, platform: LocalPlatform) -> None:
    taken = client.invoke(FunctionName="adder", Payload=b'{"text": "later"}', InvocationType="Event")
    assert (taken["StatusCode"], taken["Payload"].read()) == (202, b"")
    assert client.invoke(FunctionName="adder", InvocationType="DryRun")["StatusCode"] == 204
    deadline = time.monotonic() + 10
    while f"END RequestId: {taken['ResponseMetadata']['RequestId']}" not in platform.logs("adder").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_boto3_raises_its_own_exceptions(client: Any, platform: LocalPlatform) -> None:
    for arguments, exception in (
        ({"FunctionName": "nobody"}, client.exceptions.ResourceNotFoundException),
        ({"FunctionName": "adder", "Qualifier": "9"}, client.exceptions.ResourceNotFoundException),
        ({"FunctionName": "adder", "Payload": b"{"}, client.exceptions.InvalidRequestContentException),
        ({"FunctionName": "adder", "Payload": b"1" * ((6 << 20) + 1)}, client.exceptions.RequestTooLargeException),
        ({"FunctionName": "adder:1", "Qualifier": "live"}, client.exceptions.InvalidParameterValueException),
    ):
        with pytest.raises(exception):
            client.invoke(**arguments)
    running = [platform.submit("adder", b'{"sleep": 1}') for _ in range(2)]
    time.sleep(0.3)
    with pytest.raises(client.exceptions.TooManyRequestsException) as refused:
        client.invoke(FunctionName="adder")
    assert refused.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert [done.result().status for done in running] == [200, 200]


def test_boto3_sends_up_to_6_mb(client: Any) -> None:
    size = (6 << 20) - 12
    found = client.invoke(FunctionName="adder", Payload=b'{"text": "' + b"x" * size + b'"}')
    assert found["StatusCode"] == 200
    assert len(json.loads(found["Payload"].read())["text"]) == size


def test_boto3_reads_what_is_deployed(client: Any) -> None:
    assert [function["FunctionName"] for function in client.list_functions()["Functions"]] == ["adder"]
    found = client.get_function(FunctionName="adder", Qualifier="live")
    assert found["Configuration"]["MemorySize"] == 512
    assert found["Configuration"]["Version"] == "1"
    assert found["Concurrency"] == {"ReservedConcurrentExecutions": 2}
    assert client.get_function_configuration(FunctionName="adder")["Handler"] == "app.handle"
    versions = client.list_versions_by_function(FunctionName="adder")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST", "1"]
    (alias,) = client.list_aliases(FunctionName="adder")["Aliases"]
    assert (alias["Name"], alias["FunctionVersion"]) == ("live", "1")
    assert client.get_alias(FunctionName="adder", Name="live")["FunctionVersion"] == "1"
    client.get_waiter("function_active_v2").wait(FunctionName="adder")
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_alias(FunctionName="adder", Name="dead")


def ask(platform: LocalPlatform, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, str | None]:
    connection = HTTPConnection("127.0.0.1", int(platform.url.rpartition(":")[2]), timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        response.read()
        return response.status, response.getheader("x-amzn-ErrorType")
    finally:
        connection.close()


def test_what_is_no_operation_is_refused(platform: LocalPlatform) -> None:
    invoke = "/2015-03-31/functions/adder/invocations"
    assert ask(platform, "POST", invoke) == (200, None)
    assert ask(platform, "GET", "/") == (404, "UnknownOperationException")
    assert ask(platform, "DELETE", "/2015-03-31/functions/adder") == (404, "UnknownOperationException")
    assert ask(platform, "GET", "/2015-03-31/functions/adder/secrets") == (404, "UnknownOperationException")
    assert ask(platform, "GET", "/2015-03-31/functions/..%2F..%2Fetc") == (400, "InvalidParameterValueException")
    assert ask(platform, "POST", invoke, X_Amz_Invocation_Type="Never") == (400, "InvalidParameterValueException")
    assert ask(platform, "POST", invoke, X_Amz_Client_Context="?") == (400, "InvalidRequestContentException")


def test_web_pages_may_not_use_it(platform: LocalPlatform) -> None:
    invoke = "/2015-03-31/functions/adder/invocations"
    assert ask(platform, "POST", invoke, Origin="https://example.com") == (403, "AccessDeniedException")
    assert ask(platform, "POST", invoke, Host="example.com") == (403, "AccessDeniedException")


def test_a_body_without_an_end_is_not_read_to_it(platform: LocalPlatform) -> None:
    with socket.create_connection(("127.0.0.1", int(platform.url.rpartition(":")[2])), timeout=10) as connection:
        connection.sendall(
            b"POST /2015-03-31/functions/adder/invocations HTTP/1.1\r\nHost: localhost\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        chunk = b"100000\r\n" + b"1" * (1 << 20) + b"\r\n"
        for _ in range(7):
            connection.sendall(chunk)
        assert b" 413 " in connection.recv(100)


def test_the_client_context_reaches_the_handler(platform: LocalPlatform, tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric", reason="awslambdaric is not installed")
    name = create(
        platform,
        tmp_path,
        "def handle(event, context):\n    return context.client_context.custom\n",
        runtime="awslambdaric",
    )
    context = base64.b64encode(b'{"custom": {"a": 1}}').decode()
    connection = HTTPConnection("127.0.0.1", int(platform.url.rpartition(":")[2]), timeout=20)
    connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b"{}", {"X-Amz-Client-Context": context})
    assert json.loads(connection.getresponse().read()) == {"a": 1}
    connection.close()


EVENTS = [b"{}", b'{"numbers": [1, 2.5], "text": "\xc3\xa4b"}', b'{"fail": true}']


def outcome(body: bytes) -> object:
    content = json.loads(body)
    return (content["errorType"], content["errorMessage"]) if "errorType" in content else content


@pytest.fixture
def pair(platform: LocalPlatform, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """The same package under Lamella's runtime client, and under AWS's."""
    pytest.importorskip("awslambdaric", reason="awslambdaric is not installed")
    package = write_package(tmp_path / "package", SOURCE)
    for runtime in ("lamella", "awslambdaric"):
        platform.create(FunctionSpec(runtime, package, 512, 5, handler="app.handle", runtime=runtime))
    yield "lamella", "awslambdaric"
    for runtime in ("lamella", "awslambdaric"):
        platform.delete(runtime)


def test_awslambdaric_runs_the_same_package(platform: LocalPlatform, pair: tuple[str, str]) -> None:
    for event in EVENTS:
        ours, theirs = (platform.invoke(name, event, log_tail=True) for name in pair)
        assert outcome(theirs.payload) == outcome(ours.payload)
        assert theirs.function_error == ours.function_error
        assert "asked for" in theirs.log
    for event, kind in ((b'{"exit": true}', "Runtime.ExitError"), (b'{"sleep": 30}', "Sandbox.Timedout")):
        for name in pair:
            assert platform.invoke(name, event).error_type == kind
            assert answer(platform.invoke(name, b"{}"))


@pytest.mark.parametrize("source", ["import no_such_module", "raise RuntimeError('no')", "handle = None\ndel handle"])
def test_awslambdaric_reports_a_start_that_fails(platform: LocalPlatform, tmp_path: Path, source: str) -> None:
    pytest.importorskip("awslambdaric", reason="awslambdaric is not installed")
    kinds = set()
    for runtime in ("lamella", "awslambdaric"):
        name = create(platform, tmp_path, source, runtime=runtime)
        kinds.add(platform.invoke(name).error_type)
    assert len(kinds) == 1, kinds


@pytest.fixture
def emulated(tmp_path: Path) -> Iterator[int]:
    """The package `tmp_path/package` in AWS's emulator; its port."""
    with emulate(tmp_path / "package", "app.handle", program=tmp_path / "rie") as port:
        yield port


def test_the_runtime_interface_emulator_gives_the_same_answers(
    platform: LocalPlatform, pair: tuple[str, str], emulated: int
) -> None:
    for event in EVENTS:
        connection = HTTPConnection("127.0.0.1", emulated, timeout=20)
        connection.request("POST", "/2015-03-31/functions/function/invocations", event)
        theirs = connection.getresponse().read()
        connection.close()
        for name in pair:
            assert outcome(platform.invoke(name, event).payload) == outcome(theirs)


def test_configuration_shows_no_variables(platform: LocalPlatform, tmp_path: Path) -> None:
    name = create(platform, tmp_path, SOURCE, environment={"AWS_SECRET_ACCESS_KEY": "private"})
    for path in ("", f"/{name}", f"/{name}/configuration"):
        with urllib.request.urlopen(f"{platform.url}/2015-03-31/functions{path}") as answer:
            assert b"private" not in answer.read()
