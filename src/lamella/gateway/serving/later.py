"""Requests to the model server that are answered later."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

from lamella.errors import LamellaError, RemoteError
from lamella.gateway.dataplane import BusyError, DataPlane, StoppingError
from lamella.gateway.faults import fault
from lamella.gateway.jobs import Jobs
from lamella.gateway.open_inference import answered, status_of
from lamella.runtime.message import Message

_ROUND_S, _PAUSE_S = 60.0, 0.1
_log = logging.getLogger("lamella.serve")


class LaterAnswers:
    """Keeps requests and their results in files. Every method is called in the event loop.

    Args:
        plane: Answers.
        folder: Where they are kept; what lies there without a result is answered, too.
    """

    def __init__(self, plane: DataPlane, folder: Path) -> None:
        self._plane, self._loop, self._is_closing = plane, asyncio.get_running_loop(), False
        self._jobs = Jobs(folder, self._run)
        self._jobs.resume()
        self._expiring = self._loop.create_task(self._expire())

    async def submit(self, model: str, version: str | None, body: bytes, header_length: str | None) -> str:
        """Take a request; returns the id to ask for its result with.

        Raises:
            TooManyRequestsError: Too many are waiting.
            StoppingError: The server ends.
        """
        if self._is_closing:  # its body has come since
            raise StoppingError("the server ends", hint="ask another one, or this one again when it is back")
        message = Message({"model": model, "version": version, "header_length": header_length}, body)
        return await asyncio.to_thread(self._jobs.submit, message)

    async def result(self, job: str) -> Message | None:
        """The result of a request; None as long as there is none.

        Raises:
            UnknownRequestError: There is no such request.
        """
        return await asyncio.to_thread(self._jobs.result, job)

    async def close(self) -> None:
        """Wait for what is under way; what has not begun stays in the folder."""
        self._is_closing = True
        self._expiring.cancel()
        await asyncio.to_thread(self._jobs.close)

    def _run(self, request: Message) -> Message:
        """Answer one, in a thread of the jobs'."""
        return asyncio.run_coroutine_threadsafe(self._answered(request), self._loop).result()

    async def _answered(self, request: Message) -> Message:
        head = request.head
        model, version, length = (head.get(name) for name in ("model", "version", "header_length"))
        while True:
            try:
                return await answered(
                    self._plane,
                    str(model),
                    None if version is None else str(version),
                    request.body,
                    None if length is None else str(length),
                )
            except BusyError:  # it was taken, so it waits until there is room
                await asyncio.sleep(_PAUSE_S)
            except LamellaError as error:
                return Message({"status": status_of(error)}, json.dumps(fault(error)).encode())
            except Exception:  # noqa: BLE001  # else nobody would ever have a result; the log has the traceback
                _log.exception("cannot answer what was asked of `%s`", model)
                defect = RemoteError("the server has a defect", hint="see what it says on stderr")
                return Message({"status": 500}, json.dumps(fault(defect)).encode())

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_ROUND_S)
            await asyncio.to_thread(self._jobs.expire)
