"""Control groups: memory, processors and processes of one instance, and standing still.

Version 2 where its controllers are ours to use, version 1 where its folders are, each controller by itself: machines
with both have some in one and some in the other.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamella.targets.local.guardian import kill_cgroup, put

Controller = Literal["memory", "cpu", "pids", "freezer"]

LIMITING: tuple[Controller, ...] = ("memory", "cpu", "pids")

PERIOD_US = 20_000
"""A share of a processor is given anew this often, as AWS Lambda seems to do; the kernel's default is 100 ms."""

LEAST_QUOTA_US = 1_000
"""The kernel gives no less in a period."""

PROCESSES = 1_024
"""Processes and threads of one function. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Parent:
    """A folder in which cgroups can be made.

    Attributes:
        folder: The folder.
        version: Of its hierarchy: 1 or 2.
    """

    folder: Path
    version: int


Hierarchy = Mapping[Controller, Parent]
"""Where each controller that can be used has its cgroups."""


def find_hierarchy(root: Path = ROOT, own: Path = Path("/proc/self/cgroup")) -> Hierarchy:
    """Where this process may make cgroups. Reads files, and makes none.

    Args:
        root: Where the hierarchies are mounted.
        own: The file that says in which cgroups this process is.
    """
    try:
        paths = _own_paths(own.read_text())
    except OSError:
        return {}
    unified = root if (root / "cgroup.controllers").exists() else root / "unified"
    below = unified / paths.get("", "").lstrip("/")
    folder, offered = _in_version_2(unified, below)
    found: dict[Controller, Parent] = {}
    for controller in LIMITING:
        parent = Parent(folder, 2) if controller in offered else _in_version_1(controller, root, paths)
        if parent is not None:
            found[controller] = parent
    if offered:
        found["freezer"] = Parent(folder, 2)  # a process is in one cgroup of version 2, whatever that is used for
    elif (below / "cgroup.procs").exists() and _writable(below):
        found["freezer"] = Parent(below, 2)  # it needs no controller there
    elif (frozen := _in_version_1("freezer", root, paths)) is not None:
        found["freezer"] = frozen
    return found


def _own_paths(text: str) -> dict[str, str]:
    """The path by controller; that of version 2 has an empty name."""
    lines = [line.split(":", 2) for line in text.splitlines()]
    return {controller: path for _, controllers, path in lines for controller in controllers.split(",")}


def _in_version_2(unified: Path, below: Path) -> tuple[Path, set[str]]:
    """The folder whose children have the most of our controllers, and which; the nearest of several.

    Version 2 allows no limits beside processes: usually it is the parent of the one that this process is in.
    """
    best, offered = below, set[str]()
    for folder in (below, *below.parents):
        if not folder.is_relative_to(unified):
            break
        with suppress(OSError):
            here = set((folder / "cgroup.subtree_control").read_text().split()) & set(LIMITING)
            if len(here) > len(offered) and _writable(folder):
                best, offered = folder, here
    return best, offered


def _in_version_1(controller: Controller, root: Path, paths: Mapping[str, str]) -> Parent | None:
    folder = root / controller / paths.get(controller, "").lstrip("/")
    if controller in paths and (folder / "cgroup.procs").exists() and _writable(folder):
        return Parent(folder, 1)
    return None


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


class Cgroup:
    """One cgroup in each hierarchy that is used.

    Args:
        hierarchy: Where.
        name: Its name in all of them.
    """

    def __init__(self, hierarchy: Hierarchy, name: str) -> None:
        self._folders = {controller: parent.folder / name for controller, parent in hierarchy.items()}
        self._versions = {controller: parent.version for controller, parent in hierarchy.items()}
        self._distinct: list[Path] = []
        try:
            for folder in dict.fromkeys(self._folders.values()):
                folder.mkdir()
                self._distinct.append(folder)
        except BaseException:
            self.remove()
            raise

    @property
    def enter(self) -> str:
        """The start of a shell command line, by which the shell goes into it."""
        return "".join(f"echo $$ > '{folder}/cgroup.procs' && " for folder in self._distinct)

    def limit(self, *, memory_bytes: int, processors: float) -> None:
        """Set its limits, as far as there are controllers for them.

        Args:
            memory_bytes: Memory, page cache included; there is no swap beyond it.
            processors: Processors, of which parts are given in every 20 ms.
        """
        if "memory" in self._folders:
            self._limit_memory(memory_bytes)
        if "cpu" in self._folders:
            folder, quota_us = self._folders["cpu"], max(LEAST_QUOTA_US, round(PERIOD_US * processors))
            if self._versions["cpu"] == 2:
                (folder / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            else:
                (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                try:
                    (folder / "cpu.cfs_quota_us").write_text(str(quota_us))
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    # More than the parent has, which holds it anyway: it stays without a quota of its own.
        if "pids" in self._folders:
            (self._folders["pids"] / "pids.max").write_text(str(PROCESSES))

    def _limit_memory(self, memory_bytes: int) -> None:
        folder = self._folders["memory"]
        if self._versions["memory"] == 2:
            (folder / "memory.max").write_text(str(memory_bytes))
            (folder / "memory.oom.group").write_text("1")
            swap, most = folder / "memory.swap.max", "0"
        else:
            (folder / "memory.limit_in_bytes").write_text(str(memory_bytes))
            swap, most = folder / "memory.memsw.limit_in_bytes", str(memory_bytes)
        if swap.exists():  # not where the kernel has no swap accounting
            swap.write_text(most)

    @property
    def limits_memory(self) -> bool:
        """Whether the kernel holds it to its memory."""
        return "memory" in self._folders

    @property
    def limits_processors(self) -> bool:
        """Whether the kernel holds it to its share of the processors."""
        return "cpu" in self._folders

    @property
    def freezes(self) -> bool:
        """Whether it can be made to stand still."""
        return "freezer" in self._folders

    @property
    def holds_processes(self) -> bool:
        """Whether there is any hierarchy that knows its processes."""
        return bool(self._distinct)

    def processes(self) -> list[int]:
        """Ids of its processes."""
        for folder in self._distinct[:1]:
            with suppress(OSError):
                return [int(process) for process in (folder / "cgroup.procs").read_text().split()]
        return []

    def memory_kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        if "memory" not in self._folders:
            return 0
        name = "memory.events" if self._versions["memory"] == 2 else "memory.oom_control"
        return self._count(name, "oom_kill")

    def temporary_bytes(self) -> int:
        """Files that it keeps in memory: those of its own temporary folder."""
        return self._count("memory.stat", "shmem") if "memory" in self._folders else 0

    def _count(self, file: str, key: str) -> int:
        with suppress(OSError):  # it may be gone
            for line in (self._folders["memory"] / file).read_text().splitlines():
                name, _, value = line.partition(" ")
                if name == key:
                    return int(value)
        return 0

    def freeze(self) -> None:
        """Let its processes stand still. The kernel takes a moment for it."""
        self._set_frozen(frozen=True)

    def thaw(self) -> None:
        """Let them go on."""
        self._set_frozen(frozen=False)

    def _set_frozen(self, *, frozen: bool) -> None:
        folder = self._folders.get("freezer")
        if folder is None:
            return
        with suppress(FileNotFoundError):  # it has ended meanwhile
            if self._versions["freezer"] == 2:
                put(folder / "cgroup.freeze", b"1" if frozen else b"0")
            else:
                put(folder / "freezer.state", b"FROZEN" if frozen else b"THAWED")

    def kill(self) -> None:
        """Kill its processes, frozen or not."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for folder in self._distinct:
            kill_cgroup(folder)

    def remove(self) -> bool:
        """Remove it; False if it still has processes, which take a moment to die."""
        for folder in list(self._distinct):
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass  # somebody has cleaned up
            except OSError:
                continue
            self._distinct.remove(folder)
        return not self._distinct
