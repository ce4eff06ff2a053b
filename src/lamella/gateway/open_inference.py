"""The Open Inference Protocol over HTTP, for any data plane: it bounds what is read, and translates.

https://github.com/kserve/open-inference-protocol, with Triton's extensions for binary tensors, configurations,
statistics and repositories.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Protocol

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
from lamella.gateway.jobs import TooManyRequestsError, UnknownRequestError
from lamella.runtime.message import Message
from lamella.runtime.protocol import HEADER_LENGTH, read_request, write_response

if TYPE_CHECKING:
    from aiohttp import web

LONGEST_BODY_S = 60.0
"""Seconds in which the body of a request must have come."""


class Later(Protocol):
    """Takes requests, and answers them later."""

    async def submit(self, model: str, version: str | None, body: bytes, header_length: str | None) -> str:
        """Take a request; returns the id to ask for its result with."""
        ...

    async def result(self, job: str) -> Message | None:
        """The result of a request; None as long as there is none."""
        ...


class OpenInference:
    """Routes of the protocol.

    Args:
        plane: Answers.
        repository: Loads and unloads models; None: that is not for callers.
        later: Takes requests that are answered later; None: there are none.
    """

    def __init__(self, plane: DataPlane, repository: Repository | None = None, later: Later | None = None) -> None:
        self._plane, self._repository, self._later = plane, repository, later

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
        if self._later is not None:
            routes.append(web.get("/v2/requests/{job}", self._result))
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
        body = await read_body(request)
        model, version = request.match_info["model"], request.match_info.get("version")
        header_length = request.headers.get(HEADER_LENGTH)
        if self._later is None or not wants_later(request):
            return replay(await answered(self._plane, model, version, body, header_length))
        await self._plane.info(model, version)  # a model that is unknown is refused at once
        return taken(await self._later.submit(model, version, body, header_length))

    async def _result(self, request: web.Request) -> web.Response:
        assert self._later is not None
        job = request.match_info["job"]
        found = await self._later.result(job)
        return json_response({"id": job, "status": "running"}, 202) if found is None else replay(found)

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
        if not isinstance(wanted.get("ready"), bool | None):
            raise InputError("`ready` is neither true nor false", hint="give one of them, or leave it out")
        entries = await self._repository.index()
        return json_response(documents.index(entries, only_ready=wanted.get("ready") is True))

    async def _load(self, request: web.Request) -> web.Response:
        assert self._repository is not None
        wanted = await read_json(request)
        if wanted.get("parameters") not in (None, {}):
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


async def answered(
    plane: DataPlane, model: str, version: str | None, body: bytes, header_length: str | None
) -> Message:
    """The answer to an infer request, as it goes out.

    Raises:
        LamellaError: See `DataPlane.infer`.
    """
    asked = read_request(body, header_length)
    answer = await plane.infer(model, version, asked)
    written = write_response(
        asked,
        answer.outputs,
        model=model,
        version=answer.version,
        request_id=answer.request_id,
        parameters=answer.parameters,
    )
    return Message({"status": 200, "header_length": written.header_length}, written.body)


def replay(message: Message) -> web.Response:
    """An answer that was given, now or earlier."""
    from aiohttp import web

    length, status = message.head.get("header_length"), int(str(message.head["status"]))
    if length is None:
        return web.Response(body=message.body, status=status, content_type="application/json")
    headers = {HEADER_LENGTH: str(length), "Content-Type": "application/octet-stream"}
    return web.Response(body=message.body, status=status, headers=headers)


def wants_later(request: web.Request) -> bool:
    """Whether the caller would rather have the answer later: https://www.rfc-editor.org/rfc/rfc7240."""
    wanted = ",".join(request.headers.getall("Prefer", []))
    return "respond-async" in [value.strip().lower() for value in wanted.split(",")]


def taken(job: str) -> web.Response:
    """That a request was taken, and where its result will be."""
    response = json_response({"id": job, "status": "running"}, 202)
    response.headers.update({"Location": f"/v2/requests/{job}", "Preference-Applied": "respond-async"})
    return response


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
    if isinstance(error, (UnknownModelError, UnknownRequestError)):
        return 404
    if isinstance(error, (StoppingError, TooManyRequestsError)):
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
