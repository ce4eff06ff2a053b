"""Finding the service of a home folder, and starting it where it does not run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, sleep

import lamella
from lamella.errors import MissingDependencyError, RemoteError
from lamella.gateway.address import LOOPBACK, Address, ServiceFolder

_START_S = 60.0
_STOP_S = 60.0
_CONNECT_S = 5.0
_POLL_S = 0.02
_LOG_TAIL_BYTES = 400


def running_service(home: Path) -> Address | None:
    """The service of a home folder, if it runs and answers."""
    folder = ServiceFolder(home)
    address = folder.read() if folder.is_running() else None
    return address if address is not None and _listens(address) else None


def _listens(address: Address) -> bool:
    """Whether somebody is there: the address may still be that of a process that was killed."""
    try:
        socket.create_connection((address.connect_host, address.port), timeout=_CONNECT_S).close()
    except OSError:
        return False
    return True


def started_service(home: Path, *, host: str | None = None) -> Address:
    """The service of a home folder, started where it does not run, or where an older version of Lamella does.

    Args:
        home: The home folder.
        host: Where a new one listens; None: as `LAMELLA_HOST` says, or on loopback if it is not set or empty.

    Raises:
        MissingDependencyError: The extra that it needs is not installed.
        RemoteError: It does not start.
    """
    found = running_service(home)
    if found is not None and found.version == lamella.__version__:
        return found
    if find_spec("aiohttp") is None:
        raise MissingDependencyError(
            "local deployments need `aiohttp`, which is not installed", hint="pip install 'lamella[local]'"
        )
    if found is not None:
        stop_service(home)
    return _start(ServiceFolder(home), host or os.environ.get("LAMELLA_HOST") or LOOPBACK)


def stop_service(home: Path) -> None:
    """End the service of a home folder, and wait for that. Deployments stay, and answer after its next start.

    Raises:
        RemoteError: It does not end.
    """
    folder, deadline = ServiceFolder(home), monotonic() + _STOP_S
    told: set[int] = set()
    while folder.is_running() and monotonic() < deadline:
        found = running_service(home)  # None as long as it has not come up yet
        if found is not None and found.pid not in told:
            told.add(found.pid)
            with suppress(ProcessLookupError):
                os.kill(found.pid, signal.SIGTERM)
        sleep(_POLL_S)
    wait_for_end(home)


def wait_for_end(home: Path, *, unless: Callable[[], bool] = lambda: False) -> None:
    """Wait until a service that is ending has ended.

    Args:
        home: The home folder.
        unless: Whether it has a reason to go on, of which nobody knew.

    Raises:
        RemoteError: It does not end.
    """
    folder, deadline = ServiceFolder(home), monotonic() + _STOP_S
    while folder.is_running() and not unless():
        if monotonic() > deadline:
            raise RemoteError(f"the service of `{home}` does not end", hint=f"see `{folder.log}`")
        sleep(_POLL_S)


def _start(folder: ServiceFolder, host: str) -> Address:
    folder.make()
    command = [sys.executable, "-P", "-m", "lamella.gateway.service", "--home", str(folder.home), "--host", host]
    source = str(Path(lamella.__file__).parents[1])
    paths = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths or [source])}
    if "LAMELLA_HOME" in environment:  # which may be relative to a folder that the service is not in
        environment["LAMELLA_HOME"] = str(Path(environment["LAMELLA_HOME"]).absolute())
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            close_fds=True,
        )
    deadline = monotonic() + _START_S
    while monotonic() < deadline:
        address = running_service(folder.home)
        if address is not None:
            process.returncode = 0  # it lives on without us; Popen would complain otherwise
            return address
        if process.poll() not in (None, 0):  # 0: another process was faster, and is about to come up
            break
        sleep(_POLL_S)
    tail = _tail(folder.log)
    raise RemoteError(
        f"the service of `{folder.home}` does not start: {tail[-1] if tail else 'it says nothing'}",
        hint=f"see `{folder.log}`",
    )


def _tail(log: Path) -> list[str]:
    """The last lines of a log, which may be long."""
    with log.open("rb") as file:
        file.seek(-min(_LOG_TAIL_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
        return file.read().decode(errors="replace").strip().splitlines()
