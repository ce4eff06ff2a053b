"""What came of invoking a function, whoever invoked it."""

from __future__ import annotations

from dataclasses import dataclass

PASSING_ERRORS = frozenset({"Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "Sandbox.Failure"})
"""The instance was killed or its time was up: another one may do better."""

THROTTLED = 429


@dataclass(frozen=True)
class Answered:
    """What came of one invocation.

    Attributes:
        payload: The function's answer, as `lamella.runtime.payload` makes it; of a failed one, whatever there is.
        error_type: What kind of error it was, such as `Runtime.ExitError`; None where there was none.
        error_message: What the function or the platform says about it.
        retriable: Whether the same invocation may succeed when it is made again.
        throttled: Whether the platform had no instance to spare, so that nothing has run.
        cold_start: Whether a new instance had to be started.
        init_ms: Milliseconds that starting it took; None without a start, or where the platform does not say.
        billed_ms: Milliseconds that the platform charges; None where it does not say.
        max_memory_mb: Most memory that the instance has used so far; None where the platform does not say.
    """

    payload: bytes
    error_type: str | None = None
    error_message: str | None = None
    retriable: bool = False
    throttled: bool = False
    cold_start: bool = False
    init_ms: float | None = None
    billed_ms: float | None = None
    max_memory_mb: float | None = None
