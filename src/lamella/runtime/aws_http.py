"""Signed requests to AWS's services over connections that stay open, or to servers that stand in for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from http.client import HTTPConnection, HTTPException
from time import time
from urllib.parse import urlsplit

from lamella.errors import UsageError
from lamella.stores.connections import new_connection
from lamella.stores.credentials import FindCredentials
from lamella.stores.sigv4 import signed_headers

_VARIABLES = {"lambda": "AWS_ENDPOINT_URL_LAMBDA", "states": "AWS_ENDPOINT_URL_SFN"}
_ANYWHERE = "AWS_ENDPOINT_URL"


@dataclass(frozen=True)
class Reply:
    """What a service has answered.

    Attributes:
        status: HTTP's.
        body: All of it.
        error_type: The service's name for an error.
        function_error: Of Lambda: that the function itself has failed.
    """

    status: int
    body: bytes
    error_type: str | None
    function_error: str | None


class AwsHttp:
    """Sends requests. Thread-safe; a connection serves one request at a time.

    Args:
        region: Where the services are; None for `AWS_REGION` or `AWS_DEFAULT_REGION`.
        credentials: Gives what is signed with.
        endpoint_url: The server, where it is not AWS's own.

    Raises:
        UsageError: Nobody says which region.
    """

    def __init__(self, region: str | None, credentials: FindCredentials, endpoint_url: str | None = None) -> None:
        found = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not found:
            raise UsageError("AWS cannot be called: there is no region", hint="set `AWS_REGION`")
        self._region, self._credentials, self._endpoint_url = found, credentials, endpoint_url
        self._idle: dict[str, list[HTTPConnection]] = {}

    def send(self, service: str, path: str, headers: Mapping[str, str], body: bytes, *, timeout_s: float) -> Reply:
        """POST a body.

        A connection that broke while it was idle is opened again: of what was sent there, nothing was done.

        Args:
            service: `lambda`, `states`, or `sync-states`.
            path: Percent-encoded.
            headers: What is signed beside.
            body: The content.
            timeout_s: Seconds to wait for each part of the answer.

        Raises:
            OSError: The server cannot be reached, or does not answer; a `TimeoutError` where it takes too long.
            StoreError: There are no credentials.
        """
        url = self._endpoint(service) + path
        signed = signed_headers(
            "POST",
            url,
            headers,
            sha256(body).hexdigest(),
            service=service.removeprefix("sync-"),
            region=self._region,
            credentials=self._credentials(),
            at_s=time(),
        )
        place = urlsplit(url)
        key = f"{place.scheme}://{place.netloc}"
        idle = self._idle.setdefault(key, [])
        try:
            used: HTTPConnection | None = idle.pop()
        except IndexError:
            used = None
        connection = used or new_connection(place.scheme, place.netloc)
        try:
            reply = _exchange(connection, place.path, signed, body, timeout_s)
        except TimeoutError:
            connection.close()
            raise
        except (HTTPException, OSError) as error:
            connection.close()
            if used is None:
                raise OSError(str(error) or type(error).__name__) from error
            return self.send(service, path, headers, body, timeout_s=timeout_s)
        idle.append(connection)
        return reply

    def close(self) -> None:
        """Close what is open and not in use."""
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def _endpoint(self, service: str) -> str:
        general = os.environ.get(_VARIABLES[service.removeprefix("sync-")]) or os.environ.get(_ANYWHERE)
        given = self._endpoint_url or general
        suffix = ".cn" if self._region.startswith("cn-") else ""
        return (given or f"https://{service}.{self._region}.amazonaws.com{suffix}").rstrip("/")


def _exchange(
    connection: HTTPConnection, path: str, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> Reply:
    connection.timeout = timeout_s
    if connection.sock is not None:
        connection.sock.settimeout(timeout_s)
    connection.request("POST", path, body, dict(headers))
    answer = connection.getresponse()
    content = answer.read()
    if answer.will_close:
        connection.close()
    return Reply(
        answer.status, content, answer.headers.get("x-amzn-ErrorType"), answer.headers.get("X-Amz-Function-Error")
    )
