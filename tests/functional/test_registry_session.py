"""Answers that a well-behaved registry cannot be made to give: too many requests, failures, other places."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from lamella.errors import RegistryError
from lamella.packaging.images.credentials import Credentials
from lamella.packaging.images.session import ATTEMPTS, RegistrySession

SCOPE = "repository:x:pull"
Answer = tuple[int, dict[str, str]]


@contextmanager
def serving(*answers: Answer) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A server that gives these answers in turn, the last one for ever; its address, and the headers that came."""
    seen: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers = answers[min(len(seen), len(answers) - 1)]
            seen.append(dict(self.headers))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def asked(address: str, credentials: Credentials | None = None) -> int:
    session = RegistrySession(address, credentials=credentials, first_wait_s=0.001)
    response = session.ask("GET", f"{session.origin}/v2/", scope=SCOPE, expected=(200,))
    response.drain_conn()
    return response.status


def test_what_may_pass_is_tried_again() -> None:
    with serving((429, {"Retry-After": "0"}), (503, {}), (500, {}), (200, {})) as (address, seen):
        assert asked(address) == 200
        assert len(seen) == 4


def test_what_does_not_pass_is_an_error_in_the_end() -> None:
    with serving((503, {})) as (address, seen):
        with pytest.raises(RegistryError, match=r"answers 503 to GET `/v2/`: Service Unavailable"):
            asked(address)
        assert len(seen) == ATTEMPTS


def test_what_will_not_pass_is_not_tried_again() -> None:
    with serving((400, {})) as (address, seen):
        with pytest.raises(RegistryError, match="answers 400"):
            asked(address)
        assert len(seen) == 1


def test_who_logs_in_anew_is_asked_again_where_a_password_holds_no_longer() -> None:
    """Amazon ECR answers 403 then, without a challenge: "Your authorization token has expired"."""
    challenge = {"WWW-Authenticate": 'Basic realm="here"'}
    passwords = ["old", "new"]
    with serving((401, challenge), (200, {}), (403, {}), (200, {})) as (address, seen):
        session = RegistrySession(address, credentials=lambda: Credentials("AWS", passwords.pop(0)))
        for _ in range(2):
            session.ask("GET", f"{session.origin}/v2/", scope=SCOPE, expected=(200,)).drain_conn()
    sent = [base64.b64decode(headers["Authorization"].removeprefix("Basic ")).decode() for headers in seen[1:]]
    assert sent == ["AWS:old", "AWS:old", "AWS:new"]


def test_who_has_one_password_is_refused_at_once() -> None:
    challenge = {"WWW-Authenticate": 'Basic realm="here"'}
    with serving((401, challenge), (403, {})) as (address, seen):
        with pytest.raises(RegistryError, match="refuses: Forbidden") as caught:
            asked(address, Credentials("AWS", "old"))
        assert caught.value.denied
        assert len(seen) == 2


def test_credentials_go_to_nobody_else() -> None:
    """Registries keep blobs elsewhere, and send there: Amazon ECR to S3."""
    with serving((200, {})) as (elsewhere, there):
        challenge = {"WWW-Authenticate": 'Basic realm="here"'}
        moved = {"Location": f"http://{elsewhere}/blob"}
        with serving((401, challenge), (307, moved)) as (address, here):
            assert asked(address, Credentials("me", "secret")) == 200
        assert [("Authorization" in headers) for headers in here] == [False, True]
        assert [("Authorization" in headers) for headers in there] == [False]


def test_a_redirection_without_end_ends() -> None:
    with serving((307, {"Location": "/v2/"})) as (address, seen):
        with pytest.raises(RegistryError):
            asked(address)
        assert len(seen) < 50
