"""Registries of images, each Debian's `docker-registry` on the loopback interface, and what stands between."""

import base64
import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from urllib.parse import parse_qs, urlsplit

import pytest

PATIENCE_S = 60
_CONFIG = """
version: 0.1
log: {{level: info}}
storage:
  filesystem: {{rootdirectory: {folder}/registry}}
  delete: {{enabled: true}}
http: {http}
{auth}
"""


def need(*programs: str) -> None:
    """Skip the test where a program is not installed."""
    if found := lacking(*programs):
        pytest.skip(f"{', '.join(found)} is not installed")


def lacking(*programs: str) -> list[str]:
    """Which programs are not installed."""
    return [program for program in programs if shutil.which(program) is None]


@dataclass
class Server:
    """A registry.

    Attributes:
        address: Host and port.
        folder: Where it keeps what was pushed.
        log: What it writes.
    """

    address: str
    folder: Path
    log: Path

    def requests(self, method: str) -> list[str]:
        """Paths that were asked for with a method."""
        return re.findall(rf'"{method} (\S+) HTTP', self.log.read_text())

    def blob(self, digest: str) -> Path:
        """Where it keeps a blob."""
        name = digest.removeprefix("sha256:")
        return self.folder / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"


@contextmanager
def registry(folder: Path, *, auth: str = "", certificate: tuple[Path, Path] | None = None) -> Iterator[Server]:
    """A registry; `auth` is a part of its configuration, `certificate` a file with one and one with its key."""
    need("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    config, log = write_config(folder, "127.0.0.1:0", auth=auth, certificate=certificate), folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=output, stderr=output)
    try:
        yield Server(f"127.0.0.1:{_port(process, log)}", folder / "registry", log)
    finally:
        process.kill()
        process.wait()


def write_config(folder: Path, address: str, *, auth: str = "", certificate: tuple[Path, Path] | None = None) -> Path:
    """The configuration of a registry that keeps what it has in `registry` of a folder."""
    http: dict[str, object] = {"addr": address, "secret": "a-secret"}
    if certificate is not None:
        http["tls"] = {"certificate": str(certificate[0]), "key": str(certificate[1])}
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, http=json.dumps(http), auth=auth))
    return folder / "config.yml"


def _port(process: "subprocess.Popen[bytes]", log: Path) -> int:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text()):
            return int(found[1])
        time.sleep(0.05)
    raise AssertionError(f"the registry did not start: {log.read_text()}")


def basic_auth(folder: Path, user: str, password: str) -> str:
    """Configuration of a registry that one user may use."""
    need("htpasswd")
    file = folder / "htpasswd"
    subprocess.run(["htpasswd", "-Bbc", str(file), user, password], check=True, capture_output=True)
    return f"auth: {{htpasswd: {{realm: here, path: {file}}}}}"


def write_login(path: Path, address: str, user: str, password: str) -> None:
    """What `podman login` leaves."""
    secret = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {address: {"auth": secret}}}))


@dataclass
class Relay:
    """Passes connections on, and breaks some: the first `breaks`, each after so many bytes one way or the other.

    Attributes:
        target: Where to.
        breaks: How many connections are still to be broken.
        sent_bytes: After how many bytes to the server; None: never.
        received_bytes: After how many bytes from it.
        passed: Bytes that went to the server.
    """

    target: str
    breaks: int = 0
    sent_bytes: int | None = None
    received_bytes: int | None = None
    passed: int = 0
    address: str = ""
    _lock: Lock = field(default_factory=Lock)

    def serve(self, listener: socket.socket) -> None:
        """Pass connections on until nobody listens any more."""
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        host, _, port = self.target.rpartition(":")
        with client, socket.create_connection((host, int(port))) as server:
            back = Thread(target=self._pump, args=(server, client, self.received_bytes, 0), daemon=True)
            back.start()
            self._pump(client, server, self.sent_bytes, 1)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket, most: int | None, counted: int) -> None:
        done = 0
        with suppress(OSError):
            while block := source.recv(1 << 16):
                done += len(block)
                if most is not None and done > most and self._breaks():
                    break
                sink.sendall(block)
                with self._lock:
                    self.passed += counted * len(block)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _breaks(self) -> bool:
        with self._lock:
            self.breaks -= 1
            return self.breaks >= 0


@contextmanager
def relay(server: Server, **breaking: int) -> Iterator[Relay]:
    """A relay in front of a registry."""
    found = Relay(server.address, **breaking)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found.address = f"127.0.0.1:{listener.getsockname()[1]}"
        thread = Thread(target=found.serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield found
        finally:
            listener.shutdown(socket.SHUT_RDWR)
    thread.join(PATIENCE_S)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of this machine's that it has signed itself, and its key."""
    need("openssl")
    file, key = folder / "certificate.pem", folder / "key.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run(
        [*command, "-addext", names, "-keyout", str(key), "-out", str(file)], check=True, capture_output=True
    )
    return file, key


@dataclass
class Authority:
    """What gives tokens for a registry, to one user.

    Attributes:
        auth: The registry's configuration.
        asked: The scopes that were asked for.
    """

    auth: str
    asked: list[str]


@contextmanager
def token_authority(folder: Path, user: str, password: str) -> Iterator[Authority]:
    """An authority, as Docker Hub and Amazon's public registry have one."""
    file, key = certificate(folder)
    asked: list[str] = []
    wanted = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            scope = parse_qs(urlsplit(self.path).query)["scope"][0]
            asked.append(scope)
            known = self.headers.get("Authorization") == wanted
            body = json.dumps({"token": _token(scope, file, key)} if known else {}).encode()
            self.send_response(200 if known else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        realm = f"http://127.0.0.1:{server.server_port}/token"
        parts = {"realm": realm, "service": "here", "issuer": "tests", "rootcertbundle": str(file)}
        yield Authority(f"auth: {json.dumps({'token': parts})}", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _token(scope: str, file: Path, key: Path) -> str:
    """https://distribution.github.io/distribution/spec/auth/jwt/"""
    kind, name, actions = scope.split(":")
    now = int(time.time())
    der = "".join(file.read_text().splitlines()[1:-1])
    claims = {
        "iss": "tests",
        "aud": "here",
        "sub": "",
        "exp": now + 600,
        "nbf": now - 10,
        "iat": now,
        "jti": str(now),
        "access": [{"type": kind, "name": name, "actions": actions.split(",")}],
    }
    signed = f"{_part({'typ': 'JWT', 'alg': 'RS256', 'x5c': [der]})}.{_part(claims)}"
    command = ["openssl", "dgst", "-sha256", "-sign", str(key)]
    signature = subprocess.run(command, input=signed.encode(), check=True, capture_output=True).stdout
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()
