"""Requests to a deployment on AWS with the user's own credentials: through its workflow, or slice by slice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from time import perf_counter

from lamella.errors import RemoteError
from lamella.runtime.models import model_of
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import Place, Running
from lamella.runtime.timing import Timing
from lamella.stores.base import Store
from lamella.targets.aws.account import Account
from lamella.targets.aws.invoking import AccountCaller, AccountInvoker
from lamella.targets.aws.naming import logical_id
from lamella.targets.base import DeployedModel
from lamella.workflow.chain import Chain, inline_bytes
from lamella.workflow.request import Answer, SliceRun

ANSWER_BYTES = 6 << 20
"""Most that Lambda takes and answers. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""


class Asking:
    """Asks the models of a deployment.

    Args:
        account: Whose they are.
        store: The deployment's.
        outputs: What its stack says.
    """

    def __init__(self, account: Account, store: Store, outputs: Mapping[str, str]) -> None:
        self._account, self._store, self._outputs = account, store, outputs

    def workflow(self, model: DeployedModel, inputs: Mapping[str, object]) -> Answer:
        """Send a request through the workflow of the live version.

        Raises:
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good, or the workflow did.
            StoreError: The bucket failed.
        """
        began, running = perf_counter(), self.running(model)
        ran = running.fetched(running.infer(inputs))
        return Answer(ran.request_id, ran.outputs, timeline(model, ran.timings), (perf_counter() - began) * 1000)

    def running(self, model: DeployedModel) -> Running:
        """What runs requests through the workflow of the live version.

        Raises:
            RemoteError: The stack does not say where that is.
        """
        return Running(
            model_of(model.name, model.workflow.to_json()),
            self._place(model.name),
            AccountCaller(self._account),
            self._store.uri,
            ReferencedTensors(self._store.uri, opened=self._store),
        )

    def chain(self, model: DeployedModel, arns: Mapping[str, str]) -> Chain:
        """A chain through the functions of any version, invoked one by one from here.

        Args:
            model: The model.
            arns: ARN of the version of each function.
        """
        return Chain(
            model.workflow,
            AccountInvoker(self._account, arns),
            store=self._store,
            inline_bytes=inline_bytes(ANSWER_BYTES),
        )

    def _place(self, model: str) -> Place:
        text = self._outputs.get(logical_id("Model", model))
        if text is None:
            raise RemoteError(f"the stack does not say where `{model}` is", hint="deploy it again")
        found = json.loads(text)
        return Place(found["kind"], found["arn"], int(found["inline_bytes"]))


def timeline(model: DeployedModel, timings: Mapping[int, Timing]) -> tuple[SliceRun, ...]:
    """What slices say of themselves, by slice."""
    functions = {step.slice: step.function for step in model.workflow.steps}
    return tuple(_run(index, functions[index], timing) for index, timing in timings.items())


def _run(index: int, function: str, timing: Timing) -> SliceRun:
    """What a slice says of itself; when it ran, and what was charged, is in its log."""
    init = timing.init
    inside_ms = timing.fetch_ms + timing.decode_ms + timing.encode_ms + timing.put_ms
    return SliceRun(
        index,
        function,
        timing.cold_start,
        None if init is None else init.import_ms + init.weights_ms + init.session_ms,
        None if init is None else init.weights_ms + init.session_ms,
        timing.infer_ms,
        inside_ms,
        None,
        None,
        None,
        None,
    )
