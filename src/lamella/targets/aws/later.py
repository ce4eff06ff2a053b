"""Requests to a deployment on AWS whose answers are fetched later, with the user's own credentials.

They are kept as the door keeps its own (`lamella.runtime.door.later`), and it is the door that answers them; only a
Standard workflow goes on by itself. So a deployment needs no front door for this, and one that has one tells of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lamella.errors import RemoteError, UsageError
from lamella.runtime import json_fields as fields
from lamella.runtime.door.by_reference import take_references
from lamella.runtime.door.http import HttpRequest
from lamella.runtime.door.later import Later
from lamella.runtime.door.serving import HEADER, Serving
from lamella.runtime.faults import error_of
from lamella.runtime.message import Message, read_message
from lamella.runtime.payload import AnswerPlace, Event, Reference, read_timing
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import REQUESTS
from lamella.stores.base import Store
from lamella.targets.aws.account import Account
from lamella.targets.aws.asking import Asking, timeline
from lamella.targets.aws.invoking import AccountCaller
from lamella.targets.base import DeployedModel, Deployment
from lamella.tensors import Array
from lamella.wire import decode_parts, encode
from lamella.workflow.request import SliceRun


@dataclass(frozen=True)
class LaterAnswer:
    """What such a request gave.

    Attributes:
        request_id: Its id.
        outputs: An array for each output, by name.
        timeline: What each slice says that it did.
    """

    request_id: str
    outputs: dict[str, Array]
    timeline: tuple[SliceRun, ...]


class LaterRequests:
    """Sends such requests to the live version, and fetches their answers, which expire after a day.

    Args:
        account: Whose deployment it is.
        store: The deployment's.
        outputs: What its stack says.
        deployment: What is deployed.
        asynchronous: Whether its door answers later.
    """

    def __init__(
        self, account: Account, store: Store, outputs: Mapping[str, str], deployment: Deployment, *, asynchronous: bool
    ) -> None:
        self._caller, self._store, self._deployment = AccountCaller(account), store, deployment
        self._asking = Asking(account, store, outputs)
        self._door = outputs.get("Door") if asynchronous else None

    def submit(self, model: DeployedModel, inputs: Mapping[str, object]) -> str:
        """Send a request; returns the id to fetch its answer with.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
            UsageError: Nothing answers later there.
            RemoteError: It cannot be started.
            StoreError: The bucket failed.
        """
        running = self._asking.running(model)
        if running.place.kind != "standard" and self._door is None:
            raise UsageError(
                f"nothing of `{self._deployment.key}` answers later",
                hint="deploy it with `--async`, or with `--workflow standard`",
            )
        arrays = running.checked(inputs)
        frame = encode(arrays)
        asked = {**json.loads(frame.header), "parameters": {"binary_data_output": True, "timeline": True}}
        header = json.dumps(asked).encode()
        body = b"".join((header, *frame.buffers))
        answer = self._later(model).take(model.name, HttpRequest("POST", "", {HEADER: str(len(header))}, body))
        return fields.text(fields.members(json.loads(answer.body))["id"])

    def result(self, request_id: str) -> LaterAnswer | None:
        """The answer to a request; None while there is none.

        Raises:
            UsageError: There is no such request, or no more.
            LamellaError: What it failed with.
        """
        later = Later(Serving({}, self._store.uri, ""), self._store, self._caller, self._door or "")
        kept = later.kept(request_id)
        if kept.head["status"] == 202:
            execution = kept.head.get("execution")
            return None if execution is None else self._ended(request_id, str(execution))
        if kept.head["status"] != 200:
            raise error_of(fields.members(json.loads(kept.body)), int(str(kept.head["status"])))
        return self._read(request_id, kept)

    def _ended(self, request_id: str, execution: str) -> LaterAnswer | None:
        """What a Standard workflow has given. Its values stay, so that they can be fetched again; they expire."""
        request = read_message(self._store.get(f"{REQUESTS}{request_id}/request"))
        model = self._deployment.model(str(request.head["model"]))
        ran = self._asking.running(model).finished(request_id, execution)
        if ran is None:
            return None
        outputs = {**ran.outputs, **self._fetched(ran.references)}
        return LaterAnswer(request_id, _ordered(model, outputs), timeline(model, ran.timings))

    def _read(self, request_id: str, kept: Message) -> LaterAnswer:
        """An answer that the door has kept."""
        length = kept.head.get("header_length")
        given = None if length is None else str(length)
        body, given, references = take_references(kept.body, given, self._store.uri, REQUESTS, kind="outputs")
        end, view = len(body) if given is None else int(given), memoryview(body)
        outputs = {**decode_parts(view[:end], view[end:]), **self._fetched(references)}
        header = fields.members(json.loads(body[:end]))
        model = self._deployment.model(fields.text(header["model_name"]))
        told = fields.members(fields.members(header.get("parameters") or {}).get("timings") or {})
        timings = {int(slice): read_timing(fields.members(entry)) for slice, entry in told.items()}
        return LaterAnswer(request_id, _ordered(model, outputs), timeline(model, timings))

    def _later(self, model: DeployedModel) -> Later:
        serving = Serving({model.name: self._asking.running(model)}, self._store.uri, str(self._deployment.live))
        return Later(serving, self._store, self._caller, self._door or "")

    def _fetched(self, references: Sequence[Reference]) -> dict[str, Array]:
        if not references:
            return {}
        place = AnswerPlace(0, self._store.uri, f"{REQUESTS}any/")
        opened = ReferencedTensors(self._store.uri, opened=self._store)
        return opened.fetch(Event("", references=tuple(references), answer=place))


def _ordered(model: DeployedModel, outputs: Mapping[str, Array]) -> dict[str, Array]:
    lacking = [spec.name for spec in model.outputs if spec.name not in outputs]
    if lacking:
        raise RemoteError(f"the answer has no output `{lacking[0]}`", hint="send the request again")
    return {spec.name: outputs[spec.name] for spec in model.outputs}
