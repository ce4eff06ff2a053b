"""What goes wrong, as an error line, a hint and an exit status."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from difflib import get_close_matches

import typer

from lamella.errors import LamellaError

INTERRUPTED, BROKEN_PIPE = 130, 141  # as shells report SIGINT and SIGPIPE
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Failure:
    """What the user is told.

    Attributes:
        message: What failed.
        hint: The way out.
        exit_status: 1 where the machine or the answer is at fault, 2 where the call is.
    """

    message: str
    hint: str | None
    exit_status: int


def failure_of(error: Exception) -> Failure | None:
    """What to tell the user of an exception, or None for a defect of Lamella, whose traceback is worth having."""
    if isinstance(error, LamellaError):
        return Failure(error.message, error.hint, error.exit_status)
    if isinstance(error, typer.TyperException):
        return _misuse(error)
    if isinstance(error, MemoryError):
        hint = "cut the model into more slices, run them with `--low-memory`, or give this process more memory"
        return Failure("out of memory", hint, 1)
    if isinstance(error, OSError) and error.errno is not None:
        return _system_failure(error)
    return None


def _system_failure(error: OSError) -> Failure:
    where = f"`{error.filename}`: " if error.filename is not None else ""
    reason = f"{where}{(error.strerror or str(error)).lower()}"
    if error.errno in _FULL:
        return Failure(reason, "free some space, or choose an output on another disk", 1)
    return Failure(reason, "check the path and its permissions", 2)


def unknown_verb(verb: str, verbs: list[str], parents: str = "") -> Failure:
    """What to tell who asked for a verb that there is not, behind the words `parents`, such as `trigger `."""
    close = get_close_matches(verb, verbs, 1)
    known = ", ".join(f"`{parents}{v}`" for v in verbs)
    hint = f"did you mean `lamella {parents}{close[0]}`?" if close else f"the verbs are {known}"
    return Failure(f"there is no verb `{parents}{verb}`", hint, 2)


def _misuse(error: typer.TyperException) -> Failure:
    """The command line library's own complaints in our words; each kind is known by the attributes that it has."""
    context = getattr(error, "ctx", None)
    verb = "lamella" if context is None else str(context.command_path)
    hint = f"see `{verb} --help`"
    parameter = getattr(error, "param", None)
    if hasattr(error, "possibilities"):
        close = getattr(error, "possibilities", None) or ()
        hint = f"did you mean `{close[0]}`?" if close else hint
        return Failure(f"`{verb}` has no flag `{getattr(error, 'option_name', '')}`", hint, 2)
    if hasattr(error, "param_type") and parameter is not None:
        return Failure(f"`{verb}` needs `{_label(parameter)}`", hint, 2)
    if parameter is not None:
        return Failure(f"`{_label(parameter)}`: {_sentence(error.message)}", hint, 2)
    return Failure(_sentence(error.format_message()), hint, 2)


def _label(parameter: object) -> str:
    flags = [str(flag) for flag in getattr(parameter, "opts", ()) if str(flag).startswith("-")]
    return max(flags, key=len) if flags else str(getattr(parameter, "metavar", None) or getattr(parameter, "name", ""))


def _sentence(text: str) -> str:
    text = text.strip().removeprefix("Value error, ").rstrip(".").replace("'", "`")
    return text[:1].lower() + text[1:]
