"""HTTP as API Gateway (payload format 2.0) and function URLs hand it to a function, and as they take answers.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from __future__ import annotations

import json
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from dataclasses import dataclass, field

from lamella.errors import InputError, LamellaError
from lamella.runtime import json_fields as fields
from lamella.runtime.faults import fault, status_of

PAYLOAD_BYTES = 6 << 20
"""What a function may answer with, all of it. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

_SPARE_BYTES = 8 << 10  # of an answer: status, headers, and what the platform puts around them
_PLAIN_BYTES = 1 << 20  # above this, counting what JSON escapes is worth less than base64
_API_S = (
    28.0  # an HTTP API gives up after 30 s; https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
)
_API_HOST = "execute-api"
WAY_OUT = (
    'ask for binary tensors (`"parameters": {"binary_data_output": true}`), for outputs by reference '
    '(`"parameters": {"references": true}`), for fewer of them, or for the result later (`Prefer: respond-async`)'
)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request.

    Attributes:
        method: In capitals.
        path: Decoded, without the stage of an API.
        headers: With names in small letters.
        body: The bytes.
        longest_s: Seconds after which the front door gives up; None: it does not.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    longest_s: float | None = None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer.

    Attributes:
        status: Such as 200.
        body: The bytes.
        headers: Beside the content's type.
        content_type: Its media type.
    """

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class TooLargeError(LamellaError):
    """An answer is larger than functions may give."""


def is_http(event: Mapping[str, object]) -> bool:
    """Whether an event is an HTTP request."""
    context = event.get("requestContext")
    return isinstance(context, Mapping) and "http" in context


def read_http(event: Mapping[str, object]) -> HttpRequest:
    """Read such an event.

    Raises:
        InputError: It is none.
    """
    try:
        context = fields.members(event["requestContext"])
        method = fields.text(fields.members(context["http"])["method"]).upper()
        headers = {name.lower(): str(value) for name, value in fields.members(event.get("headers") or {}).items()}
        body = fields.text(event.get("body") or "")
        content = a2b_base64(body) if event.get("isBase64Encoded") is True else body.encode()
        path = _path(fields.text(event["rawPath"]), str(context.get("stage") or ""))
    except (KeyError, TypeError, Base64Error, ValueError) as error:
        raise InputError(f"this is no HTTP request: {error!r}", hint="use payload format 2.0") from error
    host = str(context.get("domainName") or "")
    return HttpRequest(method, path, headers, content, _API_S if _API_HOST in host else None)


def write_http(answer: HttpAnswer) -> dict[str, object]:
    """An answer as the front door takes it.

    Raises:
        TooLargeError: It is larger than functions may give.
    """
    plain = answer.content_type == "application/json" and len(answer.body) <= _PLAIN_BYTES
    body = answer.body.decode() if plain else b2a_base64(answer.body, newline=False).decode("ascii")
    size = len(json.dumps(body)) if plain else len(body)
    if size + _SPARE_BYTES > PAYLOAD_BYTES:
        raise too_large(len(answer.body))
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return {"statusCode": answer.status, "headers": headers, "body": body, "isBase64Encoded": not plain}


def fits(size_bytes: int) -> bool:
    """Whether tensors of so many bytes may fit into an answer."""
    return size_bytes * 4 // 3 + _SPARE_BYTES <= PAYLOAD_BYTES


def too_large(size_bytes: int) -> TooLargeError:
    """The error for an answer of so many bytes."""
    return TooLargeError(
        f"the answer has {size_bytes:,} bytes, and functions may answer with {PAYLOAD_BYTES:,}, in base64", hint=WAY_OUT
    )


def json_answer(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpAnswer:
    """JSON as an answer."""
    return HttpAnswer(status, json.dumps(content, allow_nan=False).encode(), headers or {})


def refusal(error: LamellaError, status: int | None = None) -> HttpAnswer:
    """An error as an answer."""
    if status is None:
        status = 413 if isinstance(error, TooLargeError) else status_of(error)
    return json_answer(fault(error), status)


def _path(raw: str, stage: str) -> str:
    """A path without the stage in front, which APIs leave there unless it is the default one."""
    from urllib.parse import unquote

    path = raw
    if stage and stage != "$default" and (path == f"/{stage}" or path.startswith(f"/{stage}/")):
        path = path[len(stage) + 1 :]
    return unquote(path) or "/"
