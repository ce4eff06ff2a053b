"""AWS Lambda's API over HTTP, as far as functions are invoked and looked at with it; `boto3` speaks it unmodified.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from lamella.targets.local.descriptions import answer_read
from lamella.targets.local.invocation import Invocation, Kind, RefusedError, Request, invalid_parameter, too_large
from lamella.targets.local.service import Service
from lamella.targets.local.serving import is_from_page, read_body

if TYPE_CHECKING:
    from aiohttp import web

_FUNCTIONS = "/2015-03-31/functions/"
_KINDS = ("RequestResponse", "Event", "DryRun")
_UNLIMITED_BYTES = 1 << 31
_CONTEXT_BYTES = 3583


class InvokeApi:
    """Answers HTTP requests.

    Args:
        service: What it offers.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        from aiohttp import web

        try:
            if is_from_page(request):
                raise RefusedError("AccessDeniedException", 403, "web pages may not use this API")
            return await self._answer(request)
        except RefusedError as refused:
            headers = {"x-amzn-ErrorType": refused.error_type}
            response = web.Response(
                status=refused.status, body=refused.body, headers=headers, content_type="application/json"
            )
            if refused.status == 413:
                response.force_close()  # what was sent too much is not worth reading
            return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        from aiohttp import web

        path = request.rel_url.raw_path
        if not f"{path}/".startswith(_FUNCTIONS):
            raise RefusedError("UnknownOperationException", 404, f"there is no {request.method} {path}")
        parts = [unquote(part) for part in path[len(_FUNCTIONS) :].split("/") if part]
        if request.method == "POST" and len(parts) == 2 and parts[1] == "invocations":
            return await self._invoke(request, parts[0])
        if request.method == "GET":
            content = answer_read(self._service.functions, parts, request.rel_url.query.get("Qualifier"))
            return web.Response(body=json.dumps(content).encode(), content_type="application/json")
        raise RefusedError("UnknownOperationException", 404, f"there is no {request.method} {path}")

    async def _invoke(self, request: web.BaseRequest, name: str) -> web.StreamResponse:
        from aiohttp import web

        kind = _kind(request)
        limit = self._service.limit_bytes(kind)
        payload = await read_body(request, _UNLIMITED_BYTES if limit is None else limit)
        if payload is None:
            raise too_large(request.content_length, kind, limit or 0)
        done = await self._service.invoke(
            name,
            Request(payload, client_context=_client_context(request), trace_id=request.headers.get("X-Amzn-Trace-Id")),
            qualifier=request.rel_url.query.get("Qualifier"),
            kind=kind,
            log_tail=request.headers.get("X-Amz-Log-Type", "None") == "Tail",
        )
        return web.Response(status=done.status, body=done.payload, headers=_headers(done))


def _kind(request: web.BaseRequest) -> Kind:
    kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
    if kind not in _KINDS:
        raise invalid_parameter(f"`{kind}` is no invocation type")
    return cast("Kind", kind)


def _client_context(request: web.BaseRequest) -> str | None:
    encoded = request.headers.get("X-Amz-Client-Context")
    if encoded is None:
        return None
    try:
        text = base64.b64decode(encoded, validate=True).decode()
        json.loads(text)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(
            "InvalidRequestContentException", 400, f"Client context must be base64 of JSON: {error}"
        ) from error
    if len(encoded) > _CONTEXT_BYTES or not text.isprintable():
        raise RefusedError(
            "InvalidRequestContentException", 400, f"Client context must be no more than {_CONTEXT_BYTES} bytes"
        )
    return text


def _headers(done: Invocation) -> dict[str, str]:
    headers = {"x-amzn-RequestId": done.request_id, "X-Amz-Executed-Version": done.executed_version}
    if done.status == 200:
        headers["Content-Type"] = "application/json"
    if done.function_error is not None:
        headers["X-Amz-Function-Error"] = done.function_error
    if done.log:
        headers["X-Amz-Log-Result"] = base64.b64encode(done.log.encode()[-4096:]).decode()
    return headers
