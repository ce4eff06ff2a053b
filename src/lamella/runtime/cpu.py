"""The share of the CPU that this process may use.

ONNX Runtime sizes its thread pool from the host's cores (onnxruntime #29510), which in a container or a function with
a fraction of a core costs more than it gives.
"""

from __future__ import annotations

import os
from pathlib import Path

MB_PER_VCPU = 1769
"""Memory at which an AWS Lambda function has one full vCPU.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
"""


def cpu_share(*, memory_mb: int | None = None) -> float:
    """CPUs that this process may use: the least of affinity, cgroup quota, and a function's share by memory.

    Args:
        memory_mb: The function's memory size, if it runs (or will run) as one.
    """
    shares = [float(_affinity())]
    quota = _cgroup_quota()
    if quota is not None:
        shares.append(quota)
    if memory_mb is not None:
        shares.append(memory_mb / MB_PER_VCPU)
    return min(shares)


def thread_count(*, memory_mb: int | None = None) -> int:
    """Threads that pay for that share: rounded up, at least one."""
    return max(1, -int(-cpu_share(memory_mb=memory_mb) // 1))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cgroup_quota() -> float | None:
    """CPUs that cgroup v2 or v1 allow this process, the tightest of its ancestors; None where unlimited."""
    quotas = [quota for folder in _cgroup_folders() if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _cgroup_folders() -> list[Path]:
    root = Path("/sys/fs/cgroup")
    folders: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        folder = base / path.lstrip("/")
        folders += [folder, *(p for p in folder.parents if p.is_relative_to(base))]
    return folders


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return None
    if quota in ("max", "-1") or int(period) <= 0:
        return None
    return int(quota) / int(period)
