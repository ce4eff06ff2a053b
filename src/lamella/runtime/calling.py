"""Calls to AWS: functions, and state machines. Two methods, which whoever has other credentials can write anew.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
https://docs.aws.amazon.com/step-functions/latest/apireference/Welcome.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import quote

from lamella.errors import RemoteError
from lamella.runtime import json_fields as fields
from lamella.runtime.answered import PASSING_ERRORS, THROTTLED, Answered
from lamella.runtime.aws_http import AwsHttp, Reply
from lamella.stores.credentials import FindCredentials, FunctionCredentials

LONGEST_S = 905.0
"""A function may take 900 seconds."""

_MOUNTING = (408, 410)  # a file system could not be mounted this time, or lost its connection
_INVOCATIONS = "/2015-03-31/functions/{}/invocations"
_STATES = "AWSStepFunctions."


class AwsError(RemoteError):
    """AWS refuses a call.

    Attributes:
        code: AWS's name for the reason.
    """

    def __init__(self, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class Caller(Protocol):
    """Calls AWS, or what speaks its protocols. Thread-safe."""

    def invoke(self, function: str, payload: bytes, *, wait: bool = True, timeout_s: float = LONGEST_S) -> Answered:
        """Run a function once, and wait for its answer or not; errors of the function are no exceptions."""
        ...

    def states(
        self, action: str, content: Mapping[str, object], *, timeout_s: float = LONGEST_S
    ) -> Mapping[str, object]:
        """Call Step Functions.

        Raises:
            AwsError: It refuses, or cannot be reached.
        """
        ...


class AwsCaller:
    """Calls AWS over HTTPS with signed requests, without boto3.

    Args:
        region: Where; `AWS_REGION` by default.
        credentials: Gives the credentials; by default those of the function that this runs in.
        endpoint_url: Another server for all services; by default `AWS_ENDPOINT_URL_LAMBDA`, `AWS_ENDPOINT_URL_SFN` and
            `AWS_ENDPOINT_URL` are asked.
    """

    def __init__(
        self, *, region: str | None = None, credentials: FindCredentials | None = None, endpoint_url: str | None = None
    ) -> None:
        self._http = AwsHttp(region, credentials or FunctionCredentials(), endpoint_url)

    def invoke(self, function: str, payload: bytes, *, wait: bool = True, timeout_s: float = LONGEST_S) -> Answered:
        """Run a function once, by its name or ARN, with `:` and a version or alias behind it if need be."""
        kind = "RequestResponse" if wait else "Event"
        headers = {"Content-Type": "application/json", "X-Amz-Invocation-Type": kind}
        path = _INVOCATIONS.format(quote(function, safe=""))
        try:
            reply = self._http.send("lambda", path, headers, payload, timeout_s=timeout_s)
        except TimeoutError:
            return Answered(b"", "Timeout", f"`{function}` did not answer within {timeout_s:.1f} s")
        except OSError as error:
            return Answered(b"", "ConnectionError", f"`{function}` cannot be reached: {error}", retriable=True)
        return _answered(reply)

    def states(
        self, action: str, content: Mapping[str, object], *, timeout_s: float = LONGEST_S
    ) -> Mapping[str, object]:
        """Call Step Functions."""
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"{_STATES}{action}"}
        # synchronous executions have hosts of their own
        service = "sync-states" if action == "StartSyncExecution" else "states"
        try:
            reply = self._http.send(service, "/", headers, json.dumps(content).encode(), timeout_s=timeout_s)
        except TimeoutError as error:
            raise AwsError(f"Timeout: {action} did not answer within {timeout_s:.1f} s", code="Timeout") from error
        except OSError as error:
            raise AwsError(f"Step Functions cannot be reached: {error}", code="ConnectionError") from error
        found = _document(reply.body)
        if reply.status != 200:
            code = str(found.get("__type") or reply.status).rpartition("#")[2]
            said = found.get("message") or found.get("Message") or "no reason given"
            raise AwsError(f"Step Functions refuses {action}: {code}: {said}", code=code, hint=_rights(code))
        return found

    def close(self) -> None:
        """Close the connections that are open and not in use."""
        self._http.close()


def _answered(reply: Reply) -> Answered:
    found = _document(reply.body) if reply.status >= 300 or reply.function_error else {}
    if reply.function_error:
        kind, message = str(found.get("errorType") or reply.function_error), str(found.get("errorMessage") or "")
        if "errorType" not in found and "Task timed out" in message:  # as AWS says it in older regions
            kind = "Sandbox.Timedout"
        return Answered(reply.body, kind, message, retriable=kind in PASSING_ERRORS)
    if reply.status < 300:
        return Answered(reply.body)
    kind = (reply.error_type or str(found.get("Type") or f"status {reply.status}")).partition(":")[0]
    message = str(found.get("Message") or found.get("message") or "")
    throttled = reply.status == THROTTLED
    passing = throttled or reply.status in _MOUNTING or reply.status >= 500
    return Answered(reply.body, kind, message, retriable=passing, throttled=throttled)


def _document(body: bytes) -> dict[str, object]:
    try:
        return fields.members(json.loads(body))
    except (ValueError, TypeError):
        return {}


def _rights(code: str) -> str | None:
    refused = "AccessDenied" in code or code in ("UnrecognizedClientException", "ExpiredTokenException")
    return "see which credentials are used, and what they may do" if refused else None
