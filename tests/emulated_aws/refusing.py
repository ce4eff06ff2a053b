"""A server between boto3 and LocalStack that refuses some calls, as AWS would."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

Refuses = Callable[[str], str | None]
"""Gets what is asked of CloudFormation or STS (`DescribeStacks`); gives AWS's name for why not, or None."""


@contextmanager
def refusing(server: str, refuses: Refuses) -> Iterator[str]:
    """Its URL.

    Args:
        server: LocalStack's URL.
        refuses: Asked before a call is passed on.
    """
    place = urlsplit(server)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            action = parse_qs(body.decode("latin-1")).get("Action", [""])[0] if b"Action=" in body[:4096] else ""
            code = refuses(action) if action else None
            if code is not None:
                # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/CommonErrors.html
                said = f"<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
                self._send(400, {"Content-Type": "text/xml"}, said.encode())
                return
            assert place.hostname is not None
            connection = HTTPConnection(place.hostname, place.port, timeout=120)
            try:
                connection.request(self.command, self.path, body, dict(self.headers))
                found = connection.getresponse()
                self._send(found.status, dict(found.headers), found.read())
            finally:
                connection.close()

        do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer  # noqa: N815 - http.server calls them so

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()
