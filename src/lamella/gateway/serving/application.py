"""The model server's HTTP: who may ask, what goes wrong, and whether it is ready."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lamella.errors import LamellaError, RemoteError
from lamella.gateway.dataplane import StoppingError
from lamella.gateway.faults import fault
from lamella.gateway.open_inference import Later, OpenInference, json_response, read_body, refusal
from lamella.gateway.openapi.document import document
from lamella.gateway.serving.items import read_items
from lamella.gateway.serving.metrics import CONTENT_TYPE, exposition
from lamella.gateway.serving.models import Models
from lamella.gateway.serving.settings import is_loopback
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
        is_local: Whether only this machine reaches it: web pages in its browsers may do so, and are refused.
    """

    def __init__(
        self, models: Models, later: Later, *, tokens: Sequence[str], most_body_bytes: int, is_local: bool
    ) -> None:
        self._models, self._later, self._most = models, later, most_body_bytes
        self._is_stopping, self._is_local = False, is_local
        self._asked: dict[asyncio.Timeout, web.Request] = {}
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
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            app.add_routes([web.post(f"{model}/answer", self._answer)])
        app.add_routes(OpenInference(self._models, self._models, self._later).routes())
        return app

    def stop(self) -> None:
        """Refuse what comes from now on, and requests whose bodies are still on their way."""
        self._is_stopping = True
        for limit, request in self._asked.items():
            if not request.content.is_eof():
                limit.reschedule(asyncio.get_running_loop().time())

    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "")
        if self._tokens and request.path not in _OPEN_PATHS and not self.knows(shown):
            refused = _said("a token is needed", "send `Authorization: Bearer TOKEN`", 401)
            refused.headers["WWW-Authenticate"] = "Bearer"
            return refused
        if self._is_local and not self._tokens and is_from_page(request):
            return _said(
                "web pages of others may not use this server",
                "serve with `--token-file`, or on an address that others reach",
                403,
            )
        try:
            if self._is_stopping and request.method == "POST":
                raise _stopping()
            async with asyncio.timeout(None) as limit:
                self._asked[limit] = request
                try:
                    return await handler(request)
                finally:
                    del self._asked[limit]
        except Exception as error:  # noqa: BLE001  # a caller gets JSON whatever happens; the log has the traceback
            return self._told(error, request)

    def _told(self, error: Exception, request: web.Request) -> web.Response:
        """An exception as an answer."""
        from aiohttp import web

        if isinstance(error, TimeoutError) and self._is_stopping:
            return refusal(_stopping())
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

    def knows(self, authorization: str) -> bool:
        """Whether to answer a caller that sends this as `Authorization`."""
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(matches)

    async def _answer(self, request: web.Request) -> web.Response:
        """What a task makes of images, texts and questions as they are."""
        items = read_items(request.content_type, await read_body(request))
        model = request.match_info["model"]
        version, answers = await self._models.answer(model, request.match_info.get("version"), items)
        return json_response({"model_name": model, "model_version": version, "answers": answers})

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


def is_from_page(request: web.BaseRequest) -> bool:
    """Whether a web page sends this that is none of this server's own: a browser lets every page ask its own machine.

    A page cannot leave `Origin` out of a request that does something, and one that had its own name lead here shows
    that in `Host`.
    """
    host = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    try:
        name = urlsplit(f"//{host}").hostname or ""
        own = origin is None or urlsplit(origin).netloc == host
    except ValueError:  # no address at all
        return True
    return not own or (bool(host) and not is_loopback(name))


def _stopping() -> StoppingError:
    return StoppingError("the server ends", hint="ask another one, or this one again when it is back")


def _said(message: str, hint: str, status: int) -> web.Response:
    return json_response({"error": message, "hint": hint}, status)
