"""A request to a function, what comes of it, and why it may not be taken: in AWS Lambda's own words."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Literal

from lamella.errors import RemoteError
from lamella.targets.local.report import Report

Kind = Literal["RequestResponse", "Event", "DryRun"]
FunctionError = Literal["Handled", "Unhandled"]


def new_request_id() -> str:
    """An id as AWS gives each request."""
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Request:
    """One request on its way to an instance.

    Attributes:
        payload: The event: JSON.
        request_id: Its id.
        arn: The function's name as it was asked for, as the handler's context shows it.
        client_context: What the caller tells beside the event: JSON, or None.
        trace_id: The caller's trace, or None.
    """

    payload: bytes
    request_id: str = field(default_factory=new_request_id)
    arn: str = ""
    client_context: str | None = None
    trace_id: str | None = None


@dataclass(frozen=True)
class Invocation:
    """What came of a request.

    Attributes:
        status: As over HTTP: 200 for an answer, also if the function failed; 202 for an event that was taken, 204 for
            a dry run; 4xx and 5xx if no function has run.
        payload: The function's answer, or a JSON object that says what went wrong.
        request_id: The request.
        function_error: Set if the function failed, or was stopped.
        executed_version: The version that ran: `$LATEST`, or a number; empty if none has.
        log: The end of what this request logged, at most 4 KB, with its `REPORT`; empty unless asked for.
        report: What it took; None unless a function has run.
        error_type: `Runtime.ExitError`, `TooManyRequestsException`, or the name of the handler's exception; None if
            there was no error.
    """

    status: int
    payload: bytes
    request_id: str
    function_error: FunctionError | None = None
    executed_version: str = ""
    log: str = ""
    report: Report | None = None
    error_type: str | None = None

    @property
    def error_message(self) -> str | None:
        """What the function or the platform says about the error; None if there was none."""
        if self.error_type is None:
            return None
        try:
            content = json.loads(self.payload)
        except ValueError:
            return self.payload.decode(errors="replace")
        if not isinstance(content, dict):
            return str(content)
        return str(content.get("errorMessage") or content.get("message") or content.get("Message") or "")


class RefusedError(RemoteError):
    """The platform does not take a request.

    Attributes:
        error_type: AWS's name for it: `ResourceNotFoundException`.
        status: The status over HTTP.
        reason: What AWS says beside it, such as why it throttles; or None.
    """

    def __init__(
        self, error_type: str, status: int, message: str, *, reason: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_type = error_type
        self.status = status
        self.reason = reason

    @property
    def body(self) -> bytes:
        """The answer's body, as AWS sends it."""
        content = {"Type": "User", "message": self.message}
        if self.reason is not None:
            content["Reason"] = self.reason
        return json.dumps(content).encode()


def not_found(arn: str) -> RefusedError:
    """There is no such function, version or alias."""
    return RefusedError(
        "ResourceNotFoundException", 404, f"Function not found: {arn}", hint="see what `LocalPlatform.functions` lists"
    )


def throttled(reason: str) -> RefusedError:
    """There is no room for a further request at the same time."""
    hint = f"ask for less at a time, or allow more ({reason})"
    return RefusedError("TooManyRequestsException", 429, "Rate Exceeded.", reason=reason, hint=hint)


def too_large(size_bytes: int | None, kind: Kind, limit_bytes: int) -> RefusedError:
    """The event is larger than the kind of invocation allows; `size_bytes` is None where nobody counted to the end."""
    size = f"{size_bytes} byte" if size_bytes is not None else f"more than {limit_bytes} byte"
    return RefusedError(
        "RequestTooLargeException",
        413,
        f"{size} payload is too large for the {kind} invocation type (limit {limit_bytes} bytes)",
    )


def malformed(reason: str) -> RefusedError:
    """The event is not JSON."""
    return RefusedError("InvalidRequestContentException", 400, f"Could not parse request body into json: {reason}")


def invalid_parameter(message: str) -> RefusedError:
    """A parameter beside the event makes no sense."""
    return RefusedError("InvalidParameterValueException", 400, message)


def check_event(payload: bytes) -> bytes:
    """The event, if it is JSON; `{}` if there is none. Takes a few milliseconds for 6 MB.

    Raises:
        RefusedError: It is no JSON in UTF-8.
    """
    if not payload:
        return b"{}"
    try:
        json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise malformed(str(error)) from error
    return payload
