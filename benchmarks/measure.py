"""The harness: jobs in fresh processes, taking turns, with their time and their peak memory.

Each sample is a new process (`probe.py`). Its clock starts after its imports; its memory is the kernel's record of
peak resident memory (`VmHWM`), reset after the imports, less what was resident then. Anonymous and file-backed pages
are told apart by looking at `/proc/PID/status` from outside every few milliseconds, so that nothing runs beside the
job.

Jobs that are compared run A, B, A, B, ...: a ratio is made from two runs that were neighbours in time. Before each run
the files it reads are brought into the page cache (or thrown out of it, for a cold run) and written data is flushed.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict

from cgroup import MemoryCgroup, memory_cgroup
from machine import busy
from probe import MARK, status_kib

PROBE = Path(__file__).with_name("probe.py")
SAMPLING_S = 0.005


@dataclass(frozen=True)
class Job:
    """One thing to measure.

    Attributes:
        label: Its name in tables and results.
        module: Module of the job function, beside this file.
        function: Its name there.
        arguments: Its keyword arguments, as JSON can hold them.
        reads: Files whose place in the page cache is set before each run.
        cache: Whether they are in the page cache when the run starts (`warm`) or not (`cold`).
        output: A folder that is empty before each run and removed after it.
        python: The interpreter, or None for this one.
        budget_s: The run is stopped after this many seconds.
        memory_limit_bytes: Limit on the whole process, imports and page cache included, or None.
        preload: Modules to import before the clock starts; see `rehearse`.
    """

    label: str
    module: str
    function: str
    arguments: Mapping[str, object] = field(default_factory=dict)
    reads: tuple[Path, ...] = ()
    cache: Literal["warm", "cold"] = "warm"
    output: Path | None = None
    python: Path | None = None
    budget_s: float = 300.0
    memory_limit_bytes: int | None = None
    preload: tuple[str, ...] = ()


class Sample(TypedDict, total=False):
    """One run. With `error`, the measurements are missing or, for a time-out, not there at all."""

    label: str
    round: int
    error: str
    elapsed_s: float
    seconds: float
    seconds_since_start: float
    imports_bytes: int
    peak_bytes: int
    peak_above_imports_bytes: int
    imports_anonymous_bytes: int
    sampled_peak_anonymous_bytes: int
    sampled_peak_file_bytes: int
    cgroup_peak_bytes: int
    others_share: float
    late_imports: list[str]
    facts: dict[str, object]


def compare(
    jobs: Sequence[Job], *, rounds: int, report: Callable[[Sample], None], once_above_s: float = float("inf")
) -> list[Sample]:
    """Run the jobs in turn, `rounds` times.

    A job that failed, ran out of time, or took longer than `once_above_s` is not run again.
    """
    samples: list[Sample] = []
    done: set[str] = set()
    for number in range(rounds):
        for job in jobs:
            if job.label in done:
                continue
            sample = measure(job)
            sample["round"] = number
            report(sample)
            samples.append(sample)
            if "error" in sample or sample["elapsed_s"] > once_above_s:
                done.add(job.label)
    return samples


def rehearse(job: Job) -> tuple[str, ...]:
    """Modules that a job imports in the middle of its work, found by one run that does not count.

    A library may import what it needs only when it needs it. Measured runs have these modules imported beforehand, for
    every competitor alike, so that time and memory are those of the work.
    """
    sample = measure(job)
    return tuple(name for name in sample.get("late_imports", []) if name != "__main__")


def measure(job: Job) -> Sample:
    """Run a job once in a fresh process."""
    with ExitStack() as stack:
        if job.output is not None:
            stack.callback(shutil.rmtree, job.output, ignore_errors=True)
            shutil.rmtree(job.output, ignore_errors=True)
            job.output.mkdir(parents=True)
        cgroup = stack.enter_context(memory_cgroup(job.memory_limit_bytes)) if job.memory_limit_bytes else None
        os.sync()
        set_page_cache(job.reads, job.cache)
        return _run(job, cgroup)


def set_page_cache(files: Iterable[Path], state: Literal["warm", "cold"]) -> None:
    """Bring files into the page cache, or drop them from it."""
    buffer = bytearray(1 << 22)
    for path in files:
        with path.open("rb", buffering=0) as file:
            if state == "cold":
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                continue
            while file.readinto(buffer):
                pass


def _run(job: Job, cgroup: MemoryCgroup | None) -> Sample:
    ours, theirs = socket.socketpair()
    settings = {"arguments": dict(job.arguments), "preload": job.preload, "started": time.monotonic()}
    command = [str(job.python or sys.executable), str(PROBE), job.module, job.function, json.dumps(settings)]
    started, before, own_s = time.monotonic(), busy(), _own_processor_s()
    with ours, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*(cgroup.enter if cgroup else []), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env=_environment(job) | {"PROBE_FD": str(theirs.fileno())},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        try:
            sample, answer = _watch(process.pid, ours, started + job.budget_s)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
        sample |= {"label": job.label, "elapsed_s": time.monotonic() - started}
        sample["others_share"] = before.others_share(own_s=_own_processor_s() - own_s)
        if cgroup is not None and cgroup.peak_bytes is not None:
            sample["cgroup_peak_bytes"] = cgroup.peak_bytes
        if answer:
            return _reported(sample, answer)
        errors.seek(0)
        sample["error"] = _failure(job, status, errors.read(), sample["elapsed_s"])
        return sample


def _own_processor_s() -> float:
    """Processor time of this process and of all that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _environment(job: Job) -> dict[str, str]:
    """A peer's interpreter must not see this environment's packages."""
    return {k: v for k, v in os.environ.items() if not (job.python and k in {"PYTHONPATH", "PYTHONHOME"})}


def _watch(pid: int, channel: socket.socket, deadline: float) -> tuple[Sample, bytes]:
    """Sample a process's memory from the end of its imports until it reports, ends, or runs out of time."""
    answer = b""
    anonymous = mapped = 0
    if not _readable(channel, deadline - time.monotonic()) or channel.recv(len(MARK)) != MARK:
        return {}, answer
    channel.send(b"g")
    while time.monotonic() < deadline:
        with suppress(OSError, KeyError):  # it may end while its status is read
            memory = status_kib(pid)
            anonymous = max(anonymous, 1024 * memory["RssAnon"])
            mapped = max(mapped, 1024 * memory["RssFile"])
        if _readable(channel, SAMPLING_S):
            received = channel.recv(1 << 20)
            answer += received
            if not received:
                break
    return {"sampled_peak_anonymous_bytes": anonymous, "sampled_peak_file_bytes": mapped}, answer


def _readable(channel: socket.socket, timeout_s: float) -> bool:
    return bool(select.select([channel], [], [], max(timeout_s, 0))[0])


def _reported(sample: Sample, answer: bytes) -> Sample:
    report = json.loads(answer)
    for key in Sample.__annotations__:
        if key in report:
            sample[key] = report[key]  # type: ignore[literal-required]
    sample["peak_above_imports_bytes"] = sample["peak_bytes"] - sample["imports_bytes"]
    return sample


def _failure(job: Job, status: int, errors: bytes, elapsed_s: float) -> str:
    if elapsed_s >= job.budget_s:
        return f"stopped after {job.budget_s:g} s"
    if status == -signal.SIGKILL and job.memory_limit_bytes:
        return f"killed: over the memory limit of {job.memory_limit_bytes / 2**20:g} MiB"
    lines = errors.decode(errors="replace").strip().splitlines()
    root = str(PROBE.parent.parent)
    return (lines[-1] if lines else f"ended with status {status} and no message").replace(root, ".")[:300]
