"""Errors as gRPC's statuses."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from grpc import StatusCode

from lamella.errors import InputError, LamellaError, MissingDependencyError, UsageError
from lamella.gateway.dataplane import BusyError, DeadlineError, StoppingError, UnknownModelError


class StrangerError(UsageError):
    """Whoever calls has shown no token, or an unknown one."""


class LackingError(UsageError):
    """The protocol has this, and this server does not."""


# The first that fits counts: the more special ones stand above those that they are.
_CODES: tuple[tuple[type[LamellaError], StatusCode], ...] = (
    (StrangerError, StatusCode.UNAUTHENTICATED),
    (LackingError, StatusCode.UNIMPLEMENTED),
    (MissingDependencyError, StatusCode.UNIMPLEMENTED),
    (UnknownModelError, StatusCode.NOT_FOUND),
    (InputError, StatusCode.INVALID_ARGUMENT),
    (UsageError, StatusCode.INVALID_ARGUMENT),
    (StoppingError, StatusCode.UNAVAILABLE),
    (BusyError, StatusCode.RESOURCE_EXHAUSTED),
    (DeadlineError, StatusCode.DEADLINE_EXCEEDED),
)


@dataclass(frozen=True, slots=True)
class Status:
    """How a call ends that fails.

    Attributes:
        code: What kind of failure it is.
        details: What failed, and the way out.
        trailers: What the caller is told beside that.
    """

    code: StatusCode
    details: str
    trailers: tuple[tuple[str, str], ...] = ()


def status_of(error: LamellaError) -> Status:
    """How a call ends that failed with this.

    What is busy says in `retry-after` when to ask again, in seconds as over HTTP, and in gRPC's own way, which clients
    that try again by themselves obey: https://github.com/grpc/proposal/blob/master/A6-client-retries.md
    """
    details = f"{error.message} ({error.hint})" if error.hint else error.message
    trailers: tuple[tuple[str, str], ...] = ()
    if isinstance(error, BusyError):
        wait_s = error.retry_after_s
        trailers = (("retry-after", str(ceil(wait_s))), ("grpc-retry-pushback-ms", str(ceil(wait_s * 1000))))
    return Status(_code(error), details, trailers)


def _code(error: LamellaError) -> StatusCode:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    # What is the user's own fault, and not the request's: a model that cannot be loaded.
    return StatusCode.FAILED_PRECONDITION if error.exit_status == 2 else StatusCode.INTERNAL


DEFECT = Status(StatusCode.INTERNAL, "the server has a defect (see its log)")
"""How a call ends in which something failed that nobody foresaw."""
