"""The Lambda Runtime API of one instance: how its process asks for events and answers them.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.targets.local.serving import is_from_page, read_body

if TYPE_CHECKING:
    from aiohttp import web

_PREFIX = "/2018-06-01/runtime/"
_ERROR_BYTES = 1 << 20
_KEEP_ALIVE_S = 3600.0
_READ_BUFFER_BYTES = 1 << 20
_SHUTDOWN_S = 0.01  # 0 would mean: as long as it takes


@dataclass(frozen=True)
class Answer:
    """What the process says.

    Attributes:
        payload: An answer to an event; or a description of an error, as JSON.
        error_type: What kind of error it is; None for an answer.
        too_large_bytes: Size of an answer that was not taken, as far as it was counted; else 0.
    """

    payload: bytes
    error_type: str | None = None
    too_large_bytes: int = 0


@dataclass(frozen=True)
class Event:
    """What the process is asked.

    Attributes:
        request_id: Its id.
        payload: JSON.
        headers: What the API tells beside it.
    """

    request_id: str
    payload: bytes
    headers: Mapping[str, str]


class RuntimeApi:
    """A server for one process.

    Attributes:
        address: Host and port.
        waiting: Whether the process waits for an event.

    Args:
        response_limit_bytes: The largest answer that is taken.
        on_ready: Called when the process asks for its first event.
        on_init_error: Called when it says that it cannot start.
        on_answer: Called with its answer to the event that it has.
    """

    def __init__(
        self,
        *,
        response_limit_bytes: int,
        on_ready: Callable[[], None],
        on_init_error: Callable[[Answer], None],
        on_answer: Callable[[Answer], None],
    ) -> None:
        self._limit_bytes = response_limit_bytes
        self._on_ready, self._on_init_error, self._on_answer = on_ready, on_init_error, on_answer
        self._asked: asyncio.Future[Event] | None = None
        self._to_hand: Event | None = None
        self._pending: str | None = None
        self._ready = False
        self.address = ""

    async def open(self) -> None:
        """Listen on a free port of the loopback interface."""
        from aiohttp import web

        self._server = web.Server(
            self._guarded, access_log=None, keepalive_timeout=_KEEP_ALIVE_S, read_bufsize=_READ_BUFFER_BYTES
        )
        self._listener = await asyncio.get_running_loop().create_server(self._server, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        self._listener.close()
        if self._asked is not None:
            self._asked.cancel()
        await self._server.shutdown(_SHUTDOWN_S)

    @property
    def waiting(self) -> bool:
        """Whether the process waits for an event."""
        return self._asked is not None and not self._asked.done()

    def hand(self, event: Event) -> None:
        """Give the process an event: now if it waits for one, else when it next asks."""
        self._pending = event.request_id
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(event)
        else:
            self._to_hand = event

    async def _guarded(self, request: web.BaseRequest) -> web.StreamResponse:
        if is_from_page(request):
            return _error(403, "AccessDenied", "web pages may not use this API")
        return await self._serve(request)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if not path.startswith(_PREFIX):
            return _error(404, "UnknownPath", path)
        parts = path[len(_PREFIX) :].split("/")
        if request.method == "GET" and parts == ["invocation", "next"]:
            return await self._next()
        if request.method != "POST":
            return _error(405, "MethodNotAllowed", request.method)
        if parts == ["init", "error"]:
            return await self._init_error(request)
        if len(parts) == 3 and parts[0] == "invocation" and parts[2] in ("response", "error"):
            return await self._answer(request, parts[1], failed=parts[2] == "error")
        return _error(404, "UnknownPath", path)

    async def _next(self) -> web.StreamResponse:
        from aiohttp import web

        if self.waiting or (self._pending is not None and self._to_hand is None):
            return _error(403, "InvalidStateTransition", "the last event is not answered")
        if not self._ready:
            self._ready = True
            self._on_ready()
        event, self._to_hand = self._to_hand, None
        if event is None:
            self._asked = asyncio.get_running_loop().create_future()
            event = await self._asked
        return web.Response(body=event.payload, headers=event.headers)

    async def _init_error(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await read_body(request, _ERROR_BYTES) or b"{}"
        if self._ready:
            return _error(403, "InvalidStateTransition", "initialisation is over")
        self._on_init_error(Answer(body, _error_type(request, body)))
        return _accepted()

    async def _answer(self, request: web.BaseRequest, request_id: str, *, failed: bool) -> web.StreamResponse:
        if request_id != self._pending or self._to_hand is not None:
            return _error(400, "InvalidRequestID", f"{request_id} is not the event that this runtime has")
        limit = _ERROR_BYTES if failed else self._limit_bytes
        body = await read_body(request, limit)
        if request_id != self._pending:
            return _error(400, "InvalidRequestID", f"{request_id} has ended meanwhile")
        self._pending = None
        if body is None and not failed:
            self._on_answer(Answer(b"", "Function.ResponseSizeTooLarge", request.content_length or limit + 1))
            return _error(413, "RequestEntityTooLarge", f"the limit is {limit} bytes")
        body = body or b"{}"
        self._on_answer(Answer(body, _error_type(request, body) if failed else None))
        return _accepted()


def _error_type(request: web.BaseRequest, body: bytes) -> str:
    """What kind of error is reported: the description's, else the header's."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    named = content.get("errorType") if isinstance(content, dict) else None
    return str(named or request.headers.get("Lambda-Runtime-Function-Error-Type") or "Unknown")


def _accepted() -> web.Response:
    from aiohttp import web

    return web.Response(status=202, body=b'{"status":"OK"}\n', content_type="application/json")


def _error(status: int, kind: str, message: str) -> web.Response:
    from aiohttp import web

    content = {"errorType": kind, "errorMessage": message}
    return web.Response(status=status, body=json.dumps(content).encode(), content_type="application/json")
