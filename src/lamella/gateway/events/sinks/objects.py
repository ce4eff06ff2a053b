"""Results as objects in a store: the key of what was answered, and an ending."""

from __future__ import annotations

from lamella.gateway.events.sinks.base import Result
from lamella.runtime.forms import SUFFIXES, Form, key_with, written
from lamella.stores.base import Store


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
