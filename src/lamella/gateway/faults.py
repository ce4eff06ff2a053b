"""Errors as the service's answers, and back."""

from __future__ import annotations

from collections.abc import Mapping

from lamella import errors
from lamella.errors import LamellaError, RemoteError
from lamella.gateway.jobs import UnknownRequestError
from lamella.runtime.faults import fault
from lamella.runtime.faults import status_of as general_status
from lamella.targets.base import NotDeployedError

__all__ = ["error_of", "fault", "status_of"]

_OWN: Mapping[str, type[LamellaError]] = {kind.__name__: kind for kind in (NotDeployedError, UnknownRequestError)}


def status_of(error: LamellaError) -> int:
    """The HTTP status of an error."""
    return 404 if isinstance(error, (NotDeployedError, UnknownRequestError)) else general_status(error)


def error_of(content: Mapping[str, object], status: int) -> LamellaError:
    """The error that a service's answer stands for."""
    message, hint = str(content.get("error") or f"the service answered with status {status}"), content.get("hint")
    name = str(content.get("type"))
    kind = _OWN.get(name) or getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, LamellaError)):
        kind = RemoteError
    return kind(message, hint=None if hint is None else str(hint))
