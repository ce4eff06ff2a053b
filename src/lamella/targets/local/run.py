"""One process of an instance with its Runtime API: started, asked, ended. Its first end of any kind is what counts."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lamella.platforms.base import MB
from lamella.targets.local.cgroup import Cgroup
from lamella.targets.local.host import REGION, Host
from lamella.targets.local.logs import InstanceLog
from lamella.targets.local.namespaces import RUNTIME_ROOT, TASK_ROOT, Bind, View, interpreter
from lamella.targets.local.process import Process, discard, exit_reason
from lamella.targets.local.report import Status
from lamella.targets.local.runtime_api import Answer, Event, RuntimeApi
from lamella.targets.local.sandbox import enter
from lamella.targets.local.spec import FunctionSpec
from lamella.targets.local.surroundings import prepare_runtime, variables

RESPONSE_GRACE_BYTES = 100
"""AWS takes answers of 6 MB and 100 bytes, and says so when it refuses one."""

_WATCH_S = 0.05 if sys.platform == "linux" else 0.25
_CLIENTS = {"lamella": "lamella.runtime.client", "awslambdaric": "awslambdaric"}


@dataclass(frozen=True)
class Failure:
    """Why there is no answer.

    Attributes:
        error_type: AWS's name for it.
        reason: What AWS says of it.
        status: What the `REPORT` says.
        payload: The process's own description, if it has given one.
    """

    error_type: str
    reason: str
    status: Status = "error"
    payload: bytes | None = None


class Run:
    """A process that is asked one thing at a time: to get ready, then to answer events.

    Attributes:
        exited: Ends when the process has, with its exit status.

    Args:
        host: What instances share.
        spec: The function.
        version: `$LATEST`, or a number.
        log: Where it writes to.
    """

    def __init__(self, host: Host, spec: FunctionSpec, version: str, log: InstanceLog) -> None:
        self._host, self._spec, self._version, self._log = host, spec, version, log
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[Answer | Failure | None] = self._loop.create_future()
        self._over_memory = self._ended = False
        self._temporary: Path | None = None
        self._watchdog: asyncio.Task[None] | None = None
        limit = host.limits.response_bytes
        self._api = RuntimeApi(
            response_limit_bytes=(limit if limit is not None else sys.maxsize >> 1) + RESPONSE_GRACE_BYTES,
            on_ready=lambda: self._settle(None),
            on_init_error=lambda answer: self._settle(
                Failure(answer.error_type or "Unknown", "", payload=answer.payload)
            ),
            on_answer=self._settle,
        )

    async def open(self) -> None:
        """Start the process.

        Raises:
            OSError: The system does not let it start.
        """
        await self._api.open()
        number = next(self._host.numbers)
        cgroup = process = None
        try:
            cgroup = self._make_cgroup(number)
            process = self._process = self._start(number, cgroup)
            self._attend(number, cgroup)
        except BaseException:
            if process is not None:
                await process.end()
            elif cgroup is not None:
                await discard(cgroup)
            await self._close()
            raise

    def _make_cgroup(self, number: int) -> Cgroup | None:
        if not self._host.means.hierarchy:
            return None
        cgroup = Cgroup(self._host.means.hierarchy, f"{self._host.guardian.prefix}{number}")
        memory_mb = self._spec.memory_mb
        try:
            cgroup.limit(memory_bytes=memory_mb * MB, processors=self._host.processors(memory_mb))
        except BaseException:
            cgroup.remove()
            raise
        return cgroup

    def _attend(self, number: int, cgroup: Cgroup | None) -> None:
        """Hear of its end, and limit what the kernel does not."""
        self._host.guardian.watch(self._process.id)
        self.exited = self._process.exited
        self.exited.add_done_callback(self._on_exit)
        if cgroup is None or not cgroup.limits_processors:
            self._bind_processors(number)
        if cgroup is None or not cgroup.limits_memory:
            self._watchdog = self._loop.create_task(self._watch_memory())

    def _start(self, number: int, cgroup: Cgroup | None) -> Process:
        spec, means = self._spec, self._host.means
        runtime = prepare_runtime(spec.runtime, self._host.folder)
        isolated = means.isolation != "none"
        environment = variables(
            spec,
            version=self._version,
            api=self._api.address,
            region=REGION,
            stream=f"{time.strftime('%Y/%m/%d', time.gmtime())}/[{self._version}]{secrets.token_hex(16)}",
            task_root=TASK_ROOT if isolated else str(spec.folder),
            runtime_root=RUNTIME_ROOT if isolated else str(runtime),
        )
        if not isolated:
            self._temporary = self._host.folder / f"instance-{number}"
            self._temporary.mkdir(mode=0o700)
            environment["TMPDIR"] = str(self._temporary)
        binds = tuple(Bind(str(mount.source), mount.path, mount.writable) for mount in spec.mounts)
        view = View(spec.folder, runtime, binds, spec.temporary_mb, self._host.folder / "root")
        kernel_limits_memory = cgroup is not None and cgroup.limits_memory
        return Process(
            [
                *enter(cgroup, data_mb=None if kernel_limits_memory else spec.memory_mb),
                *means.wrap(view),
                *(interpreter(), "-S", "-m", _CLIENTS[spec.runtime], spec.handler),
            ],
            environment=environment,
            folder=Path("/") if isolated else spec.folder,
            cgroup=cgroup,
            output=self._log.output,
        )

    def _bind_processors(self, number: int) -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.id, self._host.affinity(self._spec.memory_mb, number))

    async def _watch_memory(self) -> None:
        """Kill it when it has more memory than it may; the kernel does that where it can."""
        while not self.exited.done():
            await asyncio.sleep(_WATCH_S)
            if self._process.resident_bytes() > self._spec.memory_mb * MB:
                self._over_memory = True
                self._process.kill()

    async def ready(self, limit_s: float) -> Failure | None:
        """Wait until it asks for its first event; None when it does."""
        found = await self._settled(limit_s, said_s=limit_s)
        assert not isinstance(found, Answer)
        return found

    async def answer(self, event: Event, limit_s: float) -> Answer | Failure:
        """Give it an event, and wait for its answer."""
        if self.exited.done():
            return self._exit_failure(self.exited.result())
        self._turn = self._loop.create_future()
        self._api.hand(event)
        found = await self._settled(limit_s, said_s=self._spec.timeout_s)
        assert found is not None
        self._process.read_output()
        return found

    async def _settled(self, limit_s: float, *, said_s: float) -> Answer | Failure | None:
        late = Failure("Sandbox.Timedout", f"Task timed out after {said_s:.2f} seconds", "timeout")
        timer = self._loop.call_later(max(0.0, limit_s), self._settle, late)
        try:
            return await self._turn
        finally:
            timer.cancel()

    def _settle(self, found: Answer | Failure | None) -> None:
        if not self._turn.done():
            self._turn.set_result(found)

    def _on_exit(self, exited: asyncio.Future[int]) -> None:
        self._host.guardian.forget(self._process.id)
        self._settle(self._exit_failure(exited.result()))

    def _exit_failure(self, code: int) -> Failure:
        out_of_memory = self._over_memory or (code != 0 and self._process.killed_for_memory)
        return Failure("Runtime.OutOfMemory" if out_of_memory else "Runtime.ExitError", exit_reason(code))

    @property
    def idle(self) -> bool:
        """Whether it waits for an event."""
        return self._api.waiting

    def peak_mb(self) -> int:
        """The most memory that it has had, rounded up, and no more than it may have."""
        return min(self._spec.memory_mb, -(-self._process.peak_bytes() // MB))

    def freeze(self) -> None:
        """Let it stand still."""
        self._process.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._process.thaw()

    async def end(self) -> None:
        """Kill it; nothing of it is left then."""
        if self._ended:  # its id may be another process's by now
            return
        if self._watchdog is not None:
            self._watchdog.cancel()
        await self._process.end()
        await self._close()
        self._ended = True

    async def _close(self) -> None:
        await self._api.close()
        if self._temporary is not None:
            # not in another thread: when Python exits there may be none
            shutil.rmtree(self._temporary, ignore_errors=True)
