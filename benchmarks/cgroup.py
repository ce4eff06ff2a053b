"""A memory limit on a whole process, imports included.

By cgroup v2 where a memory controller is delegated to this user, by v1 where its folder is writable.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MemoryCgroup:
    """A cgroup with a memory limit.

    Attributes:
        path: Its folder.
        version: 1 or 2.
    """

    path: Path
    version: int

    @property
    def enter(self) -> list[str]:
        """The start of a command line whose process goes into the cgroup before it becomes the given program."""
        return ["/bin/sh", "-c", f'echo $$ > "{self.path}/cgroup.procs" && exec "$@"', "sh"]

    @property
    def peak_bytes(self) -> int | None:
        """Most memory charged to it, page cache included; None where the kernel does not say (v2 before 5.19)."""
        file = self.path / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes")
        return int(file.read_text()) if file.exists() else None


@contextmanager
def memory_cgroup(limit_bytes: int) -> Iterator[MemoryCgroup]:
    """Make a cgroup under this process's own, and remove it afterwards.

    Raises:
        OSError: There is no memory controller that this user may write to.
    """
    parent, version = _writable_parent()
    path = parent / f"lamella-bench-{os.getpid()}"
    path.mkdir()
    try:
        if version == 2:
            (path / "memory.max").write_text(str(limit_bytes))
            with suppress(OSError):  # no such file where the kernel has no swap accounting
                (path / "memory.swap.max").write_text("0")
        else:
            (path / "memory.limit_in_bytes").write_text(str(limit_bytes))
            with suppress(OSError):
                (path / "memory.memsw.limit_in_bytes").write_text(str(limit_bytes))
        yield MemoryCgroup(path=path, version=version)
    finally:
        _remove(path)


def _writable_parent() -> tuple[Path, int]:
    """The folder in which a memory cgroup can be made, and the version of its hierarchy."""
    own = dict(_own_cgroups())
    v2 = Path("/sys/fs/cgroup") / own.get("", "/").lstrip("/")
    for folder in (v2, *v2.parents):  # v2 allows no limit beside processes: usually the parent's siblings are the place
        control = folder / "cgroup.subtree_control"
        if control.exists() and "memory" in control.read_text().split() and os.access(folder, os.W_OK):
            return folder, 2
    v1 = Path("/sys/fs/cgroup/memory") / own.get("memory", "/").lstrip("/")
    if (v1 / "memory.limit_in_bytes").exists() and os.access(v1, os.W_OK):
        return v1, 1
    raise OSError("no memory cgroup may be made here: run as root, or in `systemd-run --user --scope -p Delegate=yes`")


def _own_cgroups() -> Iterator[tuple[str, str]]:
    """Controller and path of each line of `/proc/self/cgroup`; the controller of v2 is empty."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _remove(path: Path) -> None:
    for _ in range(50):
        with suppress(OSError):  # busy until the kernel has taken the last process out
            path.rmdir()
            return
        time.sleep(0.05)
