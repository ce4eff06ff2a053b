"""A slice's failure as an error, in the words that it keeps through every function and state on its way."""

from __future__ import annotations

import re

from lamella.errors import InputError, RemoteError
from lamella.runtime.answered import Answered
from lamella.runtime.payload import decode_error

_WHERE = re.compile(r"slice (?P<slice>\d+) \(`(?P<function>[^`]*)`\)")


def failure(slice: int, function: str, answered: Answered, attempts: int = 1) -> RemoteError | InputError:
    """The error that a failed invocation stands for.

    Args:
        slice: The slice that was invoked.
        function: Its function.
        answered: What came of it.
        attempts: How often it was tried.
    """
    kind, text = answered.error_type or "Error", answered.error_message or ""
    message, hint = decode_error(text)
    behind = _WHERE.match(message)
    if kind == "InputError" and behind:  # of a slice that this one has invoked
        return InputError(message, hint=hint)
    if kind == "RemoteError" and behind:
        return RemoteError(message, hint=hint, slice=int(behind["slice"]), function=behind["function"])
    where = f"slice {slice} (`{function}`)"
    if kind == "InputError":
        return InputError(f"{where}: {message}", hint=hint)
    tries = f" after {attempts} attempts" if attempts > 1 else ""
    said = f"{kind}: {message}" if message else kind
    return RemoteError(f"{where} failed{tries}: {said}", hint=hint or way_out(kind), slice=slice, function=function)


def way_out(kind: str) -> str:
    """What helps against an error of this kind."""
    if "TooManyRequests" in kind:
        return "send fewer requests at a time, or allow the functions more concurrency"
    if any(word in kind.lower() for word in ("timeout", "timed out", "timedout")):
        return "give the functions more memory, which brings more processor time, or a longer timeout"
    if "OutOfMemory" in kind or "ExitError" in kind:
        return "if its log says that it ran out of memory, give it more or cut the model into more slices"
    return "see the function's log: `lamella logs NAME`"
