"""Slices that invoke each other: each adds its values to what it got, and hands that to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from threading import Event as Signal
from time import perf_counter
from typing import TYPE_CHECKING

from lamella.runtime.answered import Answered
from lamella.runtime.failures import failure
from lamella.runtime.frames import Frame
from lamella.runtime.payload import Chain, Event, Reference, encode_parts, timing_document
from lamella.runtime.retrying import Retries, with_retries
from lamella.runtime.timing import Timing

if TYPE_CHECKING:
    from lamella.runtime.calling import Caller


class Chaining:
    """The end of an event whose slices invoke each other.

    Args:
        slice: The slice that has run.
        following: The function of the next one; None: this is the last.
        caller: Invokes it.
        retries: How often the next one is tried.
    """

    def __init__(
        self, slice: int, following: str | None, caller: Caller | None, retries: Retries | None = None
    ) -> None:
        self._slice, self._following, self._caller = slice, following, caller
        self._retries = retries or Retries(throttled_s=10.0)

    def answer(
        self, event: Event, chain: Chain, frame: Frame, references: Sequence[Reference], timing: Timing
    ) -> bytes:
        """The output of the whole workflow: what the next slice comes back with, or what there is now.

        Args:
            event: What this slice was asked, with all parts.
            chain: What the slices before it pass on.
            frame: What it has made.
            references: What of it lies in the store.
            timing: What it has measured.

        Raises:
            InputError: A slice behind this one refuses what it got.
            RemoteError: A slice behind this one failed for good; the message says which.
        """
        chain = replace(chain, timings={**chain.timings, str(self._slice): timing_document(timing)})
        wanted = chain.later.get(str(self._slice))
        kept = [part for part in event.parts if wanted is None or part.has_any(wanted)]
        parts = [(frame, references), *((part.frame, part.references) for part in kept)]
        if self._following is None or self._caller is None:
            return encode_parts(parts, {"request_id": event.request_id, "timings": dict(chain.timings)})
        return self._invoked(self._following, self._caller, event, chain, parts)

    def _invoked(
        self,
        function: str,
        caller: Caller,
        event: Event,
        chain: Chain,
        parts: Sequence[tuple[Frame, Sequence[Reference]]],
    ) -> bytes:
        def attempt(number: int) -> Answered:
            document: dict[str, object] = {"request_id": event.request_id, "chain": asdict(chain)}
            if event.answer is not None:  # each attempt has a place of its own: one given up may still be writing
                document["answer"] = asdict(replace(event.answer, prefix=f"{event.answer.prefix}next-{number}/"))
            return caller.invoke(function, encode_parts(parts, document))

        answered, attempts = with_retries(attempt, self._retries, Signal(), began=perf_counter())
        if answered.error_type is not None:
            raise failure(self._next_slice(chain), function, answered, attempts)
        return answered.payload

    def _next_slice(self, chain: Chain) -> int:
        slices = list(chain.later)
        position = slices.index(str(self._slice)) + 1 if str(self._slice) in slices else len(slices)
        return int(slices[position]) if position < len(slices) else self._slice + 1


def chaining_of(slice: int, following: str | None) -> Chaining:
    """The end of this function's events. Where there is a next function, what calls it is imported now."""
    if following is None:
        return Chaining(slice, None, None)
    from lamella.runtime.calling import AwsCaller

    return Chaining(slice, following, AwsCaller())
