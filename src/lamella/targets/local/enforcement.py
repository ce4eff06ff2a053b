"""Which limits hold on this machine, how, and what would let the others hold: for `lamella doctor`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from lamella.targets.local.cgroup import PERIOD_US, PROCESSES, Controller
from lamella.targets.local.sandbox import FILE_DESCRIPTORS, Means, detect

Degree = Literal["yes", "partly", "no"]

_ON_LINUX: bool = sys.platform == "linux"
_NO_CGROUPS = "run as root, or in `systemd-run --user --scope -p Delegate=yes`"
_NO_NAMESPACES = "install bubblewrap, and allow user namespaces"
_LINUX = "run it on Linux"


@dataclass(frozen=True)
class Enforced:
    """One limit.

    Attributes:
        limit: What is limited.
        enforced: Whether it is.
        how: By what, and what is missing.
        hint: What would enforce it fully; None where it is, or where nothing would.
    """

    limit: str
    enforced: Degree
    how: str
    hint: str | None = None


def enforcement(means: Means | None = None) -> tuple[Enforced, ...]:
    """What is enforced, with the given means or the best that there are here."""
    means = means if means is not None else detect()
    return (
        _memory(means),
        _processors(means),
        _processes(means),
        Enforced("open files", "yes", f"RLIMIT_NOFILE of {FILE_DESCRIPTORS}"),
        _code(means),
        _temporary(means),
        _others(means),
        Enforced("secrets of this machine", "yes", "no variable of this process reaches a function"),
        Enforced("network", "no", "functions use this machine's network, as they reach the outside on AWS"),
        _rest(means),
        Enforced("time of a request and of INIT", "yes", "timers of the platform, which kill the process"),
        Enforced("payloads, concurrency, burst", "yes", "counted by the platform"),
        _ending(means),
    )


def _cgroup(means: Means, controller: Controller) -> str | None:
    parent = means.hierarchy.get(controller)
    return None if parent is None else f"cgroup v{parent.version}, {controller} controller"


def _hint() -> str:
    return _NO_CGROUPS if _ON_LINUX else _LINUX


def _memory(means: Means) -> Enforced:
    how = _cgroup(means, "memory")
    if how is not None:
        return Enforced("memory", "yes", f"{how}: the kernel kills")
    return Enforced(
        "memory", "partly", "a watchdog looks at the resident set every 50 ms and kills; RLIMIT_DATA", _hint()
    )


def _processors(means: Means) -> Enforced:
    how = _cgroup(means, "cpu")
    if how is not None:
        return Enforced("processors", "yes", f"{how}: a quota in every {PERIOD_US // 1000} ms")
    if _ON_LINUX:
        return Enforced("processors", "partly", "CPU affinity: whole processors, rounded up", _hint())
    return Enforced("processors", "no", "a function has all of them", _hint())


def _processes(means: Means) -> Enforced:
    how = _cgroup(means, "pids")
    if how is not None:
        return Enforced("processes and threads", "yes", f"{how}: {PROCESSES}")
    return Enforced("processes and threads", "no", "no cgroup with the pids controller", _hint())


def _namespaces(means: Means) -> str | None:
    if means.isolation == "none":
        return None
    return "bubblewrap" if means.isolation == "bubblewrap" else "unshare, mount and pivot_root"


def _namespace_hint() -> str:
    return _NO_NAMESPACES if _ON_LINUX else _LINUX


def _code(means: Means) -> Enforced:
    tool = _namespaces(means)
    if tool is not None:
        return Enforced("read-only code", "yes", f"{tool}: the package is bound read-only at /var/task")
    return Enforced("read-only code", "no", "as the permissions of its files say", _namespace_hint())


def _temporary(means: Means) -> Enforced:
    tool = _namespaces(means)
    if tool is not None and means.sizes:
        return Enforced("temporary folder", "yes", f"{tool}: an own /tmp in memory, of the size that was asked for")
    if tool is not None:
        return Enforced(
            "temporary folder", "partly", f"{tool}: an own /tmp, as large as memory allows", "bubblewrap 0.8 or newer"
        )
    return Enforced("temporary folder", "partly", "an own $TMPDIR, of any size", _namespace_hint())


def _others(means: Means) -> Enforced:
    tool = _namespaces(means)
    if tool is not None:
        return Enforced("files and processes of others", "yes", f"{tool}: own mounts, process ids and IPC")
    return Enforced("files and processes of others", "no", "a function sees what this user sees", _namespace_hint())


def _rest(means: Means) -> Enforced:
    parent = means.hierarchy.get("freezer")
    if parent is not None:
        return Enforced("standing still between requests", "yes", f"cgroup v{parent.version}, freezer")
    return Enforced("standing still between requests", "no", "background threads run on", _hint())


def _ending(means: Means) -> Enforced:
    how = "a guardian process kills and removes what is left"
    if means.isolation == "bubblewrap":
        how += "; processes die with the platform (PR_SET_PDEATHSIG)"
    if means.isolation == "none" and not means.hierarchy:
        how += "; a process that leaves its group, and whose parent ends, is not found"
        hint = f"{_NO_CGROUPS}; or {_NO_NAMESPACES}" if _ON_LINUX else _LINUX
        return Enforced("end of all processes", "partly", how, hint)
    return Enforced("end of all processes", "yes", how)
