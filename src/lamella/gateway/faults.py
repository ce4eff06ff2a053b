"""Errors as the service's answers, and back."""

from __future__ import annotations

from collections.abc import Mapping

from lamella import errors
from lamella.errors import LamellaError, RemoteError
from lamella.gateway.jobs import UnknownRequestError
from lamella.targets.base import NotDeployedError

_OWN: Mapping[str, type[LamellaError]] = {kind.__name__: kind for kind in (NotDeployedError, UnknownRequestError)}


def status_of(error: LamellaError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, (NotDeployedError, UnknownRequestError)):
        return 404
    if isinstance(error, errors.MissingDependencyError):
        return 501
    if isinstance(error, RemoteError):
        return 503 if "TooManyRequests" in error.message else 502
    return 400 if error.exit_status == 2 else 500


def fault(error: LamellaError) -> dict[str, object]:
    """An error as JSON values."""
    return {"error": error.message, "hint": error.hint, "type": type(error).__name__}


def error_of(content: Mapping[str, object], status: int) -> LamellaError:
    """The error that a service's answer stands for."""
    message, hint = str(content.get("error") or f"the service answered with status {status}"), content.get("hint")
    name = str(content.get("type"))
    kind = _OWN.get(name) or getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, LamellaError)):
        kind = RemoteError
    return kind(message, hint=None if hint is None else str(hint))
