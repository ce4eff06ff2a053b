"""Cleans up after a platform whose process ended without doing so: killed, out of memory, or crashed.

A process of its own that waits until its standard input ends. Runs as a script, and imports the standard library only,
so that it is there before anything can go wrong. The names of cgroups say whose they are, so that the next platform can
clean up where not even this process was left.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_NAME = re.compile(r"lamella-(\d+)-(\d+)-(\d+)-\d+")
_ROUNDS = 100


def owner_prefix() -> str:
    """How the names of this process's cgroups begin: its namespace of process ids, its id, when it started."""
    return f"lamella-{_namespace()}-{os.getpid()}-{_started(os.getpid())}-"


def remove_stale_cgroups(parents: Iterable[Path]) -> int:
    """Kill and remove what platforms have left that are no more; how many cgroups that were."""
    removed = 0
    for parent in parents:
        for folder in parent.glob("lamella-*"):
            match = _NAME.fullmatch(folder.name)
            if match is None or match[1] != _namespace():
                continue  # of somebody else: process ids of another namespace say nothing here
            if _started(int(match[2])) != match[3]:
                remove_cgroup(folder)
                removed += 1
    return removed


def remove_cgroup(folder: Path) -> None:
    """Kill everything in a cgroup, frozen or not, and remove it."""
    for _ in range(_ROUNDS):
        kill_cgroup(folder)
        with suppress(OSError):  # busy until the kernel has taken the last process out
            folder.rmdir()
        if not folder.exists():
            return
        time.sleep(0.02)


def kill_cgroup(folder: Path) -> None:
    """Kill everything in a cgroup. In v1 a frozen process dies when it is thawed."""
    with suppress(OSError):  # v2, since Linux 5.14: all at once, so that nothing can fork away
        put(folder / "cgroup.kill", b"1")
        return
    with suppress(OSError, ValueError):
        for process in (folder / "cgroup.procs").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
    with suppress(OSError):
        put(folder / "freezer.state", b"THAWED")


def put(path: Path, content: bytes) -> None:
    """Write to a file of the kernel's, in three system calls; one that is not there is not made."""
    file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(file, content)
    finally:
        os.close(file)


def main(arguments: list[str]) -> None:
    """Wait for the end of the platform, then clean up, unless it says that it has.

    Args:
        arguments: The platform's process, how the names of its cgroups begin, its folder of temporary files, and the
            folders in which it makes cgroups.
    """
    owner, prefix, temporary, *parents = arguments
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups = _wait(int(owner))
    if groups is None:
        return
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)
    for parent in parents:
        for folder in Path(parent).glob(f"{prefix}*"):
            remove_cgroup(folder)
    shutil.rmtree(temporary, ignore_errors=True)


def _wait(owner: int) -> set[int] | None:
    """Process groups that are left when the platform has ended; None if it ended in order.

    Its lines are `+ID`, `-ID` and `.`. That it is gone shows by the end of the pipe, and, where a process that it
    forked still holds that open, by a new parent.
    """
    groups: set[int] = set()
    rest = b""
    while os.getppid() == owner:
        if not select.select([0], [], [], 1.0)[0]:
            continue
        read = os.read(0, 1 << 16)
        if not read:
            break
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            if line == b".":
                return None
            (groups.add if line[:1] == b"+" else groups.discard)(int(line[1:]))
    return groups


def _namespace() -> str:
    try:
        return str(os.stat("/proc/self/ns/pid").st_ino)
    except OSError:
        return "0"


def _started(process: int) -> str:
    """When a process started, in ticks since the system did; empty if there is none, or no /proc."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return "" if Path("/proc/self/stat").exists() else "0"
    return stat.rpartition(")")[2].split()[19]


class Guardian:
    """The platform's side of it.

    Args:
        temporary: The platform's folder of temporary files.
        parents: Folders in which it makes cgroups.
    """

    def __init__(self, temporary: Path, parents: Iterable[Path]) -> None:
        self.prefix = owner_prefix()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(os.getpid()), self.prefix, str(temporary), *map(str, parents)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )

    def watch(self, group: int) -> None:
        """A process group has begun."""
        self._tell(f"+{group}\n")

    def forget(self, group: int) -> None:
        """A process group has ended."""
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Everything is cleaned up."""
        self._tell(".\n")
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # somebody killed it; the platform works without
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
