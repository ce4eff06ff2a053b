"""The service as its callers on this machine use it. Imports no HTTP library beyond Python's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from time import sleep
from typing import Any
from urllib.parse import quote, urlencode

from lamella.errors import RemoteError
from lamella.gateway.address import Address
from lamella.gateway.faults import error_of
from lamella.runtime.protocol import HEADER_LENGTH
from lamella.targets.reports import Reports, reports_of
from lamella.tensors import Array, Tensors
from lamella.wire import decode_parts, encode

_POLL_S = 0.05


@dataclass(frozen=True)
class Inferred:
    """What a request gave.

    Attributes:
        outputs: An array for each output, by name.
        timeline: What each slice did, with the fields of `lamella.workflow.request.SliceRun`.
        latency_ms: Milliseconds for all of it, inside the service; None where nobody knows.
        request_id: The request's name in logs.
    """

    outputs: dict[str, Array]
    timeline: list[dict[str, Any]]
    latency_ms: float | None
    request_id: str


class ServiceClient:
    """Speaks to a service.

    Args:
        address: Where it is.
    """

    def __init__(self, address: Address) -> None:
        self._address = address

    def call(self, method: str, path: str, content: object = None) -> dict[str, Any]:
        """One call of the service's own interface, JSON both ways.

        Raises:
            LamellaError: What the service answered with, of the class that it was there.
            RemoteError: It cannot be reached.
        """
        body = None if content is None else json.dumps(content).encode()
        with self._answer(method, path, body, {}) as response:
            found: dict[str, Any] = json.loads(response.read())
            return found

    def infer(
        self, model: str, inputs: Tensors, *, version: int | str | None = None, slice: int | None = None
    ) -> Inferred:
        """Send a request and wait for its answer.

        Args:
            model: Its address, such as `app.bert@prod`.
            inputs: What it takes.
            version: One that is kept, or its alias; None: the live one.
            slice: The one slice to run; None: all.

        Raises:
            LamellaError: What went wrong.
        """
        body, headers = _request(inputs, slice)
        with self._answer("POST", _infer_path(model, version), body, headers) as response:
            return _inferred(response)

    def submit(self, model: str, inputs: Tensors, *, version: int | str | None = None, slice: int | None = None) -> str:
        """Send a request whose answer is fetched later, with `result`; returns its id.

        Raises:
            LamellaError: What went wrong.
        """
        body, headers = _request(inputs, slice)
        headers["Prefer"] = "respond-async"
        with self._answer("POST", _infer_path(model, version), body, headers) as response:
            return str(json.loads(response.read())["id"])

    def result(self, request_id: str) -> Inferred:
        """Wait for the answer of an asynchronous request.

        Raises:
            LamellaError: What went wrong.
        """
        while True:
            with self._answer("GET", f"/v2/requests/{quote(request_id)}", None, {}) as response:
                if response.status != 202:
                    return _inferred(response)
            sleep(_POLL_S)

    def logs(self, model: str, *, slice: int | None = None, follow: bool = False) -> Iterator[dict[str, Any]]:
        """Lines of the functions' logs: `slice`, `function`, `text`, `time_ms`.

        Raises:
            LamellaError: What went wrong.
        """
        query = f"follow={'true' if follow else 'false'}{'' if slice is None else f'&slice={slice}'}"
        with self._answer("GET", f"/lamella/deployments/{quote(model)}/logs?{query}", None, {}) as response:
            for line in response:
                yield json.loads(line)

    def reports(
        self, model: str, *, slice: int | None = None, since_ms: int = 0, until_ms: int | None = None
    ) -> Reports:
        """What the logs say that each function did in a span of time, in milliseconds since 1970.

        Raises:
            LamellaError: What went wrong.
        """
        given = {"since_ms": since_ms, "until_ms": until_ms, "slice": slice}
        query = urlencode({name: value for name, value in given.items() if value is not None})
        return reports_of(self.call("GET", f"/lamella/deployments/{quote(model)}/reports?{query}"))

    @contextmanager
    def _answer(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Iterator[HTTPResponse]:
        """An answer that is none of an error."""
        address = self._address
        with closing(HTTPConnection(address.url.removeprefix("http://"))) as connection:
            try:
                connection.request(method, path, body, {"Authorization": f"Bearer {address.token}", **headers})
                response = connection.getresponse()
                if response.status >= 400:
                    raise error_of(_content(response.read()), response.status)
                yield response
            except (OSError, HTTPException) as error:
                raise RemoteError(
                    f"the service at {address.url} cannot be reached: {error}", hint="try again; it starts when needed"
                ) from error


def _infer_path(model: str, version: int | str | None) -> str:
    return f"/v2/models/{quote(model)}{'' if version is None else f'/versions/{quote(str(version))}'}/infer"


def _content(body: bytes) -> Mapping[str, object]:
    try:
        content = json.loads(body)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _request(inputs: Tensors, slice: int | None) -> tuple[bytes, dict[str, str]]:
    frame = encode(inputs)
    parameters: dict[str, object] = {"binary_data_output": True, "timeline": True}
    if slice is not None:
        parameters["slice"] = slice
    header = json.dumps({**json.loads(frame.header), "parameters": parameters}).encode()
    return b"".join((header, *frame.buffers)), {HEADER_LENGTH: str(len(header))}


def _inferred(response: HTTPResponse) -> Inferred:
    length, body = response.headers.get(HEADER_LENGTH), response.read()
    end = len(body) if length is None else int(length)
    view = memoryview(body)
    header = json.loads(body[:end])
    parameters = header.get("parameters") or {}
    return Inferred(
        decode_parts(view[:end], view[end:]),
        list(parameters.get("timeline", ())),
        float(parameters.get("latency_ms", 0.0)),
        str(header.get("id", "")),
    )
