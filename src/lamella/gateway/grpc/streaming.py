"""Streams of requests: they are computed together, and answered in the order in which they came, as Triton does.

A request that fails is answered as such, and the stream goes on; with `triton_grpc_error: true` in the call's metadata,
it ends with the error's status.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from grpc import aio

from lamella.errors import LamellaError
from lamella.gateway.dataplane import StoppingError
from lamella.gateway.grpc.codec import Asked, read_infer, stream_error, stream_part
from lamella.gateway.grpc.statuses import DEFECT, Status, status_of

AT_ONCE = 64
"""Requests of a stream that are taken before the first of them is answered; the next ones wait at the client."""

_FINAL = {"triton_final_response": True}  # each request has one answer
_log = logging.getLogger(__name__)
_Context = aio.ServicerContext[bytes, bytes]
_Part = bytes | tuple[Status, str]
"""An answer; or how a request failed, and the request's name."""

Answering = Callable[[Asked, Mapping[str, object]], Awaitable[bytes]]


class Streams:
    """Every stream of a server.

    Args:
        answer: Answers a request, with some parameters beside the outputs.
    """

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self._reading: set[asyncio.Task[None]] = set()
        self._draining = False

    def drain(self) -> None:
        """Take nothing more from any stream, now or later."""
        self._draining = True
        for task in self._reading:
            task.cancel()

    async def serve(self, context: _Context) -> Status | None:
        """Answer a stream until the client has no more requests; returns how it ends, None: well."""
        taken: asyncio.Queue[asyncio.Task[_Part] | None] = asyncio.Queue()
        room = asyncio.Semaphore(AT_ONCE)
        tasks: set[asyncio.Task[_Part]] = set()
        reading = asyncio.create_task(self._take(context, room, taken, tasks))
        self._reading.add(reading)
        if self._draining:
            reading.cancel()
        try:
            while (task := await taken.get()) is not None:
                part = await task
                if isinstance(part, bytes):
                    await context.write(stream_part(part))
                elif _ends_at_errors(context):
                    return part[0]
                else:
                    await context.write(stream_error(part[0].details, part[1]))
                room.release()
            await asyncio.wait([reading])
        finally:
            self._reading.discard(reading)
            for each in (reading, *tasks):
                each.cancel()
        if not reading.cancelled():
            reading.result()  # raises what made it end
        return status_of(StoppingError("the server ends", hint="ask another one")) if reading.cancelled() else None

    async def _take(
        self,
        context: _Context,
        room: asyncio.Semaphore,
        taken: asyncio.Queue[asyncio.Task[_Part] | None],
        tasks: set[asyncio.Task[_Part]],
    ) -> None:
        """Begin with each request as it comes, while there is room."""
        try:
            while True:
                await room.acquire()
                data: object = await context.read()
                if not isinstance(data, bytes):  # `aio.EOF`: the client has no more
                    return
                task = asyncio.create_task(self._part(data, context))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                taken.put_nowait(task)
        finally:
            taken.put_nowait(None)

    async def _part(self, data: bytes, context: _Context) -> _Part:
        name = ""
        try:
            asked = read_infer(data, remaining_s=context.time_remaining())
            name = asked.request.request_id or ""
            return await self._answer(asked, _FINAL)
        except LamellaError as error:
            return status_of(error), name
        except Exception:  # noqa: BLE001  # a caller is told whatever happens; the log has the traceback
            _log.exception("cannot answer a request of a stream")
            return DEFECT, name


def _ends_at_errors(context: _Context) -> bool:
    return ("triton_grpc_error", "true") in (context.invocation_metadata() or ())
