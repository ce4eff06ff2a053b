"""How much of the machine others used meanwhile: a benchmark on a busy machine is no benchmark."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Busy:
    """Processor time used since the machine started, and the moment it was read."""

    processor_s: float
    at_s: float

    def others_share(self, *, own_s: float) -> float:
        """Share of all processors that was used from this moment to now by anything but `own_s` seconds of ours.

        Resolution: the kernel counts in ticks of 10 ms, so that runs under a tenth of a second tell little.
        """
        now = busy()
        available_s = (now.at_s - self.at_s) * (os.cpu_count() or 1)
        return round(max(now.processor_s - self.processor_s - own_s, 0) / available_s, 3)


def busy() -> Busy:
    """What all processors have done so far, time stolen by the hypervisor included."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    ticks = user + nice + system + irq + softirq + steal
    return Busy(processor_s=ticks / _TICKS_PER_S, at_s=time.monotonic())


def processor_s(pid: int) -> float:
    """Processor time that a process, with its threads, has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S
