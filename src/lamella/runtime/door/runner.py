"""What answers requests for a model: its workflow, or the slice in this very function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from lamella.errors import InputError
from lamella.runtime.feeds import check_feeds
from lamella.runtime.models import Model
from lamella.runtime.payload import AnswerPlace, Event, Reference
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import LONGEST_S, REQUESTS, Ran, new_request_id
from lamella.runtime.timing import Timing
from lamella.tensors import Array

if TYPE_CHECKING:
    from lamella.runtime.slice_function import SliceFunction


class Runner(Protocol):
    """Answers requests for one model. `lamella.runtime.running.Running` is one."""

    @property
    def model(self) -> Model:
        """What it takes and gives."""
        ...

    def infer(
        self, inputs: Mapping[str, object], references: Sequence[Reference] = (), *, timeout_s: float = LONGEST_S
    ) -> Ran:
        """Answer one request; outputs that do not fit into an answer stay in the store until `fetched` or `delete`."""
        ...

    def fetched(self, ran: Ran) -> Ran:
        """The same with all outputs here, and nothing left in the store."""
        ...

    def delete(self, request_id: str) -> None:
        """Delete what a request has put into the store."""
        ...


class InProcess:
    """The only slice of a model, in this process.

    Args:
        model: What it takes and gives.
        function: The slice.
        referenced: Reads inputs in the store, and writes outputs there that nobody could be sent.
        store: URI of that store; None: there is none.
        inline_bytes: Most bytes of outputs that can be sent.
    """

    def __init__(
        self,
        model: Model,
        function: SliceFunction,
        referenced: ReferencedTensors,
        store: str | None,
        inline_bytes: int,
    ) -> None:
        self.model, self._function = model, function
        self._referenced, self._store, self._inline_bytes = referenced, store, inline_bytes

    def infer(
        self, inputs: Mapping[str, object], references: Sequence[Reference] = (), *, timeout_s: float = LONGEST_S
    ) -> Ran:
        """Answer one request."""
        request_id, timing = new_request_id(), Timing()
        given = {**inputs, **self._fetched(request_id, references)}
        feeds = check_feeds(given, self.model.inputs, self.model.optional_inputs)
        with timing.measure("infer_ms"):
            found = self._function.infer(feeds)
        outputs = {spec.name: found[spec.name] for spec in self.model.outputs}
        put = self._referenced.put(outputs, self._place(request_id))
        return Ran(request_id, outputs, put, {self._function.function.slice: timing})

    def fetched(self, ran: Ran) -> Ran:
        """The same with all outputs here."""
        if not ran.references:
            return ran
        found = {**ran.outputs, **self._fetched(ran.request_id, ran.references)}
        self.delete(ran.request_id)
        return Ran(ran.request_id, {spec.name: found[spec.name] for spec in self.model.outputs}, (), ran.timings)

    def delete(self, request_id: str) -> None:
        """Delete what a request has put into the store."""
        if self._store is not None:
            self._referenced.store(self._store).delete_all(f"{REQUESTS}{request_id}/")

    def _fetched(self, request_id: str, references: Sequence[Reference]) -> dict[str, Array]:
        if not references:
            return {}
        place = self._place(request_id)
        if place is None:
            raise InputError("this deployment has no store, and an input is a reference", hint="send it in the request")
        return self._referenced.fetch(Event("", references=tuple(references), answer=place))

    def _place(self, request_id: str) -> AnswerPlace | None:
        if self._store is None:
            return None
        return AnswerPlace(self._inline_bytes, self._store, f"{REQUESTS}{request_id}/")
