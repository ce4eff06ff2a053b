"""A small Lambda Runtime API: gives events to whoever asks, and keeps what comes back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from threading import Thread
from typing import Any

ARN = "arn:aws:lambda:us-east-1:000000000000:function:test"
DEADLINE_MS = 4_000_000_000_000  # in the year 2096


@dataclass
class Post:
    """What a runtime sent: which of `response` and `error`, for which invocation, and what."""

    kind: str
    request_id: str
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class RuntimeApi:
    """The server, from the test's side."""

    address: str
    events: "Queue[tuple[str, bytes]]" = field(default_factory=Queue)
    posts: "Queue[Post]" = field(default_factory=Queue)
    connections: int = 0
    breaks: int = 0
    """How many of the next answers are replaced by a closed connection."""
    status: int = 202
    """With which posts are answered."""
    sent: int = 0

    def ask(self, body: bytes) -> Post:
        """Hand an event over, and wait for what comes back."""
        self.sent += 1
        self.events.put((f"id-{self.sent}", body))
        return self.posts.get(timeout=30)


class _Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.api = RuntimeApi(f"127.0.0.1:{self.server_port}")
        self.closing = False


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.api = self.server.api
        self.api.connections += 1

    def do_GET(self) -> None:
        assert self.path == "/2018-06-01/runtime/invocation/next"
        event = self._event()
        if event is None or self._breaks():
            self.close_connection = True
            if event is not None:
                self.api.events.put(event)
            return
        request_id, body = event
        self.send_response(200)
        self.send_header("Lambda-Runtime-Aws-Request-Id", request_id)
        self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
        self.send_header("Lambda-Runtime-Deadline-Ms", str(DEADLINE_MS))
        self.send_header("Lambda-Runtime-Trace-Id", f"Root={request_id}")
        self.send_header("Content-Type", "application/json")  # without, AWS's runtime dies of a segmentation fault
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self._body()
        if self._breaks():
            self.close_connection = True
            return
        _, _, _, place, *rest = self.path.split("/")
        request_id, kind = rest if place == "invocation" else ("", f"{place} {rest[0]}")
        self.send_response(self.api.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "16")
        self.end_headers()
        self.wfile.write(b'{"status":"OK"}\n')
        self.api.posts.put(Post(kind, request_id, body, dict(self.headers)))

    def _event(self) -> tuple[str, bytes] | None:
        while not self.server.closing:
            with suppress(Empty):
                return self.api.events.get(timeout=0.02)
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers["Content-Length"]))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def _breaks(self) -> bool:
        breaking = self.api.breaks > 0
        self.api.breaks -= breaking
        return breaking

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def runtime_api() -> Iterator[RuntimeApi]:
    """Serve on a free port of the loopback interface."""
    server = _Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.api
    finally:
        server.closing = True
        server.shutdown()
        server.server_close()
        thread.join()
