"""Where objects go that cannot be answered: a copy of each, and what went wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from lamella.errors import LamellaError, StoreError
from lamella.gateway.events.trigger import Trigger
from lamella.runtime.forms import key_with
from lamella.runtime.inputs import MOST_BYTES
from lamella.stores.base import Entry, Store

SCHEMA = "lamella.dead-letter/1"
REPORT_SUFFIX = ".error.json"


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
        if content is not None:
            self._store.put(key_with(entry.key, ""), content)
        report = {
            "schema": SCHEMA,
            "key": entry.key,
            "source": source.uri,
            "etag": entry.etag,
            "size": entry.size,
            "copied": content is not None,
            "deployment": self._trigger.deployment,
            "trigger": self._trigger.id,
            "error": error.message,
            "error_type": type(error).__name__,
            "hint": error.hint,
            "attempts": attempts,
            "given_up": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self._store.put(key_with(entry.key, REPORT_SUFFIX), json.dumps(report, indent=1).encode() + b"\n")


def _content(entry: Entry, source: Store) -> bytes | None:
    if entry.size > MOST_BYTES:
        return None
    try:
        return source.get(entry.key)
    except StoreError:
        return None
