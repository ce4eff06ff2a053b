"""Where objects go that cannot be answered: a copy of each, and what went wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from lamella.errors import LamellaError, StoreError
from lamella.gateway.events.trigger import Trigger
from lamella.runtime.forms import key_with
from lamella.runtime.inputs import MOST_BYTES
from lamella.stores.base import Entry, Store

SCHEMA = "lamella.dead-letter/1"
REPORT_SUFFIX = ".error.json"
_COPY_SUFFIX = ".copy"  # of an object whose key looks like that of a report


@dataclass(frozen=True)
class DeadLetter:
    """What is known of an object that was given up.

    Attributes:
        key: Its key in the input.
        etag: Which content of it.
        size: In bytes.
        error: Why: what the last attempt ended with.
        hint: The way out; None where there is none to tell.
        attempts: How often it was tried.
        given_up: When, as in ISO 8601.
        copy: The key of its copy in the dead-letter place; None if it could not be copied.
        report: The key of its report there.
    """

    key: str
    etag: str
    size: int
    error: str
    hint: str | None
    attempts: int
    given_up: str
    copy: str | None
    report: str


class DeadLetters:
    """Writes a report for each object, under its key with `.error.json` behind it, and a copy under the key itself.

    Args:
        store: Where.
        trigger: Whose objects they are.
    """

    def __init__(self, store: Store, trigger: Trigger) -> None:
        self._store, self._trigger = store, trigger

    def put(self, entry: Entry, source: Store, error: LamellaError, attempts: int) -> None:
        """Give an object up. The report comes last: where it is, all is. What cannot be read is not copied.

        Args:
            entry: The object.
            source: Where it lies.
            error: What the last attempt ended with.
            attempts: How many there were.

        Raises:
            StoreError: Nothing can be written.
        """
        content = _content(entry, source)
        copy = None
        if content is not None:
            copy = key_with(entry.key, _COPY_SUFFIX if entry.key.endswith(REPORT_SUFFIX) else "")
            self._store.put(copy, content)
        report = {
            "schema": SCHEMA,
            "key": entry.key,
            "source": source.uri,
            "etag": entry.etag,
            "size": entry.size,
            "copy": copy,
            "deployment": self._trigger.deployment,
            "trigger": self._trigger.id,
            "error": error.message,
            "error_type": type(error).__name__,
            "hint": error.hint,
            "attempts": attempts,
            "given_up": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self._store.put(key_with(entry.key, REPORT_SUFFIX), json.dumps(report, indent=1).encode() + b"\n")

    def of(self, source: Store) -> list[DeadLetter]:
        """The objects of a source that are given up, by key. What else is there is left alone.

        Raises:
            StoreError: Nothing can be read.
        """
        reports = [entry.key for entry in self._store.list() if entry.key.endswith(REPORT_SUFFIX)]
        found = (_letter(key, self._store.get(key), source.uri) for key in reports)
        return sorted((letter for letter in found if letter is not None), key=lambda letter: letter.key)

    def content(self, letter: DeadLetter) -> bytes:
        """The copy of an object.

        Raises:
            StoreError: There is none, or it cannot be read.
        """
        return self._store.get(letter.copy or letter.key)

    def remove(self, letter: DeadLetter) -> None:
        """Forget an object. The report goes first: where it is, all is.

        Raises:
            StoreError: It cannot be removed.
        """
        self._store.delete(letter.report)
        if letter.copy is not None:
            self._store.delete(letter.copy)


def _letter(report: str, content: bytes, source: str) -> DeadLetter | None:
    """What a report says; None if it is none of a source's."""
    try:
        found = json.loads(content)
        if found["schema"] != SCHEMA or found["source"] != source:
            return None
        names = ("key", "etag", "size", "error", "hint", "attempts", "given_up", "copy")
        return DeadLetter(report=report, **{name: found[name] for name in names})
    except (ValueError, KeyError, TypeError):
        return None


def _content(entry: Entry, source: Store) -> bytes | None:
    if entry.size > MOST_BYTES:
        return None
    try:
        return source.get(entry.key)
    except StoreError:
        return None
