"""The Open Inference Protocol over HTTP, for any data plane: it bounds what is read, and translates.

https://github.com/kserve/open-inference-protocol, with Triton's extensions for binary tensors, configurations,
statistics and repositories.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from lamella.errors import InputError, LamellaError
from lamella.gateway import documents
from lamella.gateway.dataplane import (
    BusyError,
    DataPlane,
    DeadlineError,
    ModelInfo,
    Repository,
    StoppingError,
    UnknownModelError,
)
from lamella.gateway.faults import fault
from lamella.gateway.faults import status_of as general_status
from lamella.runtime.protocol import HEADER_LENGTH, read_request, write_response

if TYPE_CHECKING:
    from aiohttp import web

LONGEST_BODY_S = 60.0
"""Seconds in which the body of a request must have come."""


class OpenInference:
    """Routes of the protocol.

    Args:
        plane: Answers.
        repository: Loads and unloads models; None: that is not for callers.
    """

    def __init__(self, plane: DataPlane, repository: Repository | None = None) -> None:
        self._plane, self._repository = plane, repository

    def routes(self) -> list[web.RouteDef]:
        """For an aiohttp application."""
        from aiohttp import web

        models = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
        routes = [web.get("/v2", self._server), web.get("/v2/models/stats", self._all_statistics)]
        for model in models:
            routes += [
                web.post(f"{model}/infer", self._infer),
                web.get(model, self._metadata),
                web.get(f"{model}/ready", self._ready),
                web.get(f"{model}/config", self._config),
                web.get(f"{model}/stats", self._statistics),
            ]
        if self._repository is not None:
            routes += [
                web.post("/v2/repository/index", self._index),
                web.post("/v2/repository/models/{model}/load", self._load),
                web.post("/v2/repository/models/{model}/unload", self._unload),
            ]
        return routes

    async def _server(self, request: web.Request) -> web.Response:
        return json_response(documents.server())

    async def _infer(self, request: web.Request) -> web.Response:
        from aiohttp import web

        body = await read_body(request)
        asked = read_request(body, request.headers.get(HEADER_LENGTH))
        model = request.match_info["model"]
        answer = await self._plane.infer(model, request.match_info.get("version"), asked)
        written = write_response(
            asked,
            answer.outputs,
            model=model,
            version=answer.version,
            request_id=answer.request_id,
            parameters=answer.parameters,
        )
        if written.header_length is None:
            return web.Response(body=written.body, content_type="application/json")
        headers = {HEADER_LENGTH: str(written.header_length), "Content-Type": "application/octet-stream"}
        return web.Response(body=written.body, headers=headers)

    async def _metadata(self, request: web.Request) -> web.Response:
        info = await self._info(request)
        return json_response(documents.metadata(info))

    async def _ready(self, request: web.Request) -> web.Response:
        info = await self._info(request)
        return json_response({"name": info.name, "ready": True})

    async def _config(self, request: web.Request) -> web.Response:
        return json_response(documents.configuration(await self._info(request)))

    async def _info(self, request: web.Request) -> ModelInfo:
        return await self._plane.info(request.match_info["model"], request.match_info.get("version"))

    async def _statistics(self, request: web.Request) -> web.Response:
        model, version = request.match_info["model"], request.match_info.get("version")
        return json_response(documents.statistics(await self._plane.statistics(model, version)))

    async def _all_statistics(self, request: web.Request) -> web.Response:
        return json_response(documents.statistics(await self._plane.statistics(None, None)))

    async def _index(self, request: web.Request) -> web.Response:
        assert self._repository is not None
        wanted = await read_json(request)
        entries = await self._repository.index()
        return json_response(documents.index(entries, only_ready=wanted.get("ready") is True))

    async def _load(self, request: web.Request) -> web.Response:
        assert self._repository is not None
        wanted = await read_json(request)
        if wanted.get("parameters"):
            raise InputError(
                "what is loaded is what the server was started with: `parameters` are not taken",
                hint="start the server with other flags, or put other files in the place of the model's",
            )
        await self._repository.load(request.match_info["model"])
        return json_response({})

    async def _unload(self, request: web.Request) -> web.Response:
        assert self._repository is not None
        await read_body(request)
        await self._repository.unload(request.match_info["model"])
        return json_response({})


async def read_body(request: web.Request) -> bytes:
    """The body of a request.

    Raises:
        InputError: It does not come.
    """
    try:
        async with asyncio.timeout(LONGEST_BODY_S):
            return await request.read()
    except TimeoutError as error:
        raise InputError(
            f"the body did not come in {LONGEST_BODY_S:g} s", hint="send it faster, or less of it"
        ) from error


async def read_json(request: web.Request) -> dict[str, object]:
    """The JSON object in a body; an empty one for none.

    Raises:
        InputError: It is none.
    """
    body = await read_body(request)
    try:
        content = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"the body is no JSON: {error}", hint="send a JSON object, or nothing") from error
    if not isinstance(content, dict):
        raise InputError("the body is no JSON object", hint="send a JSON object, or nothing")
    return content


def json_response(content: object, status: int = 200) -> web.Response:
    """JSON as an answer."""
    from aiohttp import web

    return web.Response(body=json.dumps(content).encode(), status=status, content_type="application/json")


def status_of(error: LamellaError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, UnknownModelError):
        return 404
    if isinstance(error, StoppingError):
        return 503
    if isinstance(error, BusyError):
        return 429
    return 504 if isinstance(error, DeadlineError) else general_status(error)


def refusal(error: LamellaError) -> web.Response:
    """An error as an answer."""
    response = json_response(fault(error), status_of(error))
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    return response
