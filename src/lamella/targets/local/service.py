"""What the platform does, in its event loop's thread: both the Python and the HTTP side call this."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from lamella.targets.local.admission import Admission
from lamella.targets.local.events import EventQueue
from lamella.targets.local.functions import Functions, Version
from lamella.targets.local.host import Host, function_arn
from lamella.targets.local.invocation import Invocation, Kind, RefusedError, Request, check_event, too_large
from lamella.targets.local.names import split_name


class Service:
    """Functions that can be invoked.

    Attributes:
        functions: What is deployed.
        closing: Whether it takes no more requests, of clients that stay connected either.

    Args:
        host: What instances share.
        logs: The folder for logs.
        concurrency: Requests at the same time, all functions together.
        most_instances: Instances at the same time, all functions together.
        burst: Instances of one function that may start in ten seconds; None: any number.
        keep_alive_s: Seconds after which an instance ends that is not used.
        retry_after_s: How long after each failure an event is tried again.
    """

    def __init__(
        self,
        host: Host,
        logs: Path,
        *,
        concurrency: int,
        most_instances: int,
        burst: int | None,
        keep_alive_s: float,
        retry_after_s: Sequence[float],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._host, self._keep_alive_s = host, keep_alive_s
        self.closing = False
        admission = Admission(concurrency=concurrency, burst=burst, clock=loop.time)
        self.functions = Functions(host, admission, logs, most_instances=most_instances)
        self._events = EventQueue(retry_after_s)
        self._sweeping = loop.create_task(self._sweep())

    def limit_bytes(self, kind: Kind) -> int | None:
        """The largest event of a kind of invocation."""
        limits = self._host.limits
        return limits.async_request_bytes if kind == "Event" else limits.request_bytes

    async def invoke(
        self,
        name: str,
        request: Request,
        *,
        qualifier: str | None = None,
        kind: Kind = "RequestResponse",
        log_tail: bool = False,
    ) -> Invocation:
        """Invoke a function, by any form of its name.

        Raises:
            RefusedError: The platform does not take the request.
        """
        self._check_open()
        name, qualifier = split_name(name, qualifier)
        limit = self.limit_bytes(kind)
        if limit is not None and len(request.payload) > limit:
            raise too_large(len(request.payload), kind, limit)
        request = replace(request, payload=check_event(request.payload), arn=function_arn(name, qualifier))
        version = self.functions.function(name).version(qualifier)
        if kind == "DryRun":
            return _taken(204, request, version)
        if kind == "Event":
            self._events.put(len(request.payload), lambda: self._run(name, qualifier, request, log_tail=False))
            return _taken(202, request, version)
        return await self._run(name, qualifier, request, log_tail=log_tail)

    async def _run(self, name: str, qualifier: str | None, request: Request, *, log_tail: bool) -> Invocation:
        self._check_open()  # an event may have waited
        return await self.functions.function(name).version(qualifier).pool.invoke(request, log_tail=log_tail)

    def _check_open(self) -> None:
        if self.closing:
            raise RefusedError("ServiceException", 503, "The platform is closing.")

    async def start(self, name: str, qualifier: str | None, count: int) -> int:
        """Start instances without a request, all at once; how many started.

        Raises:
            RefusedError: There is no such function, more are asked for than may start in a short time, or it closes.
            RemoteError: One could not start.
        """
        self._check_open()
        name, qualifier = split_name(name, qualifier)
        return await self.functions.function(name).version(qualifier).pool.start(count)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, max(0.01, self._keep_alive_s / 4)))
            self.functions.evict(asyncio.get_running_loop().time() - self._keep_alive_s)

    async def close(self) -> None:
        """End everything that runs."""
        self.closing = True
        self._sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await self._sweeping
        await self._events.close()
        await self.functions.close()


def _taken(status: int, request: Request, version: Version) -> Invocation:
    return Invocation(status, b"", request.request_id, executed_version=version.label)
