"""Errors as answers over HTTP."""

from __future__ import annotations

from lamella.errors import LamellaError, MissingDependencyError, RemoteError


def status_of(error: LamellaError) -> int:
    """The HTTP status of an error."""
    if isinstance(error, MissingDependencyError):
        return 501
    if isinstance(error, RemoteError):
        if "TooManyRequests" in error.message:
            return 503
        return 504 if "Timeout: " in error.message else 502
    return 400 if error.exit_status == 2 else 500


def fault(error: LamellaError) -> dict[str, object]:
    """An error as JSON values: the protocol's `error`, and what it has no name for."""
    return {"error": error.message, "hint": error.hint, "type": type(error).__name__}
