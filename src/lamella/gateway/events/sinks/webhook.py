"""Results as calls of somebody's URL."""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

from lamella.errors import RemoteError, UsageError
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import FinalError, Result
from lamella.runtime.forms import json_entries

SCHEMA = "lamella.event/1"
_TIMEOUT_S = 30.0  # for connecting, and for each time that nothing comes
_MOST_ANSWER_BYTES = 64 << 10
_PASSING = frozenset({408, 409, 423, 425, 429})
"""Answers of 4xx that another attempt may change."""


class WebhookSink:
    """Posts each result as JSON. Any answer of 2xx is a success; redirects are not followed.

    `Idempotency-Key` is the request's id, the same whenever a result is repeated, so that the receiver can tell.

    Args:
        url: Where to.
        timeout_s: Seconds that the receiver may be silent.
    """

    def __init__(self, url: str, *, timeout_s: float = _TIMEOUT_S) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._parts = _checked(url)

    def deliver(self, result: Result) -> None:
        """Post a result."""
        content = {
            "schema": SCHEMA,
            "deployment": result.deployment,
            "request_id": result.request_id,
            "source": result.source,
            "key": result.key,
            "etag": result.etag,
            "outputs": json_entries(result.outputs),
        }
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "lamella",
            "Idempotency-Key": result.request_id,
        }
        try:
            status, location = self._post(json.dumps(content, allow_nan=False).encode(), headers)
        except (OSError, HTTPException) as error:
            raise RemoteError(f"`{self._shown}` cannot be reached: {error!r}", hint="see to the receiver") from error
        self._check(status, location)

    def _post(self, body: bytes, headers: dict[str, str]) -> tuple[int, str | None]:
        parts = self._parts
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
        with closing(kind(str(parts.hostname), parts.port, timeout=self._timeout_s)) as connection:
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
            response.read(_MOST_ANSWER_BYTES)
            return response.status, response.headers.get("Location")

    def _check(self, status: int, location: str | None) -> None:
        if 200 <= status < 300:
            return
        if 300 <= status < 400:
            raise FinalError(
                f"`{self._shown}` redirects to `{shown(location or '')}`, which is not followed",
                hint="give the URL that answers",
            )
        if status < 500 and status not in _PASSING:
            raise FinalError(
                f"`{self._shown}` refuses results with status {status}", hint="see to the URL and receiver"
            )
        raise RemoteError(f"`{self._shown}` answered with status {status}", hint="see to the receiver")

    @property
    def _shown(self) -> str:
        """Without what may be a secret: many receivers have theirs in the query."""
        return f"{self._parts.scheme}://{self._parts.netloc}{self._parts.path}"


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken address
        valid = False
    if not valid or not url.isascii() or not url.isprintable() or " " in url:
        raise UsageError(
            f"`{shown(url)}` is no URL of a webhook", hint="give one such as `https://example.org/results`"
        )
    if parts.username is not None or parts.password is not None:  # URIs are shown, logged and passed on
        raise UsageError("the URL of the webhook holds credentials", hint="leave them out")
    return parts
