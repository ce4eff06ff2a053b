"""A connection to the Lambda Runtime API: kept open, and made again when it breaks."""

from __future__ import annotations

import http.client
from collections.abc import Collection, Mapping
from time import sleep

_PAUSES_S = (0.0, 0.02, 0.1, 0.5, 1.0)  # before each attempt to reach a platform that may be starting again


class RuntimeApiError(Exception):
    """The platform is gone, or refuses this process: it has nothing left to do."""


class Connection:
    """One request after the other.

    Args:
        address: `host:port`, as the platform gives it in `AWS_LAMBDA_RUNTIME_API`.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._http = http.client.HTTPConnection(address)  # no timeout: an instance may wait for hours

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        expected: Collection[int],
    ) -> tuple[bytes, http.client.HTTPMessage]:
        """Send a request; return the answer's body and headers.

        It is sent again where the connection breaks: the API knows each invocation by its id, and takes one answer.

        Raises:
            RuntimeApiError: The platform cannot be reached, or answers with a status that is not expected.
        """
        failure: Exception | None = None
        for pause_s in _PAUSES_S:
            if pause_s:  # even no time at all would let others go first
                sleep(pause_s)
            try:
                self._http.request(method, path, body, dict(headers or {}))
                answer = self._http.getresponse()
                content = answer.read()
            except (http.client.HTTPException, OSError) as error:
                self._http.close()
                failure = error
                continue
            if answer.status not in expected:
                raise RuntimeApiError(f"{self._address} answers {method} {path} with status {answer.status}")
            return content, answer.headers
        raise RuntimeApiError(f"{self._address} cannot be reached: {failure}") from failure
