"""By what means functions are held to their limits on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Literal

from lamella.targets.local.cgroup import Cgroup, Hierarchy, find_hierarchy
from lamella.targets.local.guardian import owner_prefix
from lamella.targets.local.namespaces import View, bubblewrap, unshare

Isolation = Literal["bubblewrap", "unshare", "none"]

FILE_DESCRIPTORS = 1_024
"""Open files of one function. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

PATH = "/var/lang/bin:/usr/local/bin:/usr/bin:/bin:/opt/bin"
_PROBE_S = 10.0
_PROBES = count(1)  # no cgroup of a function has a number that begins with 0
_DETECTING = Lock()
_SPARE_DATA_MB = 512


@dataclass(frozen=True)
class Means:
    """What is there to enforce limits with.

    Attributes:
        isolation: What makes a function's own view of the file system.
        sizes: Whether that can limit the size of the temporary folder.
        hierarchy: Where cgroups can be made, by controller.
        reasons: Why something better is not used: a line for each.
    """

    isolation: Isolation
    sizes: bool
    hierarchy: Hierarchy
    reasons: tuple[str, ...] = ()

    def wrap(self, view: View) -> list[str]:
        """The start of a command line whose program sees only that."""
        if self.isolation == "bubblewrap":
            return bubblewrap(view, sizes=self.sizes)
        return unshare(view, as_root=os.geteuid() == 0) if self.isolation == "unshare" else []


def enter(cgroup: Cgroup | None, *, data_mb: int | None = None) -> list[str]:
    """The start of a command line whose program is in the cgroup, with no core dumps and few open files.

    Args:
        cgroup: The cgroup.
        data_mb: Memory that it may use, where no cgroup holds it to that. What a process may reserve is more than it
            uses, so this only stops one that grows faster than a watchdog looks.
    """
    into = cgroup.enter if cgroup is not None else ""
    limits = f"ulimit -c 0 && ulimit -n {FILE_DESCRIPTORS} && "
    if data_mb is not None and sys.platform == "linux":
        limits += f"ulimit -d {(2 * data_mb + _SPARE_DATA_MB) * 1024} && "
    return ["/bin/sh", "-c", f'{into}{limits}exec "$@"', "sh"]


def detect(wanted: Isolation | None = None, *, cgroups: bool = True) -> Means:
    """Find the best means, by trying each once: a few hundredths of a second, the first time.

    Args:
        wanted: Try this one only, and make do with none if it does not work.
        cgroups: Use cgroups where they can be made.
    """
    with _DETECTING:  # two at once would disturb each other
        return _detected(wanted, cgroups)


@cache
def _detected(wanted: Isolation | None, cgroups: bool) -> Means:
    reasons: list[str] = []
    hierarchy = _tried_hierarchy(reasons) if cgroups else {}
    if sys.platform != "linux":
        reasons.append(f"{sys.platform} has no namespaces")
        return Means("none", sizes=False, hierarchy=hierarchy, reasons=tuple(reasons))
    candidates: tuple[Isolation, ...] = ("bubblewrap", "unshare") if wanted is None else (wanted,)
    for isolation in candidates:
        found = _tried_isolation(isolation, hierarchy, reasons) if isolation != "none" else None
        if found is not None:
            return Means(found.isolation, found.sizes, hierarchy, tuple(reasons))
    return Means("none", sizes=False, hierarchy=hierarchy, reasons=tuple(reasons))


def _tried_isolation(isolation: Isolation, hierarchy: Hierarchy, reasons: list[str]) -> Means | None:
    program = "bwrap" if isolation == "bubblewrap" else "unshare"
    if shutil.which(program) is None:
        reasons.append(f"`{program}` is not installed")
        return None
    sizes = isolation == "unshare" or "--size" in _output([program, "--help"])
    means = Means(isolation, sizes, hierarchy)
    with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
        task, runtime, root = (Path(folder) / name for name in ("task", "runtime", "root"))
        for path in (task, runtime, root):
            path.mkdir()
        (runtime / "etc-passwd").touch()
        view = View(task, runtime, (), temporary_mb=1, root=root)
        error = _failure([*means.wrap(view), "/bin/sh", "-c", "test -d /var/task && ! test -w /var/task"])
    if error is not None:
        reasons.append(f"`{program}` does not work here: {error}")
    return means if error is None else None


def _tried_hierarchy(reasons: list[str]) -> Hierarchy:
    """The hierarchies, if a process can really be put into them."""
    hierarchy = find_hierarchy()
    if not hierarchy:
        if sys.platform == "linux":
            reasons.append("no cgroup may be made here")
        return {}
    try:
        cgroup = Cgroup(hierarchy, f"{owner_prefix()}0{next(_PROBES)}")
    except OSError as error:
        reasons.append(f"no cgroup can be made: {error}")
        return {}
    try:
        cgroup.limit(memory_bytes=64 << 20, processors=0.5)
        error_text = _failure([*enter(cgroup), "true"])
    except OSError as error:
        error_text = str(error)
    finally:
        cgroup.remove()
    if error_text is not None:
        reasons.append(f"no process can be put into a cgroup: {error_text}")
        return {}
    return hierarchy


def _failure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str | None:
    """What a command said when it failed; None if it did not."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
            env={"PATH": PATH, **(environment or {})},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit status {done.returncode}"


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_S, check=False)
    return done.stdout + done.stderr
