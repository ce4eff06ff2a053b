"""Where a function's credentials come from."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from time import gmtime, strftime, time
from typing import Any

import pytest

from lamella.errors import StoreError
from lamella.stores.credentials import FunctionCredentials
from lamella.stores.sigv4 import Credentials

NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


class _Platform(BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        self.server.asked.append(self.headers["Authorization"])
        body = json.dumps(self.server.content).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    server: Any = HTTPServer(("127.0.0.1", 0), _Platform)
    server.asked, server.content = [], {}
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"http://127.0.0.1:{server.server_port}/credentials")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let-me")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def given(key: str, for_s: float) -> dict[str, str]:
    expires = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(time() + for_s))
    return {"AccessKeyId": key, "SecretAccessKey": "s", "Token": "t", "Expiration": expires}


def test_the_environment_s_keys_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    found = FunctionCredentials()
    assert found() == Credentials("AKIA", "s", None)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    assert found() == Credentials("AKIA", "s", "t")


def test_a_restored_function_asks_the_platform_and_again_before_they_expire(platform: Any) -> None:
    found = FunctionCredentials()
    platform.content = given("first", 3600)
    assert [found(), found()] == [Credentials("first", "s", "t")] * 2
    assert platform.asked == ["let-me"]
    found = FunctionCredentials()
    platform.content = given("short", 60)
    assert found().access_key_id == "short"
    platform.content = given("next", 3600)
    assert [found().access_key_id, found().access_key_id] == ["next", "next"]
    assert len(platform.asked) == 3


def test_no_credentials_are_an_error_with_a_way_out(platform: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.content = {"message": "no"}
    with pytest.raises(StoreError, match="the platform gives no credentials"):
        FunctionCredentials()()
    monkeypatch.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    with pytest.raises(StoreError, match="no credentials for AWS") as caught:
        FunctionCredentials()()
    assert "AWS_ACCESS_KEY_ID" in str(caught.value.hint)
