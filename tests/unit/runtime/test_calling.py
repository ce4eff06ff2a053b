"""Calls to AWS over real connections: kept open, opened again, and their errors told apart."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from lamella.errors import UsageError
from lamella.runtime.calling import AwsCaller, AwsError
from lamella.stores.sigv4 import Credentials


@dataclass
class Service:
    """What the server is to answer, and what it was asked."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    closes: bool = False
    waits: Event | None = None
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    connections: int = 0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def setup(self) -> None:
        super().setup()
        self.server.service.connections += 1

    def do_POST(self) -> None:
        service: Service = self.server.service
        body = self.rfile.read(int(self.headers["Content-Length"]))
        service.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        if service.waits is not None:
            service.waits.wait(20)
        self.send_response(service.status)
        for name, value in {"Content-Length": str(len(service.body)), **service.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(service.body)
        self.close_connection = service.closes  # without saying so, as a server does with idle connections

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[Service]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.service = Service(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.service
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def caller(service: Service) -> Iterator[AwsCaller]:
    made = AwsCaller(region="eu-central-1", credentials=lambda: Credentials("AKIA", "s", "t"), endpoint_url=service.url)
    yield made
    made.close()


def test_a_function_is_invoked_with_a_signature(service: Service, caller: AwsCaller) -> None:
    service.body = b'{"y":1}'
    found = caller.invoke("arn:aws:lambda:eu-central-1:1:function:f:7", b'{"x":1}')
    assert (found.payload, found.error_type) == (b'{"y":1}', None)
    ((path, headers, body),) = service.asked
    assert path == "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-central-1%3A1%3Afunction%3Af%3A7/invocations"
    assert body == b'{"x":1}'
    assert headers["x-amz-invocation-type"] == "RequestResponse"
    assert "/eu-central-1/lambda/aws4_request" in headers["authorization"]
    assert headers["x-amz-security-token"] == "t"
    service.status, service.body = 202, b""
    assert caller.invoke("f", b"{}", wait=False).error_type is None
    assert service.asked[1][1]["x-amz-invocation-type"] == "Event"
    assert service.connections == 1


def test_a_connection_that_was_closed_meanwhile_is_opened_again(service: Service, caller: AwsCaller) -> None:
    service.closes = True
    assert [caller.invoke("f", b"{}").error_type for _ in range(3)] == [None] * 3
    assert (service.connections, len(service.asked)) == (3, 3)


@pytest.mark.parametrize(
    ("status", "headers", "body", "expected"),
    [
        (200, {"X-Amz-Function-Error": "Unhandled"}, {"errorType": "InputError", "errorMessage": "m"}, (False, False)),
        (200, {"X-Amz-Function-Error": "Unhandled"}, {"errorType": "Runtime.ExitError"}, (True, False)),
        (200, {"X-Amz-Function-Error": "Unhandled"}, {"errorMessage": "x Task timed out after 3 s"}, (True, False)),
        (429, {"x-amzn-ErrorType": "TooManyRequestsException"}, {"message": "Rate exceeded"}, (True, True)),
        (500, {"x-amzn-ErrorType": "ServiceException:http://x"}, {}, (True, False)),
        (408, {"x-amzn-ErrorType": "EFSMountTimeoutException"}, {"Message": "slow"}, (True, False)),
        (410, {"x-amzn-ErrorType": "EFSIOException"}, {}, (True, False)),
        (403, {"x-amzn-ErrorType": "EFSMountFailureException"}, {}, (False, False)),
        (404, {"x-amzn-ErrorType": "ResourceNotFoundException"}, {"Message": "no f"}, (False, False)),
        (403, {}, "no JSON", (False, False)),
    ],
)
def test_errors_are_told_apart(
    service: Service, caller: AwsCaller, status: int, headers: dict[str, str], body: Any, expected: tuple[bool, bool]
) -> None:
    service.status, service.headers, service.body = status, headers, json.dumps(body).encode()
    found = caller.invoke("f", b"{}")
    assert found.error_type
    assert ":" not in found.error_type
    assert (found.retriable, found.throttled) == expected


def test_a_server_that_does_not_answer_is_told(service: Service, caller: AwsCaller) -> None:
    service.waits = Event()
    found = caller.invoke("f", b"{}", timeout_s=0.05)
    assert (found.error_type, found.retriable) == ("Timeout", False)
    with pytest.raises(AwsError, match="Timeout: StartSyncExecution did not answer") as caught:
        caller.states("StartSyncExecution", {}, timeout_s=0.05)
    assert caught.value.code == "Timeout"
    service.waits.set()


def test_a_server_that_is_not_there_is_told() -> None:
    caller = AwsCaller(region="r", credentials=lambda: Credentials("A", "s"), endpoint_url="http://127.0.0.1:9")
    found = caller.invoke("f", b"{}")
    assert (found.error_type, found.retriable) == ("ConnectionError", True)
    with pytest.raises(AwsError, match="cannot be reached"):
        caller.states("StartExecution", {})


def test_step_functions_are_called_by_name(service: Service, caller: AwsCaller) -> None:
    service.body = b'{"status":"SUCCEEDED"}'
    assert caller.states("StartSyncExecution", {"name": "n"}) == {"status": "SUCCEEDED"}
    path, headers, body = service.asked[0]
    assert (path, json.loads(body)) == ("/", {"name": "n"})
    assert headers["x-amz-target"] == "AWSStepFunctions.StartSyncExecution"
    assert "/eu-central-1/states/aws4_request" in headers["authorization"]
    service.status, service.body = 400, b'{"__type":"com.amazonaws#AccessDeniedException","message":"no"}'
    with pytest.raises(AwsError, match="AccessDeniedException: no") as caught:
        caller.states("StartSyncExecution", {})
    assert (caught.value.code, "credentials" in str(caught.value.hint)) == ("AccessDeniedException", True)


def test_without_a_region_nothing_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="no region"):
        AwsCaller()
