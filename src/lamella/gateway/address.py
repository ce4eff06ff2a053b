"""Where the service of a home folder is found: its port, and the token that its callers must have."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from ipaddress import ip_address
from pathlib import Path
from secrets import token_urlsafe

LOOPBACK = "127.0.0.1"
_HERE = {"0.0.0.0": LOOPBACK, "::": "::1"}
"""What listens on every interface, and where it is found from here."""


@dataclass(frozen=True)
class Address:
    """How to reach a service that runs.

    Attributes:
        host: Where it listens.
        port: Its port.
        token: What callers send as `Authorization: Bearer TOKEN`.
        pid: Its process.
        version: Its version of Lamella.
    """

    host: str
    port: int
    token: str
    pid: int
    version: str

    @property
    def connect_host(self) -> str:
        """The host to connect to from this machine."""
        return _HERE.get(self.host, self.host)

    @property
    def url(self) -> str:
        """Its URL, without a slash at the end."""
        host = self.connect_host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def is_exposed(self) -> bool:
        """Whether other machines may reach it."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:  # a name
            return self.host != "localhost"

    @property
    def exposure(self) -> str:
        """What it means that other machines may reach it, for whoever has to decide that."""
        return (
            f"the service listens on {self.host}, port {self.port}, for other machines, too: it speaks plain HTTP, so "
            "that whoever sees the traffic has its token, and may deploy and delete; put something in front of it that "
            "speaks TLS"
        )


class ServiceFolder:
    """The files of a service, readable by its user alone.

    Args:
        home: The home folder whose deployments it hosts.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "service"

    @property
    def log(self) -> Path:
        """What the service says about itself."""
        return self._folder / "service.log"

    @property
    def requests(self) -> Path:
        """Asynchronous requests and their results."""
        return self._folder / "requests"

    @property
    def token_file(self) -> Path:
        """The token that callers must send."""
        return self._folder / "token"

    def make(self) -> None:
        """Make the folder."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def read(self) -> Address | None:
        """Where the service was last seen; None if it has ended, or has not come up yet."""
        try:
            return Address(**json.loads((self._folder / "address.json").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, address: Address) -> None:
        """Say where the service is."""
        self._write_private("address.json", json.dumps(asdict(address)))
        self._write_private("port", str(address.port))

    def forget(self) -> None:
        """Say that it has ended. Its port and token stay, for its next start."""
        (self._folder / "address.json").unlink(missing_ok=True)

    def token(self) -> str:
        """The token: the same at every start, so that clients keep working. An empty one would let everybody in."""
        token = self.token_file.read_text().strip() if self.token_file.exists() else ""
        if not token:
            token = token_urlsafe(32)
            self._write_private("token", token)
        return token

    def last_port(self) -> int:
        """The port at the last start, or 0."""
        try:
            return int((self._folder / "port").read_text())
        except (OSError, ValueError):
            return 0

    def _write_private(self, name: str, text: str) -> None:
        partial = self._folder / f".{name}.partial"
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        partial.replace(self._folder / name)

    def claim(self) -> bool:
        """Be the one service that there may be, until this process has ended; False if another process is it."""
        return self._lock(fcntl.LOCK_EX) is not None

    def is_running(self) -> bool:
        """Whether the process of a service is there."""
        if not (self._folder / "lock").exists():
            return False
        descriptor = self._lock(fcntl.LOCK_SH)
        if descriptor is not None:
            os.close(descriptor)
        return descriptor is None

    def _lock(self, kind: int) -> int | None:
        descriptor = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor
