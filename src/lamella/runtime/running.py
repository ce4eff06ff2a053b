"""A request through a deployed workflow, whoever starts it: the door, or a client with credentials of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Literal, get_args

from lamella.errors import RemoteError, StoreError, UsageError
from lamella.runtime import json_fields as fields
from lamella.runtime.calling import Caller
from lamella.runtime.executions import Executions
from lamella.runtime.feeds import check_feeds
from lamella.runtime.frames import encode_frame
from lamella.runtime.invocations import Invocations
from lamella.runtime.models import Model
from lamella.runtime.payload import AnswerPlace, Event, Output, Part, Reference, decode_output
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.timing import Timing
from lamella.tensors import Array

WorkflowKind = Literal["express", "standard", "direct", "single"]
"""How slices are joined: a state machine of either type, each slice invoking the next, or only one slice."""

REQUESTS = "requests/"
"""Where the values of all requests lie in a deployment's store."""

LONGEST_S = 900.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model's workflow is.

    Attributes:
        kind: How its slices are joined.
        arn: Of the state machine, or of the first slice's function in the version that answers.
        inline_bytes: Most bytes of tensors in the input, and in the answer of each slice.
    """

    kind: WorkflowKind
    arn: str
    inline_bytes: int


@dataclass(frozen=True, slots=True)
class Ran:
    """What a request gave.

    Attributes:
        request_id: What its objects in the store are called by.
        outputs: The arrays of the outputs that came along, by name.
        references: The outputs that lie in the store.
        timings: By slice, what it has measured; empty where the workflow does not say.
    """

    request_id: str
    outputs: dict[str, Array]
    references: tuple[Reference, ...] = ()
    timings: Mapping[int, Timing] = field(default_factory=dict)


class Running:
    """Runs requests for one model. Thread-safe.

    Args:
        model: What it takes and gives.
        place: Where its workflow is.
        caller: Calls AWS.
        store: URI of where values go that are too large for a request; it is opened when something goes there.
        referenced: Reads and writes them there.
    """

    def __init__(self, model: Model, place: Place, caller: Caller, store: str, referenced: ReferencedTensors) -> None:
        self.model, self.place = model, place
        self._store, self._referenced = store, referenced
        self._executions = Executions(place.arn, model, caller)
        self._invocations = Invocations(model, place.arn, caller)

    def infer(
        self, inputs: Mapping[str, object], references: Sequence[Reference] = (), *, timeout_s: float = LONGEST_S
    ) -> Ran:
        """Answer one request; outputs that do not fit into an answer stay in the store until `fetched` or `delete`.

        Args:
            inputs: An array for each of the model's inputs, by name.
            references: Inputs that lie in the store.
            timeout_s: Seconds after which nobody waits any more.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good, or the workflow did; `slice` says which.
            StoreError: The store failed.
        """
        request_id, keep = new_request_id(), False
        try:
            part = self.given(request_id, inputs, references)
            output = decode_output(self._run(request_id, part, timeout_s))
            ran = self._ran(request_id, output, part)
            keep = bool(ran.references) or not (part.references or _has_put(output))
        finally:
            if not keep:
                self.delete(request_id)
        return ran

    def fetched(self, ran: Ran) -> Ran:
        """The same with all outputs here, and nothing left in the store.

        Raises:
            StoreError: The store failed, or does not hold what was put there.
        """
        if not ran.references:
            return ran
        try:
            found = self._referenced.fetch(Event("", references=ran.references, answer=self._answer("any")))
        finally:
            self.delete(ran.request_id)
        arrays = {**ran.outputs, **found}
        return replace(ran, outputs={spec.name: arrays[spec.name] for spec in self.model.outputs}, references=())

    def given(self, request_id: str, inputs: Mapping[str, object], references: Sequence[Reference] = ()) -> Part:
        """What a caller gives, checked, and as a request can hold it: the largest by reference, until the others fit.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
            StoreError: The store failed.
        """
        arrays = self.checked(inputs, references)
        place = self._answer(f"{request_id}/given")
        put = self._referenced.put(arrays, place)
        return Part(encode_frame(arrays, kind="inputs"), arrays, (*references, *put))

    def checked(self, inputs: Mapping[str, object], references: Sequence[Reference] = ()) -> dict[str, Array]:
        """Inputs as arrays.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
        """
        there = {reference.name for reference in references}
        needed = [spec for spec in self.model.inputs if spec.name not in there]
        optional = [spec for spec in self.model.optional_inputs if spec.name not in there]
        return check_feeds(inputs, needed, optional)

    def start(self, request_id: str, part: Part) -> str:
        """Start a standard workflow, which goes on by itself; returns what `finished` wants to know.

        Raises:
            RemoteError: It cannot be started.
        """
        return self._executions.start(request_id, part)

    def finished(self, request_id: str, execution: str) -> Ran | None:
        """What such a workflow gave; None while it runs.

        Raises:
            RemoteError: It failed.
        """
        payload = self._executions.finished(execution)
        return None if payload is None else self._ran(request_id, decode_output(payload), None)

    def delete(self, request_id: str) -> None:
        """Delete what a request has put into the store; what cannot be deleted now expires."""
        with suppress(StoreError):
            self._referenced.store(self._store).delete_all(f"{REQUESTS}{request_id}/")

    def _run(self, request_id: str, part: Part, timeout_s: float) -> bytes:
        if self.place.kind == "express":
            return self._executions.run_express(request_id, part, timeout_s=timeout_s)
        if self.place.kind == "standard":
            return self._executions.run_standard(request_id, part, timeout_s=timeout_s)
        first = self.model.slices[0].slice
        place = self._answer(f"{request_id}/slice-{first}/1")
        return self._invocations.run(request_id, part, place, timeout_s=timeout_s)

    def _answer(self, below: str) -> AnswerPlace:
        return AnswerPlace(self.place.inline_bytes, self._store, f"{REQUESTS}{below}/")

    def _ran(self, request_id: str, output: Output, given: Part | None) -> Ran:
        parts = (*output.parts, *([given] if given else []))  # an output may be an input as it is
        arrays = {name: array for part in reversed(parts) for name, array in part.tensors.items()}
        lying = {entry.name: entry for part in reversed(parts) for entry in part.references}
        names = [spec.name for spec in self.model.outputs]
        missing = [name for name in names if name not in arrays and name not in lying]
        if missing:
            raise RemoteError(f"`{self.model.name}` answered without `{missing[0]}`", hint="deploy the slices again")
        outputs = {name: arrays[name] for name in names if name in arrays}
        references = tuple(lying[name] for name in names if name not in arrays)
        return Ran(request_id, outputs, references, output.timings)


def new_request_id() -> str:
    """A name for a request and for its objects: nobody else's, even where callers give the same id twice."""
    return token_hex(16)


def read_places(text: str) -> dict[str, Place]:
    """By model: what `LAMELLA_WORKFLOW` says.

    Raises:
        UsageError: It is no such JSON.
    """
    try:
        return {name: _place(fields.members(entry)) for name, entry in fields.members(json.loads(text)).items()}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"`LAMELLA_WORKFLOW` is no JSON of workflows: {error!r}", hint="deploy again") from error


def _place(entry: Mapping[str, object]) -> Place:
    for kind in get_args(WorkflowKind):
        if entry["kind"] == kind:
            return Place(kind, fields.text(entry["arn"]), fields.size(entry["inline_bytes"]))
    raise ValueError(f"`{entry['kind']}` is no kind of workflow")


def _has_put(output: Output) -> bool:
    """Whether slices have put anything into the store; where they do not say, they may have."""
    if any(part.references for part in output.parts) or not output.timings:
        return True
    return any(timing.put_bytes for timing in output.timings.values())
