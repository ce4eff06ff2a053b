"""Errors as answers over HTTP."""

from __future__ import annotations

from collections.abc import Mapping

from lamella import errors
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


def error_of(
    content: Mapping[str, object], status: int, own: Mapping[str, type[LamellaError]] | None = None
) -> LamellaError:
    """The error that an answer stands for.

    Args:
        content: The answer.
        status: Its HTTP status.
        own: Classes of errors, by name, beside those that all of Lamella has.
    """
    message, hint = str(content.get("error") or f"the service answered with status {status}"), content.get("hint")
    name = str(content.get("type"))
    kind = (own or {}).get(name) or getattr(errors, name, None)
    if not (isinstance(kind, type) and issubclass(kind, LamellaError)):
        kind = RemoteError
    return kind(message, hint=None if hint is None else str(hint))
