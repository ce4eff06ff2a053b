"""An object store as slow as a cloud's is to one function: S3's protocol, as far as reading goes, at a given rate.

    python benchmarks/platform_store.py FOLDER BYTES_PER_S

It serves the files below a folder, the first part of a path being the bucket, and prints its URL. The rate holds for
each object, over all connections together: each function fetches one object, its slice's weights, so that this is the
rate of each function, whatever the others do. The first byte is not delayed.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CHUNK_BYTES = 256 << 10


class Rate:
    """Lets bytes pass at a rate, and saves nothing up while none do. Thread-safe."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s, self._free_at, self._lock = bytes_per_s, 0.0, threading.Lock()

    def wait(self, count: int) -> None:
        """Wait until so many bytes more may have passed."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + count / self._bytes_per_s
            until = self._free_at
        time.sleep(max(0.0, until - time.monotonic()))


class Store(ThreadingHTTPServer):
    """The server.

    Args:
        folder: Buckets, as folders.
        bytes_per_s: At which each object is read.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, folder: Path, bytes_per_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self._bytes_per_s = folder, bytes_per_s
        self._rates: dict[Path, Rate] = {}
        self._lock = threading.Lock()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of functions that were stopped while they read."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]

    def rate(self, path: Path) -> Rate:
        """That of an object."""
        with self._lock:
            return self._rates.setdefault(path, Rate(self._bytes_per_s))


class Handler(BaseHTTPRequestHandler):
    """Lists a bucket, and reads an object or a range of it."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Store

    def do_GET(self) -> None:
        """An object, or the list of a bucket."""
        place = urlsplit(self.path)
        path = self.server.folder / unquote(place.path).strip("/")
        if path.is_dir():
            self._list(path, parse_qs(place.query).get("prefix", [""])[0])
        elif path.is_file():
            self._send(path)
        else:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def do_HEAD(self) -> None:
        """The size of an object."""
        path = self.server.folder / unquote(urlsplit(self.path).path).strip("/")
        if not path.is_file():
            self._answer(404, b"")
            return
        self.send_response(200)
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()

    def _list(self, bucket: Path, prefix: str) -> None:
        found = "".join(_entries(bucket, prefix))
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode())

    def _send(self, path: Path) -> None:
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(last + 1 - first))
        self.end_headers()
        rate = self.server.rate(path)
        with path.open("rb") as file:
            while first <= last:
                count = min(CHUNK_BYTES, last + 1 - first)
                rate.wait(count)
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, count)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _entries(bucket: Path, prefix: str) -> Iterator[str]:
    for path in sorted(path for path in bucket.rglob("*") if path.is_file()):
        key, status = path.relative_to(bucket).as_posix(), path.stat()
        if key.startswith(prefix):
            moment = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(status.st_mtime))
            yield (
                f"<Contents><Key>{escape(key)}</Key><Size>{status.st_size}</Size>"
                f'<ETag>"{status.st_mtime_ns:x}"</ETag><LastModified>{moment}</LastModified></Contents>'
            )


def main(folder: Path, bytes_per_s: float) -> None:
    """Serve until the process is ended."""
    store = Store(folder, bytes_per_s)
    print(f"http://127.0.0.1:{store.server_port}", flush=True)
    store.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
