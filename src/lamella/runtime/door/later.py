"""Requests that are answered later: taken at once, answered by this function or a state machine, kept in the store.

```text
requests/ID/request   what was asked
results/ID            `running` (and which execution), then the answer; both expire
```

https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html (events by which a door invokes itself)
"""

from __future__ import annotations

import json
import re
from time import time

from lamella.errors import LamellaError, RemoteError, StoreError
from lamella.runtime.calling import Caller
from lamella.runtime.door.http import HttpAnswer, HttpRequest, json_answer
from lamella.runtime.door.serving import HEADER, Serving, UnknownPathError, message_answer
from lamella.runtime.faults import fault, status_of
from lamella.runtime.message import Message, read_message
from lamella.runtime.running import REQUESTS, Running, new_request_id
from lamella.stores.base import Store

EVENT = "answer"
"""The value of `lamella` in the event by which a door invokes itself."""

RESULTS = "results/"
_ID = re.compile(r"[0-9a-f]{32}")


class Later:
    """Takes such requests.

    Args:
        serving: Reads and writes the protocol.
        store: Where they are kept.
        caller: Invokes this function.
        name: This function.
    """

    def __init__(self, serving: Serving, store: Store, caller: Caller, name: str) -> None:
        self._serving, self._store, self._caller, self._name = serving, store, caller, name

    def take(self, model: str, request: HttpRequest) -> HttpAnswer:
        """Take a request; the answer says where its result will be.

        Raises:
            LamellaError: It is wrong, or cannot be kept.
        """
        runner, job = self._serving.runner(model), new_request_id()
        asked, references = self._serving.read(runner.model, request.body, request.headers.get(HEADER))
        head: dict[str, object] = {"model": model, "header_length": request.headers.get(HEADER)}
        self._store.put(f"{REQUESTS}{job}/request", Message(head, request.body).to_bytes())
        if isinstance(runner, Running) and runner.place.kind == "standard":
            execution = runner.start(job, runner.given(job, asked.inputs, references))
            self._keep(job, Message({"status": 202, "execution": execution, "since_s": time()}, b""))
        else:
            self._keep(job, Message({"status": 202, "since_s": time()}, b""))
            self._invoke(job)
        headers = {"Location": f"/v2/requests/{job}", "Preference-Applied": "respond-async"}
        return json_answer({"id": job, "status": "running"}, 202, headers)

    def result(self, job: str) -> HttpAnswer:
        """The answer to a request, or that there is none yet.

        Raises:
            UnknownPathError: There is no such request, or no more.
            StoreError: The store fails.
        """
        kept = self.kept(job)
        if kept.head["status"] != 202:
            return message_answer(kept)
        execution = kept.head.get("execution")
        if execution is not None:
            kept = self._ended(job, str(execution)) or kept
            if kept.head["status"] != 202:
                return message_answer(kept)
        return json_answer({"id": job, "status": "running"}, 202, {"Retry-After": "1"})

    def answer(self, job: str, *, timeout_s: float) -> None:
        """Answer a request, and keep the answer; errors are answers, too.

        Raises:
            StoreError: The store fails; the platform invokes this function again.
        """
        request = read_message(self._store.get(f"{REQUESTS}{job}/request"))
        length = request.head.get("header_length")
        try:
            runner = self._serving.runner(str(request.head["model"]))
            asked, references = self._serving.read(runner.model, request.body, None if length is None else str(length))
            ran = runner.infer(asked.inputs, references, timeout_s=timeout_s)
            answer = self._serving.written(runner, asked, ran, later=True)
        except LamellaError as error:
            answer = _failed(error)
        self._keep(job, answer)
        self._store.delete(f"{REQUESTS}{job}/request")

    def kept(self, job: str) -> Message:
        """What is kept of a request: its answer, or, with the status 202, that there is none yet.

        Raises:
            UnknownPathError: There is no such request, or no more.
            StoreError: The store fails.
        """
        key = f"{RESULTS}{job}"
        try:
            if _ID.fullmatch(job):
                return read_message(self._store.get(key))
        except StoreError:
            if any(entry.key == key for entry in self._store.list(key)):
                raise
        raise UnknownPathError(f"there is no request `{job}`", hint="results are kept for a day")

    def _ended(self, job: str, execution: str) -> Message | None:
        """What a state machine has answered, which is kept from now on; None while it runs."""
        request = read_message(self._store.get(f"{REQUESTS}{job}/request"))
        length = request.head.get("header_length")
        runner = self._serving.runner(str(request.head["model"]))
        if not isinstance(runner, Running):
            return _failed(RemoteError("the deployment has another workflow now", hint="send the request again"))
        try:
            ran = runner.finished(job, execution)
            if ran is None:
                return None
            asked, _ = self._serving.read(runner.model, request.body, None if length is None else str(length))
            answer = self._serving.written(runner, asked, ran, later=True)
        except LamellaError as error:
            answer = _failed(error)
        self._keep(job, answer)
        if not ran_by_reference(answer):
            runner.delete(job)
        return answer

    def _invoke(self, job: str) -> None:
        event = json.dumps({"lamella": EVENT, "id": job}).encode()
        answered = self._caller.invoke(self._name, event, wait=False)
        if answered.error_type is not None:
            raise RemoteError(
                f"the request cannot be answered later: {answered.error_type}: {answered.error_message}",
                hint="send it without `Prefer: respond-async`, or later",
            )

    def _keep(self, job: str, message: Message) -> None:
        self._store.put(f"{RESULTS}{job}", message.to_bytes())


def ran_by_reference(answer: Message) -> bool:
    """Whether an answer refers to objects that must stay."""
    length = answer.head.get("header_length")
    header = answer.body if length is None else answer.body[: int(str(length))]
    return b'"uri"' in header


def _failed(error: LamellaError) -> Message:
    return Message({"status": status_of(error)}, json.dumps(fault(error)).encode())
