"""What a function's log says about its requests, to the letter as AWS Lambda prints it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["success", "error", "timeout"]
Phase = Literal["init", "invoke"]


@dataclass(frozen=True)
class Report:
    """What one request took.

    Attributes:
        request_id: The request.
        duration_ms: From the moment that the function could take the request until its answer was there.
        billed_ms: What AWS would charge: initialisation and duration together, rounded up.
        memory_mb: The function's memory.
        max_memory_mb: The most memory that the instance has used so far, in this and in earlier requests.
        init_ms: How long the instance took to start; None if it had answered before, or if its start failed and was
            repeated within the request, where `duration_ms` holds it.
        cold_start: Whether this was the instance's first request.
        status: How it ended.
        error_type: What kind of error it was, such as `Runtime.ExitError`; None without one.
    """

    request_id: str
    duration_ms: float
    billed_ms: int
    memory_mb: int
    max_memory_mb: int
    init_ms: float | None
    cold_start: bool
    status: Status = "success"
    error_type: str | None = None

    @property
    def line(self) -> str:
        """The `REPORT` line, with its end."""
        fields = [
            f"REPORT RequestId: {self.request_id}",
            f"Duration: {self.duration_ms:.2f} ms",
            f"Billed Duration: {self.billed_ms} ms",
            f"Memory Size: {self.memory_mb} MB",
            f"Max Memory Used: {self.max_memory_mb} MB",
        ]
        if self.init_ms is not None:
            fields.append(f"Init Duration: {self.init_ms:.2f} ms")
        if self.status != "success":
            fields.append(f"Status: {self.status}")
        if self.error_type is not None and self.status == "error":
            fields.append(f"Error Type: {self.error_type}")
        return "\t".join(fields) + "\t\n"


def billed_ms(duration_ms: float, init_ms: float | None) -> int:
    """Milliseconds that are charged: each begun one counts, and initialisation with them since August 2025.

    https://aws.amazon.com/blogs/compute/aws-lambda-standardizes-billing-for-init-phase/
    """
    return max(1, math.ceil(duration_ms + (init_ms or 0.0)))


def start_line(request_id: str, version: str) -> str:
    """Before anything that the function logs for a request."""
    return f"START RequestId: {request_id} Version: {version}\n"


def end_line(request_id: str) -> str:
    """After everything that the function logs for a request."""
    return f"END RequestId: {request_id}\n"


def init_start_line(runtime: str, *, region: str) -> str:
    """Before anything that an instance logs while it starts."""
    return f"INIT_START Runtime Version: {runtime}\tRuntime Version ARN: arn:aws:lambda:{region}::runtime:local\n"


def init_report_line(init_ms: float, *, phase: Phase, status: Status, error_type: str | None = None) -> str:
    """What is said of a start that failed; of one that succeeded, the first `REPORT` does."""
    kind = "" if error_type is None else f"\tError Type: {error_type}"
    return f"INIT_REPORT Init Duration: {init_ms:.2f} ms\tPhase: {phase}\tStatus: {status}{kind}\n"


def timeout_line(moment: str, request_id: str, timeout_s: float) -> str:
    """What the log says of a request that took too long; `moment` is in ISO 8601."""
    return f"{moment} {request_id} Task timed out after {timeout_s:.2f} seconds\n\n"
