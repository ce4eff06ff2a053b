"""The Open Inference Protocol over HTTP, for every model behind a door."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, replace

from lamella.errors import InputError, UsageError
from lamella.runtime.door.by_reference import put_references, take_references
from lamella.runtime.door.http import HttpAnswer, HttpRequest, fits, json_answer, too_large
from lamella.runtime.door.runner import Runner
from lamella.runtime.message import Message
from lamella.runtime.models import Model
from lamella.runtime.payload import Reference
from lamella.runtime.protocol import HEADER_LENGTH, InferRequest, metadata, read_request, write_response
from lamella.runtime.running import LONGEST_S, REQUESTS, Ran

EXTENSIONS = ["binary_tensor_data"]
HEADER = HEADER_LENGTH.lower()

_OWN_VERSION = str(getattr(sys.modules["lamella"], "__version__", ""))  # what importing it by name has is not packaged


class UnknownPathError(UsageError):
    """There is nothing at a path, or no model of a name."""


class WrongMethodError(UsageError):
    """There is something at a path, but not for this method."""


class Serving:
    """Answers requests of the protocol.

    Args:
        runners: By name: what answers for each model.
        store: URI of the deployment's store; None: there is none.
        version: What these models are the version of.
    """

    def __init__(self, runners: Mapping[str, Runner], store: str | None, version: str) -> None:
        self._runners, self._store, self._version = runners, store, version

    def get(self, parts: list[str]) -> HttpAnswer:
        """Health and metadata: a path behind `/v2`, in parts.

        Raises:
            UnknownPathError: There is nothing there.
        """
        match parts:
            case []:
                return json_answer({"name": "lamella", "version": _OWN_VERSION, "extensions": EXTENSIONS})
            case ["health", "live" | "ready" as what]:
                return json_answer({what: True})
            case ["models", name]:
                return json_answer(self._metadata(self.runner(name).model))
            case ["models", name, "ready"] | ["models", name, "versions", _, "ready"]:
                self.check(name, parts)
                return json_answer({"name": name, "ready": True})
            case ["models", name, "versions", _]:
                self.check(name, parts)
                return json_answer(self._metadata(self.runner(name).model))
        raise UnknownPathError(f"there is nothing at `/v2/{'/'.join(parts)}`", hint="see the Open Inference Protocol")

    def check(self, name: str, parts: list[str]) -> None:
        """Refuse a model or version that is not here.

        Raises:
            UnknownPathError: It is not.
        """
        self.runner(name)
        if parts[2:3] == ["versions"] and parts[3] != self._version:
            raise UnknownPathError(f"`{name}` has no version {parts[3]} here", hint=f"there is {self._version}")

    def runner(self, name: str) -> Runner:
        """What answers for a model.

        Raises:
            UnknownPathError: There is no such model.
        """
        found = self._runners.get(name)
        if found is None:
            raise UnknownPathError(
                f"there is no model `{name}`", hint=f"there is {', '.join(map(repr, self._runners))}"
            )
        return found

    def read(self, model: Model, body: bytes, header_length: str | None) -> tuple[InferRequest, tuple[Reference, ...]]:
        """Read an infer request for a model, and its inputs that lie in the store.

        Raises:
            InputError: It does not follow the protocol, or asks for what there is not.
        """
        references: tuple[Reference, ...] = ()
        if self._store is not None:
            body, header_length, references = take_references(body, header_length, self._store, REQUESTS)
        request = read_request(body, header_length)
        if request.slice is not None:
            raise InputError("a door answers for whole models", hint="invoke the slice's own function")
        known = [spec.name for spec in model.outputs]
        for name in request.outputs:
            if name not in known:
                raise InputError(f"the model has no output `{name}`", hint=f"the outputs are {', '.join(known)}")
        return request, references

    def infer(self, name: str, request: HttpRequest, *, timeout_s: float = LONGEST_S) -> HttpAnswer:
        """Answer an infer request.

        Raises:
            LamellaError: What is wrong.
        """
        runner = self.runner(name)
        asked, references = self.read(runner.model, request.body, request.headers.get(HEADER))
        ran = runner.infer(asked.inputs, references, timeout_s=min(timeout_s, request.longest_s or timeout_s))
        return message_answer(self.written(runner, asked, ran))

    def written(self, runner: Runner, asked: InferRequest, ran: Ran, *, later: bool = False) -> Message:
        """An answer as what HTTP carries. Outputs stay in the store where that was asked for.

        Args:
            runner: What has answered.
            asked: What was asked.
            ran: What it gave.
            later: Whether this is fetched later: then outputs also stay where they would not fit into an answer.

        Raises:
            TooLargeError: The answer is too large for a function.
        """
        size = sum(array.nbytes for array in ran.outputs.values()) + sum(entry.size for entry in ran.references)
        stay = asked.by_reference or (later and not fits(size))
        if not stay and ran.references:
            if not fits(size):
                runner.delete(ran.request_id)
                raise too_large(size)
            ran = runner.fetched(ran)
        names = asked.outputs or [spec.name for spec in runner.model.outputs]
        lying = [entry for entry in ran.references if entry.name in names]
        told = {str(slice): asdict(timing) for slice, timing in ran.timings.items()}
        response = write_response(
            replace(asked, outputs=()),
            {name: ran.outputs[name] for name in names if name in ran.outputs},
            model=runner.model.name,
            version=self._version,
            request_id=asked.request_id or ran.request_id,
            parameters={"timings": told} if asked.wants_timeline else None,
        )
        body, length = put_references(response.body, response.header_length, lying)
        return Message({"status": 200, "header_length": length}, body)

    def _metadata(self, model: Model) -> dict[str, object]:
        return metadata(model.name, [self._version], model.inputs, model.outputs)


def message_answer(message: Message) -> HttpAnswer:
    """An answer that was given now, or kept."""
    length, status = message.head.get("header_length"), int(str(message.head["status"]))
    if length is None:
        return HttpAnswer(status, message.body)
    return HttpAnswer(status, message.body, {HEADER_LENGTH: str(length)}, "application/octet-stream")
