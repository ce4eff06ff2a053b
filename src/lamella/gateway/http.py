"""The service's HTTP: it checks the token, bounds the body, and translates. What things mean stands in `host.py`."""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from lamella import __version__
from lamella.errors import LamellaError
from lamella.gateway.faults import defect, fault, status_of
from lamella.gateway.host import Host
from lamella.gateway.jobs import Jobs
from lamella.gateway.open_inference import replay, taken, wants_later
from lamella.runtime.message import Message
from lamella.runtime.protocol import HEADER_LENGTH
from lamella.targets.base import LogLine

if TYPE_CHECKING:
    from aiohttp import web

MOST_BODY_BYTES = 256 << 20
_log = logging.getLogger(__name__)
_AT_THE_SAME_TIME = 64
_OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready"})
_POLL_S = 0.2
T = TypeVar("T")
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class Door:
    """Routes of the service.

    Args:
        host: Does what is asked.
        jobs: Takes asynchronous requests.
        token: What callers must send.
        token_hint: Where they find it.
        most_body_bytes: Largest body of a request.
    """

    def __init__(
        self, host: Host, jobs: Jobs, *, token: str, token_hint: str = "", most_body_bytes: int = MOST_BODY_BYTES
    ) -> None:
        self._host, self._jobs, self._token, self._most = host, jobs, token.encode(), most_body_bytes
        self._token_hint = token_hint
        self._inferring = ThreadPoolExecutor(_AT_THE_SAME_TIME, thread_name_prefix="lamella-infer")
        # Requests that take their time must not keep anybody from asking how things are, or from deleting them.
        self._threads = ThreadPoolExecutor(_AT_THE_SAME_TIME, thread_name_prefix="lamella-door")
        self._closing = asyncio.Event()

    def application(self) -> web.Application:
        """The routes, as aiohttp runs them."""
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=self._most)
        app.add_routes(
            [
                web.get("/v2", self._server),
                web.get("/v2/health/live", self._live),
                web.get("/v2/health/ready", self._live),
                *(
                    route
                    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
                    for route in (
                        web.get(model, self._metadata),
                        web.get(f"{model}/ready", self._ready),
                        web.post(f"{model}/infer", self._infer),
                    )
                ),
                web.get("/v2/requests/{job}", self._result),
                web.get("/lamella/deployments", self._status),
                web.post("/lamella/deployments", self._deploy),
                web.delete("/lamella/deployments/{model}", self._delete),
                web.post("/lamella/deployments/{model}/rollback", self._rollback),
                web.put("/lamella/deployments/{model}/aliases/{alias}", self._set_alias),
                web.get("/lamella/deployments/{model}/logs", self._logs),
                web.get("/lamella/deployments/{model}/triggers", self._triggers),
                web.post("/lamella/deployments/{model}/triggers", self._add_trigger),
                web.delete("/lamella/deployments/{model}/triggers/{trigger}", self._remove_trigger),
                web.get("/lamella/deployments/{model}/triggers/{trigger}/failed", self._failed),
                web.post("/lamella/deployments/{model}/triggers/{trigger}/retry", self._retry),
            ]
        )
        return app

    def stop_waiting(self) -> None:
        """End what waits for a log to grow, so that the server can stop."""
        self._closing.set()

    def close(self) -> None:
        """Release the threads, once the server has stopped."""
        for threads in (self._inferring, self._threads):
            threads.shutdown(wait=True, cancel_futures=True)

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse strangers, and make errors answers."""
        from aiohttp import web

        if request.path not in _OPEN_PATHS and not self._is_known(request.headers.get("Authorization", "")):
            refused = _refusal(401, "a token is needed", f"send `Authorization: Bearer TOKEN`; {self._token_hint}")
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        try:
            return await handler(request)
        except LamellaError as error:
            return _json(fault(error), status_of(error))
        except web.HTTPException as error:
            if isinstance(error, web.HTTPRequestEntityTooLarge):
                error.set_status(413, f"the body is larger than {self._most} bytes")
            return _refusal(error.status, error.reason.lower(), "see the Open Inference Protocol")
        except (web.RequestPayloadError, ConnectionError) as error:
            return _refusal(400, f"the body cannot be read: {error}", "check its length and `Content-Encoding`")
        except Exception as error:  # noqa: BLE001  # a caller gets JSON whatever happens; the log has the traceback
            _log.exception("cannot answer %s %s", request.method, request.path)
            return _json(defect(error), 500)

    def _is_known(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        return scheme.lower() == "bearer" and hmac.compare_digest(given, self._token)

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    async def _server(self, request: web.Request) -> web.Response:
        models = await self._in_thread(self._host.models)
        extensions = ["binary_tensor_data"]
        return _json({"name": "lamella", "version": __version__, "extensions": extensions, "models": models})

    async def _live(self, request: web.Request) -> web.Response:
        return _json({request.path.rpartition("/")[2]: True})

    async def _metadata(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(lambda: self._host.metadata(_model(request), _version(request))))

    async def _ready(self, request: web.Request) -> web.Response:
        await self._in_thread(lambda: self._host.find(_model(request), _version(request)))
        return _json({"name": _model(request), "ready": True})

    async def _infer(self, request: web.Request) -> web.Response:
        body, header_length = await request.read(), request.headers.get(HEADER_LENGTH)
        model, version = _model(request), _version(request)
        if not wants_later(request):
            answer = partial(self._host.infer, model, version, body, header_length)
            return replay(await asyncio.get_running_loop().run_in_executor(self._inferring, answer))
        await self._in_thread(lambda: self._host.find(model, version))
        message = Message({"model": model, "version": version, "header_length": header_length}, body)
        return taken(await self._in_thread(lambda: self._jobs.submit(message)))

    async def _result(self, request: web.Request) -> web.Response:
        job = request.match_info["job"]
        found = await self._in_thread(lambda: self._jobs.result(job))
        return _json({"id": job, "status": "running"}, 202) if found is None else replay(found)

    async def _status(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(self._host.status))

    async def _deploy(self, request: web.Request) -> web.Response:
        body = await request.read()
        return _json(await self._in_thread(lambda: self._host.deploy(body)))

    async def _delete(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(lambda: self._host.delete(_model(request), self._jobs)))

    async def _rollback(self, request: web.Request) -> web.Response:
        body = await request.read()
        return _json(await self._in_thread(lambda: self._host.rollback(_model(request), body)))

    async def _set_alias(self, request: web.Request) -> web.Response:
        body, alias = await request.read(), request.match_info["alias"]
        return _json(await self._in_thread(lambda: self._host.set_alias(_model(request), alias, body)))

    async def _triggers(self, request: web.Request) -> web.Response:
        return _json(await self._in_thread(lambda: self._host.triggers(_model(request))))

    async def _add_trigger(self, request: web.Request) -> web.Response:
        body = await request.read()
        return _json(await self._in_thread(lambda: self._host.add_trigger(_model(request), body)))

    async def _remove_trigger(self, request: web.Request) -> web.Response:
        name = request.match_info["trigger"]
        return _json(await self._in_thread(lambda: self._host.remove_trigger(_model(request), name)))

    async def _failed(self, request: web.Request) -> web.Response:
        name = request.match_info["trigger"]
        return _json(await self._in_thread(lambda: self._host.failed(_model(request), name)))

    async def _retry(self, request: web.Request) -> web.Response:
        body, name = await request.read(), request.match_info["trigger"]
        return _json(await self._in_thread(lambda: self._host.retry(_model(request), name, body)))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        """One JSON object a line; with `follow`, until the caller goes."""
        from aiohttp import web

        follow = request.query.get("follow") == "true"
        tail = await self._in_thread(lambda: self._host.tail(_model(request), request.query.get("slice")))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            await response.prepare(request)
            await response.write(_log_lines(await self._in_thread(tail.read)))
            while follow and not self._closing.is_set() and _is_there(request):
                await asyncio.sleep(_POLL_S)
                await response.write(_log_lines(await self._in_thread(tail.read)))
            await response.write(_log_lines(tail.rests()))
            await response.write_eof()
        except ConnectionError:
            _log.debug("a reader of logs has gone")
        finally:
            tail.close()
        return response


def _model(request: web.Request) -> str:
    return request.match_info["model"]


def _version(request: web.Request) -> str | None:
    return request.match_info.get("version")


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


def _log_lines(lines: list[LogLine]) -> bytes:
    contents = ({"slice": line.slice, "function": line.function, "text": line.text} for line in lines)
    return b"".join(json.dumps(content).encode() + b"\n" for content in contents)


def _json(content: Any, status: int = 200) -> web.Response:  # noqa: ANN401  # whatever JSON can hold
    from aiohttp import web

    return web.Response(body=json.dumps(content).encode(), status=status, content_type="application/json")


def _refusal(status: int, message: str, hint: str) -> web.Response:
    return _json({"error": message, "hint": hint}, status)
