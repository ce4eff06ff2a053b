"""The model server's HTTP: who may ask, what goes wrong, and whether it is ready."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from lamella.errors import LamellaError, RemoteError
from lamella.gateway.dataplane import StoppingError
from lamella.gateway.faults import fault
from lamella.gateway.open_inference import Later, OpenInference, json_response, refusal
from lamella.gateway.openapi.document import document
from lamella.gateway.serving.metrics import CONTENT_TYPE, exposition
from lamella.gateway.serving.models import Models
from lamella.gateway.web import page

if TYPE_CHECKING:
    from aiohttp import web

_log = logging.getLogger("lamella.serve")
_OPEN_PATHS = frozenset({"/v2/health/live", "/v2/health/ready", "/docs"})
Handler = Callable[["web.Request"], Awaitable["web.StreamResponse"]]


class Application:
    """What the model server answers over HTTP.

    Args:
        models: The models.
        later: Takes requests that are answered later.
        tokens: Callers must send one of them; none: everybody may ask.
        most_body_bytes: Largest body of a request.
    """

    def __init__(self, models: Models, later: Later, *, tokens: Sequence[str], most_body_bytes: int) -> None:
        self._models, self._later, self._most = models, later, most_body_bytes
        self._is_stopping = False
        self._tokens = [token.encode() for token in tokens]

    def make(self) -> web.Application:
        """The routes, as aiohttp runs them."""
        from aiohttp import web

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._guarded(request, handler)

        app = web.Application(middlewares=[guard], client_max_size=self._most)
        app.add_routes([web.get("/v2/health/live", self._live), web.get("/v2/health/ready", self._ready)])
        app.add_routes([web.get("/metrics", self._metrics)])
        app.add_routes([web.get("/openapi.json", self._document), web.get("/docs", self._docs)])
        app.add_routes(OpenInference(self._models, self._models, self._later).routes())
        return app

    def stop(self) -> None:
        """Refuse what comes from now on."""
        self._is_stopping = True

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._tokens and request.path not in _OPEN_PATHS and not self._is_known(request):
            refused = _said("a token is needed", "send `Authorization: Bearer TOKEN`", 401)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        try:
            if self._is_stopping and request.method == "POST":
                raise StoppingError("the server ends", hint="ask another one, or this one again when it is back")
            return await handler(request)
        except Exception as error:  # noqa: BLE001  # a caller gets JSON whatever happens; the log has the traceback
            return self._told(error, request)

    def _told(self, error: Exception, request: web.Request) -> web.Response:
        """An exception as an answer."""
        from aiohttp import web

        if isinstance(error, LamellaError):
            return refusal(error)
        if isinstance(error, web.HTTPRequestEntityTooLarge):
            return _said(f"the body is larger than {self._most} bytes", "send less at a time", 413)
        if isinstance(error, web.HTTPException):
            said = _said((error.reason or "").lower(), "see the Open Inference Protocol", error.status)
            if isinstance(error, web.HTTPMethodNotAllowed):
                said.headers["Allow"] = ",".join(sorted(error.allowed_methods))
            return said
        if isinstance(error, (web.RequestPayloadError, ConnectionError)):
            return _said(f"the body cannot be read: {error}", "check its length and `Content-Encoding`", 400)
        _log.error("cannot answer %s %s", request.method, request.path, exc_info=error)
        return json_response(fault(RemoteError("the server has a defect", hint="see what it says on stderr")), 500)

    def _is_known(self, request: web.Request) -> bool:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(matches)

    async def _metrics(self, request: web.Request) -> web.Response:
        from aiohttp import web

        text = exposition(await self._models.statistics(None, None))
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE})

    async def _document(self, request: web.Request) -> web.Response:
        entries = await self._models.index()
        ready = [await self._models.info(entry.model, None) for entry in entries if entry.state == "READY"]
        return json_response(document(ready, needs_token=bool(self._tokens)))

    async def _docs(self, request: web.Request) -> web.Response:
        return page("docs.html")

    async def _live(self, request: web.Request) -> web.Response:
        return json_response({"live": True})

    async def _ready(self, request: web.Request) -> web.Response:
        ready = self._models.is_ready and not self._is_stopping
        return json_response({"ready": ready}, 200 if ready else 503)


def _said(message: str, hint: str, status: int) -> web.Response:
    return json_response({"error": message, "hint": hint}, status)
