"""Errors as the service's answers, and back."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from lamella.errors import LamellaError, RemoteError
from lamella.gateway.jobs import TooManyRequestsError, UnknownRequestError
from lamella.runtime.faults import error_of as general_error
from lamella.runtime.faults import fault
from lamella.runtime.faults import status_of as general_status
from lamella.targets.base import NotDeployedError

__all__ = ["defect", "error_of", "fault", "status_of"]

_OWN: Mapping[str, type[LamellaError]] = {
    kind.__name__: kind for kind in (NotDeployedError, UnknownRequestError, TooManyRequestsError)
}
_FULL = (errno.ENOSPC, errno.EDQUOT)


def status_of(error: LamellaError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, TooManyRequestsError):
        return 503
    return 404 if isinstance(error, (NotDeployedError, UnknownRequestError)) else general_status(error)


def defect(error: Exception) -> dict[str, object]:
    """An exception that is nobody's answer, as JSON values: the machine's fault, or the service's own."""
    hint = "see its log: `service/service.log`"
    if not isinstance(error, OSError):
        return fault(RemoteError("the service has a defect", hint=hint))
    if error.errno in _FULL:
        hint = "free some space, or set `LAMELLA_HOME` to a folder on another disk"
    where = f"`{error.filename}`: " if error.filename is not None else ""
    return fault(RemoteError(f"the service failed: {where}{(error.strerror or str(error)).lower()}", hint=hint))


def error_of(content: Mapping[str, object], status: int) -> LamellaError:
    """The error that a service's answer stands for."""
    return general_error(content, status, _OWN)
