"""What all instances of a platform share."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from lamella.platforms.base import Limits
from lamella.targets.local.guardian import Guardian
from lamella.targets.local.sandbox import Means

_NUMBERS = count(1)  # of this process: cgroups are named by them, and it may have several platforms

REGION, ACCOUNT = "us-east-1", "000000000000"
"""Where functions are told to be, unless their environment says otherwise, and whose they are."""

_FILES_OF_AN_INSTANCE = 6
"""This process has open for one: what it writes, its end, its Runtime API and the connection to that, the connection of
who asks it, and one more while it starts."""

_SPARE_FILES = 64


@dataclass(frozen=True)
class Host:
    """What all instances of a platform share.

    Attributes:
        means: What limits are enforced with.
        limits: Which they are.
        mb_per_vcpu: Memory that comes with one processor.
        guardian: Cleans up if this process cannot.
        folder: For temporary files.
        numbers: Of instances, unique in this process.
    """

    means: Means
    limits: Limits
    mb_per_vcpu: float
    guardian: Guardian
    folder: Path
    numbers: Iterator[int] = field(default_factory=lambda: _NUMBERS)

    def processors(self, memory_mb: int) -> float:
        """Processors of a function of that size."""
        return memory_mb / self.mb_per_vcpu

    def affinity(self, memory_mb: int, number: int) -> set[int]:
        """As many whole processors of this machine, different ones for each instance."""
        there = sorted(os.sched_getaffinity(0))
        wanted = min(len(there), -int(-self.processors(memory_mb) // 1))
        return {there[(number + step) % len(there)] for step in range(wanted)}


def instances_for(concurrency: int) -> int:
    """How many instances this process can have: twice the requests, unless that takes more open files than it may have.

    AWS counts the requests that run, not the instances that are kept; here those are processes of this machine.
    """
    most_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most_files == resource.RLIM_INFINITY:
        return 2 * concurrency
    return max(1, min(2 * concurrency, (most_files - _SPARE_FILES) // _FILES_OF_AN_INSTANCE))


def function_arn(name: str, qualifier: str | None = None) -> str:
    """A function's name in full."""
    arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
    return arn if qualifier is None else f"{arn}:{qualifier}"
