"""Limits on a whole process, imports included: memory, and a share of the processors.

By cgroup v2 where the controllers are delegated to this user, by v1 where their folders are writable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

MB_PER_VCPU = 1769
"""Memory that comes with one virtual processor on AWS Lambda.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""

PERIOD_US = 20_000
"""A share of a processor is given anew this often, as AWS Lambda seems to do; the kernel's default is 100 ms."""

LEAST_QUOTA_US = 1_000
"""The kernel gives no less in a period."""

_NUMBERS = count()


@dataclass(frozen=True)
class MemoryCgroup:
    """A cgroup with a memory limit.

    Attributes:
        path: Its folder.
        version: 1 or 2.
        processors: The folder with its share of the processors: the same in v2, another in v1; None without a limit.
    """

    path: Path
    version: int
    processors: Path | None = None

    @property
    def enter(self) -> list[str]:
        """The start of a command line whose process goes into the cgroup before it becomes the given program."""
        folders = dict.fromkeys(folder for folder in (self.path, self.processors) if folder)
        return [
            "/bin/sh",
            "-c",
            "".join(f'echo $$ > "{folder}/cgroup.procs" && ' for folder in folders) + 'exec "$@"',
            "sh",
        ]

    @property
    def peak_bytes(self) -> int | None:
        """Most memory charged to it, page cache included; None where the kernel does not say (v2 before 5.19)."""
        file = self.path / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes")
        return int(file.read_text()) if file.exists() else None


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make a cgroup with a memory limit under this process's own, and remove it afterwards.

    Raises:
        OSError: There is no memory controller that this user may write to.
    """
    parent, version = _writable_parent("memory")
    with _folder(parent) as path:
        _limit_memory(path, version, limit_bytes)
        yield MemoryCgroup(path, version)


@contextmanager
def function_cgroup(memory_mb: int) -> Iterator[MemoryCgroup]:
    """Make a cgroup with what AWS Lambda gives a function of this size: its memory, and its share of the processors.

    Raises:
        OSError: There is no memory controller, or none for processors, that this user may write to.
    """
    parent, version = _writable_parent("memory", "cpu")
    quota_us = max(LEAST_QUOTA_US, round(PERIOD_US * memory_mb / MB_PER_VCPU))
    with ExitStack() as stack:
        path = stack.enter_context(_folder(parent))
        _limit_memory(path, version, memory_mb << 20)
        if version == 2:
            processors = path
            (path / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
        else:
            processors = stack.enter_context(_folder(_v1("cpu")))
            (processors / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (processors / "cpu.cfs_quota_us").write_text(str(quota_us))
        yield MemoryCgroup(path, version, processors)


@contextmanager
def _folder(parent: Path) -> Iterator[Path]:
    path = parent / f"lamella-bench-{os.getpid()}-{next(_NUMBERS)}"
    path.mkdir()
    try:
        yield path
    finally:
        _remove(path)


def _limit_memory(path: Path, version: int, limit_bytes: int) -> None:
    limit, swap, allowed = (
        ("memory.max", "memory.swap.max", 0)
        if version == 2
        else ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit_bytes)
    )
    (path / limit).write_text(str(limit_bytes))
    with suppress(OSError):  # no such file where the kernel has no swap accounting
        (path / swap).write_text(str(allowed))


def _writable_parent(*controllers: str) -> tuple[Path, int]:
    """The folder in which a cgroup with these controllers can be made, and the version of its hierarchy.

    In v1 it is the first controller's.
    """
    v2 = Path("/sys/fs/cgroup") / _own_cgroups().get("", "/").lstrip("/")
    for folder in (v2, *v2.parents):  # v2 allows no limit beside processes: usually the parent's siblings are the place
        control = folder / "cgroup.subtree_control"
        if control.exists() and set(controllers) <= set(control.read_text().split()) and os.access(folder, os.W_OK):
            return folder, 2
    folders = [_v1(controller) for controller in controllers]
    if all((folder / "cgroup.procs").exists() and os.access(folder, os.W_OK) for folder in folders):
        return folders[0], 1
    raise OSError(
        f"no cgroup for {' and '.join(controllers)} may be made here: "
        "run as root, or in `systemd-run --user --scope -p Delegate=yes`"
    )


def _v1(controller: str) -> Path:
    """This process's folder in a controller's hierarchy of cgroup v1."""
    return Path("/sys/fs/cgroup") / controller / _own_cgroups().get(controller, "/").lstrip("/")


def _own_cgroups() -> Mapping[str, str]:
    """The path for each controller in `/proc/self/cgroup`; the controller of v2 is empty."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    return {controller: path for _, controllers, path in lines for controller in controllers.split(",")}


def _remove(path: Path) -> None:
    for _ in range(50):
        with suppress(OSError):  # busy until the kernel has taken the last process out
            path.rmdir()
            return
        time.sleep(0.05)
