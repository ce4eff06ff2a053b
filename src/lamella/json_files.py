"""JSON from files that nobody vouches for."""

from __future__ import annotations

import json
import stat
from collections import Counter
from pathlib import Path

from lamella.errors import MalformedModelError

FILE_LIMIT_BYTES = 8 << 20


_AGAIN = "download or save the model again"


def read_object(file: Path) -> dict[str, object]:
    """Read a JSON file that holds an object; at most 8 MiB.

    Raises:
        MalformedModelError: It cannot be read, is larger, or is not a JSON object.
    """
    return parse_object(_read(file), f"`{file}`", hint=_AGAIN)


def read_objects(file: Path) -> list[dict[str, object]]:
    """Read a JSON file that holds a list of objects; at most 8 MiB.

    Raises:
        MalformedModelError: It cannot be read, is larger, or is not such a list.
    """
    value = _parse(_read(file), f"`{file}`", hint=_AGAIN)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise MalformedModelError(f"`{file}` is not a list of JSON objects", hint=_AGAIN)
    return value


def _read(file: Path) -> bytes:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise MalformedModelError(f"`{file}` is no regular file", hint=_AGAIN)
        if status.st_size > FILE_LIMIT_BYTES:
            raise MalformedModelError(f"`{file}` has {status.st_size} bytes (at most {FILE_LIMIT_BYTES})", hint=_AGAIN)
        return file.read_bytes()
    except OSError as error:
        raise MalformedModelError(f"cannot read `{file}`: {error.strerror}", hint=_AGAIN) from error


def parse_object(text: bytes, what: str, *, hint: str) -> dict[str, object]:
    """Parse a JSON object; a name that comes twice is an error, since readers differ in which one they take.

    Raises:
        MalformedModelError: The text is not UTF-8, not JSON, nested too deeply, no object, or says a name twice.
    """
    value = _parse(text, what, hint=hint)
    if not isinstance(value, dict):
        raise MalformedModelError(f"{what} is not a JSON object", hint=hint)
    return value


def _parse(text: bytes, what: str, *, hint: str) -> object:
    try:
        value: object = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise MalformedModelError(f"{what} is not valid JSON: {reason}", hint=hint) from error
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {twice[:100]!r} comes twice")
    return found
