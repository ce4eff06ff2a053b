"""Results as objects in a store: the key of what was answered, and an ending."""

from __future__ import annotations

from hashlib import sha256

from lamella.gateway.events.sinks.base import Result
from lamella.gateway.events.trigger import Form
from lamella.runtime.forms import SUFFIXES, written
from lamella.stores.base import MAX_KEY_BYTES, Store

_DIGITS = 16


class ObjectSink:
    """Writes each result whole, so that nobody sees half of one; a repeated one takes the place of the first.

    Args:
        store: Where.
        form: How.
    """

    def __init__(self, store: Store, form: Form) -> None:
        self._store, self._form = store, form

    def deliver(self, result: Result) -> None:
        """Write an object."""
        content = written(result.outputs, self._form, head=result.head)
        self._store.put(key_with(result.key, SUFFIXES[self._form]), content)


def key_with(key: str, suffix: str) -> str:
    """A key and an ending; where that is too long for a key, a digest stands for what is left out."""
    if len(key.encode()) + len(suffix) <= MAX_KEY_BYTES:
        return key + suffix
    mark = f"~{sha256(key.encode()).hexdigest()[:_DIGITS]}{suffix}"
    return key.encode()[: MAX_KEY_BYTES - len(mark)].decode("utf-8", "ignore") + mark
