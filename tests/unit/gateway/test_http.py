"""The door of the service: tokens, bounded bodies, and errors as JSON, over a real socket."""

import asyncio
import errno
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Semaphore, Thread
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from lamella.errors import RemoteError
from lamella.gateway.events.triggers import Triggers
from lamella.gateway.faults import error_of
from lamella.gateway.host import Host
from lamella.gateway.http import Door
from lamella.gateway.jobs import Jobs, Message
from lamella.targets.local.target import LocalTarget

TOKEN = "the-token"


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A door without deployments, which takes bodies of 1,000 bytes."""
    from aiohttp import web

    target = LocalTarget(tmp_path)
    host = Host(target, Triggers(tmp_path / "deployments", target), tmp_path / "token")
    jobs = Jobs(tmp_path / "jobs", host.run)
    loop = asyncio.new_event_loop()
    door = Door(host, jobs, token=TOKEN, token_hint="ask around", most_body_bytes=1000)
    opened: list[web.AppRunner] = []

    async def start() -> int:
        runner = web.AppRunner(door.application(), access_log=None)
        opened.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread = Thread(target=loop.run_forever)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    yield f"http://127.0.0.1:{port}"

    async def end() -> None:
        await opened[0].cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}  # connections that wait for what a test never sends
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    asyncio.run_coroutine_threadsafe(end(), loop).result(30)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    door.close()
    jobs.close()
    target.close()


def ask(url: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, object]]:
    try:
        with urlopen(Request(url, body, headers), timeout=10) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic the-token", "the-token", "Bearer the-tokens"],
)
def test_strangers_are_refused(url: str, authorization: str | None) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/v2", "/v2/models/m", "/lamella/deployments", "/nowhere"):
        status, content = ask(url + path, **headers)
        assert (status, content["error"]) == (401, "a token is needed")
        assert "ask around" in str(content["hint"])


def test_health_is_open_to_all(url: str) -> None:
    assert ask(f"{url}/v2/health/live") == (200, {"live": True})
    assert ask(f"{url}/v2/health/ready") == (200, {"ready": True})


def test_errors_are_json_with_a_hint(url: str) -> None:
    bearer = {"Authorization": f"bearer {TOKEN}"}
    assert ask(f"{url}/v2", **bearer)[1]["name"] == "lamella"
    for path, body, wanted in [
        ("/v2/models/m", None, 404),
        ("/v2/models/m/infer", None, 405),
        ("/v2/models/m/infer", b'{"inputs": []}', 404),
        ("/v2/models/m/infer", b"x" * 1001, 413),
        ("/v2/models/..%2F..%2Fm", None, 404),
        ("/v2/models/m@..%2Fx", None, 404),
        ("/v2/requests/none", None, 404),
        ("/nowhere", None, 404),
        ("/lamella/deployments", b"{}", 400),
        ("/lamella/deployments", b"no json", 400),
        ("/lamella/deployments/m/logs?slice=x", None, 400),
        ("/lamella/deployments/m/triggers", None, 404),
        ("/lamella/deployments/m/triggers", b"no json", 400),
    ]:
        status, content = ask(url + path, body, **bearer)
        assert (path, status) == (path, wanted)
        assert content["error"]
        assert content["hint"]


def raw(url: str, request: bytes, *, then_nothing: bool = False) -> bytes:
    """Everything that is answered, until the server closes the connection.

    Args:
        url: Of the server.
        request: What is sent.
        then_nothing: Whether the server is told that no more will come.
    """
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        if then_nothing:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


HEAD = f"Host: h\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
SECOND = b"GET /v2 HTTP/1.1\r\n" + HEAD + b"\r\n"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: x\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: +2\r\n",
        b"Content-Length: 0x2\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Content-Length : 2\r\n",
        b"X: a\nb: c\r\n\x00: d\r\nContent-Length: 2\r\n",
    ],
)
def test_a_body_whose_end_is_not_sure_ends_the_connection(url: str, framing: bytes) -> None:
    """Else a proxy and the service could differ in where the next request begins."""
    said = raw(url, b"POST /lamella/deployments HTTP/1.1\r\n" + HEAD + framing + b"\r\n{}" + SECOND)
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400"))
    assert said.count(b"HTTP/1.") == 1
    assert b'"name": "lamella"' not in said


def test_headers_are_bounded(url: str) -> None:
    for header in (b"X: " + b"x" * 100_000, b"X" * 100_000 + b": x", b"Authorization: Bearer " + b"t" * 100_000):
        said = raw(url, b"GET /v2 HTTP/1.1\r\nHost: h\r\n" + header + b"\r\n\r\n")
        assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 431"))
    said = raw(url, b"GET /" + b"v" * 100_000 + b" HTTP/1.1\r\n" + HEAD + b"\r\n")
    assert said.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400", b"HTTP/1.1 414"))


def test_a_chunked_body_is_bounded_as_any_other(url: str) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (300, b"x" * 300) for _ in range(5)) + b"0\r\n\r\n"
    head = b"POST /v2/models/m/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n"
    assert raw(url, head + HEAD + b"\r\n" + body).startswith(b"HTTP/1.1 413")


def test_a_body_that_ends_early_is_no_request(url: str) -> None:
    said = raw(
        url, b"POST /lamella/deployments HTTP/1.1\r\nContent-Length: 500\r\n" + HEAD + b"\r\n{}", then_nothing=True
    )
    assert b" 200 " not in said[:20]
    assert ask(f"{url}/v2/health/live") == (200, {"live": True})


def test_a_stranger_is_refused_before_the_body_is_read(url: str) -> None:
    head = b"POST /lamella/deployments HTTP/1.1\r\nHost: h\r\nContent-Length: 900\r\nConnection: close\r\n\r\n"
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 401")


def test_two_tokens_are_none(url: str) -> None:
    said = raw(url, b"GET /v2 HTTP/1.1\r\nAuthorization: Bearer no\r\nConnection: close\r\n" + HEAD + b"\r\n")
    assert not said.startswith(b"HTTP/1.1 200")


def test_a_body_that_is_not_what_it_claims_is_the_callers_mistake(url: str) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip"}
    status, content = ask(f"{url}/v2/models/m/infer", b"no gzip", **headers)
    assert status == 400
    assert "body" in str(content["error"])


def test_a_folder_outside_the_deployments_is_none(url: str, tmp_path: Path) -> None:
    (tmp_path / "x@dev").mkdir()
    (tmp_path / "x@dev" / "deployment.json").write_text("{}")
    for path in ("..%2Fx", "m@..%2Fx", "%2Fx"):
        status, content = ask(f"{url}/v2/models/{path}", Authorization=f"Bearer {TOKEN}")
        assert (path, status) == (path, 404)
        assert content["hint"]


def test_requests_that_take_their_time_keep_nobody_from_asking(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on, begun = Event(), Semaphore(0)

    def slow(*_: object) -> Message:
        begun.release()
        go_on.wait(20)
        return Message({"status": 200}, b"{}")

    monkeypatch.setattr(Host, "infer", slow)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    with ThreadPoolExecutor(64) as pool:
        try:
            asked = [pool.submit(ask, f"{url}/v2/models/m/infer", b"{}", **bearer) for _ in range(64)]
            assert all(begun.acquire(timeout=20) for _ in asked)
            assert ask(f"{url}/lamella/deployments", **bearer) == (200, {"deployments": []})
        finally:
            go_on.set()
        assert {one.result()[0] for one in asked} == {200}


def test_what_fails_on_the_machine_is_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/data/x")

    monkeypatch.setattr(Host, "status", full)
    monkeypatch.setattr(Host, "_infer", full)
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for path, body in (("/lamella/deployments", None), ("/v2/models/m/infer", b"{}")):
        status, content = ask(url + path, body, **bearer)
        assert (status, content["error"]) == (500, "the service failed: `/data/x`: no space left on device")
        assert "free some space" in str(content["hint"])
        assert type(error_of(content, status)) is RemoteError
