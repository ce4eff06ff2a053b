"""The values of one request on their way from slice to slice: inline, or by reference into a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock

from lamella.runtime.payload import AnswerPlace, Event, Reference
from lamella.runtime.references import ReferencedTensors
from lamella.tensors import Array


class Values:
    """What the caller gave and the slices have made so far. Thread-safe.

    A value that is too large to travel inside a request is put into the store once, however many slices take it.

    Args:
        given: What the caller gave.
        referenced: Reads and writes values in the store.
        place: The store, this request's prefix there, and most bytes of tensors in one event; None: there is no store.
    """

    def __init__(self, given: Mapping[str, Array], referenced: ReferencedTensors, place: AnswerPlace | None) -> None:
        self._arrays: dict[str, Array] = dict(given)
        self._references: dict[str, Reference] = {}
        self._referenced, self._place = referenced, place
        self._lock = Lock()
        self._takes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._arrays or name in self._references

    @property
    def stored(self) -> bool:
        """Whether any of them lies in the store."""
        return bool(self._references)

    def add(self, arrays: Mapping[str, Array], references: Iterable[Reference]) -> None:
        """Add what a slice has made."""
        with self._lock:
            self._arrays.update(arrays)
            for reference in references:
                self._references[reference.name] = reference

    def take(self, names: Sequence[str]) -> tuple[dict[str, Array], tuple[Reference, ...]]:
        """These values as one event can hold them: the largest by reference, until the others fit.

        Raises:
            StoreError: The store fails.
        """
        with self._lock:
            inline = {name: self._arrays[name] for name in names if name in self._arrays}
            if self._place is not None:
                self._takes += 1
                place = replace(self._place, prefix=f"{self._place.prefix}given/{self._takes}/")
                for reference in self._referenced.put(inline, place):
                    self._references[reference.name] = reference
                    del self._arrays[reference.name]
            return inline, tuple(self._references[name] for name in names if name in self._references)

    def array(self, name: str) -> Array:
        """A value itself, from the store where it lies there.

        Raises:
            StoreError: The store fails, or does not hold what was put there.
        """
        found = self._arrays.get(name)
        if found is not None:
            return found
        event = Event("", references=(self._references[name],), answer=self._place)
        return self._referenced.fetch(event)[name]

    def drop(self, names: Iterable[str]) -> None:
        """Forget values that nothing needs any more; their objects go when the request ends."""
        with self._lock:
            for name in names:
                self._arrays.pop(name, None)
