"""What runs inside a measured process: one job, told apart from its imports.

A job is a generator function: it imports what it needs, yields once, does the work, and returns facts about it (a
dictionary that JSON can hold). This file uses the standard library only, so that it also runs in a peer's environment.

    python probe.py MODULE JOB '{"arguments": {...}, "preload": [...], "started": 0.0}'

It says "ready" on the descriptor in `PROBE_FD` when the imports are done, waits for an answer there, does the work,
and then writes its report, one JSON object. Standard output and standard error stay the job's own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import time
from collections.abc import Generator

MARK = b"ready\n"

Job = Generator[None, None, dict[str, object]]


def status_kib(pid: int | str = "self") -> dict[str, int]:
    """The memory lines of `/proc/PID/status`, in KiB."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        lines = [line.split() for line in file]
    return {fields[0].rstrip(":"): int(fields[1]) for fields in lines if fields[-1] == "kB"}


def forget_peak() -> bool:
    """Set the kernel's record of peak memory (`VmHWM`) back to what is used now; False where that is not allowed."""
    try:
        # https://www.kernel.org/doc/html/latest/filesystems/proc.html: 5 resets the peak resident set size
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def preload(modules: list[str]) -> None:
    """Import what an earlier run of the same job imported in the middle of its work."""
    for module in modules:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def run(job: Job, modules: list[str], channel: int, started: float) -> dict[str, object]:
    """Run a job to its end and report on it."""
    next(job)
    preload(modules)
    reset = forget_peak()
    before = status_kib()
    known = set(sys.modules)
    os.write(channel, MARK)
    os.read(channel, 1)
    begin = time.perf_counter()
    facts = _finish(job)
    seconds, ended = time.perf_counter() - begin, time.monotonic()
    after = status_kib()
    return {
        "seconds": seconds,
        "seconds_since_start": ended - started,
        "imports_bytes": 1024 * before["VmRSS"],
        "peak_bytes": 1024 * (after["VmHWM"] if reset else max(after["VmHWM"], before["VmRSS"])),
        "imports_anonymous_bytes": 1024 * before["RssAnon"],
        "end_anonymous_bytes": 1024 * after["RssAnon"],
        "late_imports": [name for name in sys.modules if name not in known],
        "facts": facts,
    }


def _finish(job: Job) -> dict[str, object]:
    try:
        next(job)
    except StopIteration as stop:
        return dict(stop.value or {})
    raise RuntimeError("a job yields once, after its imports")


def main() -> None:
    """Run the job that the command line names."""
    module, name, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    channel = int(os.environ.pop("PROBE_FD"))
    job = getattr(importlib.import_module(module), name)(**settings["arguments"])
    report = run(job, settings["preload"], channel, settings["started"])
    with os.fdopen(channel, "wb") as answer:
        answer.write(json.dumps(report).encode())


if __name__ == "__main__":
    main()
