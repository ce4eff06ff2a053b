"""One instance of a function: its start, its requests one after the other, its rest in between, its end."""

from __future__ import annotations

import asyncio
import json
import platform
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from lamella.errors import RemoteError
from lamella.targets.local.host import REGION, Host, function_arn
from lamella.targets.local.invocation import Invocation, Request
from lamella.targets.local.logs import InstanceLog, LogFile
from lamella.targets.local.process import exit_reason
from lamella.targets.local.report import (
    Report,
    billed_ms,
    end_line,
    init_report_line,
    init_start_line,
    start_line,
    timeout_line,
)
from lamella.targets.local.run import RESPONSE_GRACE_BYTES, Failure, Run
from lamella.targets.local.runtime_api import Answer, Event
from lamella.targets.local.spec import FunctionSpec

FREEZE_AFTER_S = 0.02
"""An instance that waits this long for its next request stands still. AWS freezes at once; here requests that follow
each other closely are spared the milliseconds that freezing takes."""

_NO_LIMIT_S = 1e9
_CLOSED = Failure("Runtime.ExitError", exit_reason(-signal.SIGKILL))


@dataclass(frozen=True)
class _Start:
    """How the start of an instance ended: its milliseconds, and what went wrong."""

    init_ms: float
    failure: Failure | None


class Instance:
    """An instance. It starts when it is made, and takes one request at a time.

    Attributes:
        idle_since: When its last request ended, on the event loop's clock.
        started: Ends when the start has; never with an exception of its own.

    Args:
        host: What instances share.
        spec: The function.
        version: `$LATEST`, or a number.
        log: The function's log.
        on_exit: Called when its process ends, whatever the reason.
    """

    def __init__(
        self, host: Host, spec: FunctionSpec, version: str, log: LogFile, on_exit: Callable[[Instance], None]
    ) -> None:
        self._host, self._spec, self._version, self._on_exit = host, spec, version, on_exit
        self._log = InstanceLog(log)
        self._loop = asyncio.get_running_loop()
        self._run: Run | None = None
        self._answered = self._frozen = self._closing = False
        self._freezing: asyncio.TimerHandle | None = None
        self._init_ms: float | None = None
        self.idle_since = self._loop.time()
        self.started = self._loop.create_task(self._init_phase())

    @property
    def alive(self) -> bool:
        """Whether its process has started and not ended."""
        return self._run is not None and not self._run.exited.done()

    async def _init_phase(self) -> Failure | None:
        """What AWS calls INIT. If it fails, it is repeated within the first request, whose time limit then holds."""
        self._log.say(init_start_line(f"python:{platform.python_version()}", region=REGION))
        start = await self._start(self._host.limits.init_timeout_s or _NO_LIMIT_S)
        if start.failure is None:
            self._init_ms = start.init_ms
        else:
            self._say_init(start, phase_is_init=True)
        return start.failure

    async def _start(self, limit_s: float) -> _Start:
        began = time.perf_counter()
        run = Run(self._host, self._spec, self._version, self._log)
        try:
            await run.open()
        except (OSError, RuntimeError) as error:  # the latter where there can be no further thread
            return _Start(_ms_since(began), Failure("Sandbox.Failure", f"The process could not start: {error}"))
        self._run = run
        failure = await run.ready(limit_s) if not self._closing else _CLOSED
        init_ms = _ms_since(began)
        if failure is not None:
            await self._end_run()
        else:
            run.exited.add_done_callback(lambda _: self._on_exit(self))
        return _Start(init_ms, failure)

    def _say_init(self, start: _Start, *, phase_is_init: bool) -> None:
        assert start.failure is not None
        failure = start.failure
        self._log.say(
            init_report_line(
                start.init_ms,
                phase="init" if phase_is_init else "invoke",
                status=failure.status,
                error_type=failure.error_type if failure.status == "error" else None,
            )
        )

    async def invoke(self, request: Request, *, log_tail: bool = False) -> Invocation:
        """Answer one request. The instance is `alive` afterwards if it can take another one.

        Args:
            request: The request.
            log_tail: Return the end of what it has logged.
        """
        await asyncio.shield(self.started)
        self.wake()
        cold, self._answered = not self._answered, True
        if not cold:
            self._log.begin()
        self._log.say(start_line(request.request_id, self._version))
        began = time.perf_counter()
        found = await self._restart_and_answer(request, began) if not self.alive else await self._answer(request, began)
        duration_ms = _ms_since(began)
        report = self._report(request, found, duration_ms, cold=cold)
        if isinstance(found, Failure):
            self._say_failure(found, request)
            await self._end_run()
        self._log.say(end_line(request.request_id) + report.line)
        self.idle_since = self._loop.time()
        return self._invocation(request, found, report, self._log.tail if log_tail else "")

    async def _restart_and_answer(self, request: Request, began: float) -> Answer | Failure:
        """Start again after the start has failed, or after the process has ended while it was idle."""
        self._init_ms = None
        if self._closing:
            return _CLOSED
        await self._end_run()  # what its process has left
        start = await self._start(self._spec.timeout_s)
        if start.failure is None:
            return await self._answer(request, began)
        self._say_init(start, phase_is_init=False)
        return start.failure

    async def _answer(self, request: Request, began: float) -> Answer | Failure:
        assert self._run is not None
        left_s = self._spec.timeout_s - (time.perf_counter() - began)
        arn = request.arn or function_arn(self._spec.name)
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request.request_id,
            "Lambda-Runtime-Deadline-Ms": str(round((time.time() + left_s) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": arn,
            "Lambda-Runtime-Trace-Id": request.trace_id or _trace_id(request.request_id),
        }
        if request.client_context is not None:
            headers["Lambda-Runtime-Client-Context"] = request.client_context
        return await self._run.answer(Event(request.request_id, request.payload, headers), left_s)

    def _report(self, request: Request, found: Answer | Failure, duration_ms: float, *, cold: bool) -> Report:
        init_ms, self._init_ms = self._init_ms if cold else None, None
        failed = isinstance(found, Failure)
        timed_out = isinstance(found, Failure) and found.status == "timeout"
        if timed_out:
            duration_ms = self._spec.timeout_s * 1000
        out_of_memory = found.error_type == "Runtime.OutOfMemory"
        most = self._spec.memory_mb if out_of_memory or self._run is None else self._run.peak_mb()
        return Report(
            request_id=request.request_id,
            duration_ms=duration_ms,
            billed_ms=billed_ms(duration_ms, init_ms),
            memory_mb=self._spec.memory_mb,
            max_memory_mb=most,
            init_ms=init_ms,
            cold_start=cold,
            status="timeout" if timed_out else "error" if failed else "success",
            error_type=found.error_type,
        )

    def _say_failure(self, failure: Failure, request: Request) -> None:
        if failure.status == "timeout":
            moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self._log.say(timeout_line(moment, request.request_id, self._spec.timeout_s))
        elif failure.payload is None:
            self._log.say(f"RequestId: {request.request_id} Error: {failure.reason}\n{failure.error_type}\n")

    def _invocation(self, request: Request, found: Answer | Failure, report: Report, log: str) -> Invocation:
        error_type, payload = found.error_type, found.payload
        if isinstance(found, Failure) and payload is None:
            payload = _error(found.error_type, f"RequestId: {request.request_id} Error: {found.reason}")
        elif isinstance(found, Answer) and found.too_large_bytes:
            limit = (self._host.limits.response_bytes or 0) + RESPONSE_GRACE_BYTES
            payload = _error(
                found.error_type,
                f"Response payload size ({found.too_large_bytes} bytes) exceeded maximum allowed payload size "
                f"({limit} bytes).",
            )
        return Invocation(
            status=200,
            payload=payload or b"",
            request_id=request.request_id,
            function_error=None if error_type is None else "Unhandled",
            executed_version=self._version,
            log=log,
            report=report,
            error_type=error_type,
        )

    def rest(self) -> None:
        """There is no next request yet: stand still soon."""
        self._freezing = self._loop.call_later(FREEZE_AFTER_S, self._freeze)

    def _freeze(self) -> None:
        self._freezing = None
        if self._run is None or not self.alive:
            return
        if self._run.idle:
            self._frozen = True
            self._run.freeze()
        else:
            self.rest()  # it has answered, but not asked for more: it is still cleaning up

    def wake(self) -> None:
        """Go on."""
        if self._freezing is not None:
            self._freezing.cancel()
            self._freezing = None
        if self._frozen and self._run is not None:
            self._frozen = False
            self._run.thaw()

    async def end(self) -> None:
        """End it; nothing of it is left then."""
        self._closing = True
        await self._end_run()
        await asyncio.wait([self.started])
        await self._end_run()

    async def _end_run(self) -> None:
        if self._freezing is not None:
            self._freezing.cancel()
        if self._run is not None:
            await self._run.end()

    async def ready(self) -> None:
        """Wait until it has started.

        Raises:
            RemoteError: It could not start.
        """
        failure = await asyncio.shield(self.started)
        if failure is not None:
            said = (failure.payload or b"").decode(errors="replace") or failure.reason
            raise RemoteError(
                f"an instance of `{self._spec.name}` did not start: {failure.error_type}: {said}",
                hint="see its log",
                function=self._spec.name,
            )


def _error(kind: str | None, message: str) -> bytes:
    return json.dumps({"errorType": kind, "errorMessage": message}).encode()


def _trace_id(request_id: str) -> str:
    return f"Root=1-{int(time.time()):08x}-{request_id.replace('-', '')[:24]:0>24};Sampled=0"


def _ms_since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
