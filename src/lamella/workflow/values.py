"""The values of one request on their way from slice to slice: inline, or by reference into a store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from threading import Lock

from lamella.errors import InputError, RemoteError
from lamella.runtime.frames import Frame, bytes_in
from lamella.runtime.payload import AnswerPlace, Event, Reference, SliceAnswer
from lamella.runtime.references import ReferencedTensors
from lamella.tensors import Array


@dataclass(frozen=True)
class Taken:
    """Values for one event.

    Attributes:
        arrays: Those that it holds.
        references: Those that lie in the store.
        frames: Answers of other slices that it holds as they came.
    """

    arrays: dict[str, Array]
    references: tuple[Reference, ...]
    frames: tuple[Frame, ...]


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
        self._framed: dict[str, SliceAnswer] = {}
        self._references: dict[str, Reference] = {}
        self._referenced, self._place = referenced, place
        self._lock = Lock()
        self._takes = 0

    def __contains__(self, name: str) -> bool:
        return name in self._arrays or name in self._framed or name in self._references

    @property
    def stored(self) -> bool:
        """Whether any of them lies in the store."""
        return bool(self._references)

    def add(self, answer: SliceAnswer) -> None:
        """Add what a slice has made."""
        with self._lock:
            self._framed |= dict.fromkeys(answer.names, answer)
            self._references |= {reference.name: reference for reference in answer.references}

    def take(self, names: Sequence[str]) -> Taken:
        """These values as one event can hold them: the largest by reference, until the others fit.

        An answer of which all values are wanted goes on as it came, without being decoded and encoded again.

        Raises:
            RemoteError: A slice's answer is damaged.
            StoreError: The store fails.
        """
        with self._lock:
            whole = self._whole(names)
            for name in names:
                if name in self._framed and self._framed[name] not in whole:
                    self._decode(name)
            inline = {name: self._arrays[name] for name in names if name in self._arrays}
            if self._place is not None:
                self._takes += 1
                left_bytes = self._place.inline_bytes - sum(bytes_in(answer.frame) for answer in whole)
                prefix = f"{self._place.prefix}given/{self._takes}/"
                place = replace(self._place, prefix=prefix, inline_bytes=left_bytes)
                for reference in self._referenced.put(inline, place):
                    self._references[reference.name] = reference
                    del self._arrays[reference.name]
            references = tuple(self._references[name] for name in names if name in self._references)
            return Taken(inline, references, tuple(answer.frame for answer in whole if answer.frame))

    def _whole(self, names: Sequence[str]) -> list[SliceAnswer]:
        """The answers of which all values are among `names`, as many as fit into an event."""
        found: list[SliceAnswer] = []
        left_bytes = inf if self._place is None else self._place.inline_bytes
        for name in names:
            answer = self._framed.get(name)
            if answer is None or answer in found or not set(answer.names) <= set(names):
                continue
            left_bytes -= bytes_in(answer.frame)
            if left_bytes < 0:
                break
            found.append(answer)
        return found

    def _decode(self, name: str) -> None:
        answer = self._framed[name]
        try:
            self._arrays |= answer.tensors
        except InputError as error:
            raise RemoteError(
                f"a slice's answer is damaged: {error.message}", hint="deploy the slices again"
            ) from error
        for decoded in answer.names:
            self._framed.pop(decoded, None)

    def array(self, name: str) -> Array:
        """A value itself, from the store where it lies there.

        Raises:
            RemoteError: A slice's answer is damaged.
            StoreError: The store fails, or does not hold what was put there.
        """
        with self._lock:
            if name in self._framed:
                self._decode(name)
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
                self._framed.pop(name, None)
