"""Workflows that are state machines: started, waited for, and their failures read.

https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html
https://docs.aws.amazon.com/step-functions/latest/apireference/API_DescribeExecution.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from random import uniform
from threading import Event as Signal
from time import monotonic

from lamella.errors import LamellaError, RemoteError
from lamella.runtime import json_fields as fields
from lamella.runtime.answered import Answered
from lamella.runtime.calling import AwsError, Caller
from lamella.runtime.failures import failure, way_out
from lamella.runtime.models import Model
from lamella.runtime.payload import Part, encode_parts

_CAUSE = re.compile(r"slice (?P<slice>\d+): (?P<failure>\{.*\})", re.DOTALL)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0  # between two looks at a standard workflow
_PASSING = frozenset({"ThrottlingException", "ExecutionLimitExceeded", "ConnectionError", "ServiceUnavailable"})
_ATTEMPTS = 4


class Executions:
    """Runs a state machine.

    Args:
        machine: Its ARN.
        model: Whose slices it runs.
        caller: Calls Step Functions.
    """

    def __init__(self, machine: str, model: Model, caller: Caller) -> None:
        self._machine, self._caller = machine, caller
        self._functions = {entry.slice: entry.function for entry in model.slices}

    def run_express(self, request_id: str, part: Part, *, timeout_s: float) -> bytes:
        """Run an express workflow; returns its output.

        Raises:
            InputError: A slice refuses what it gets.
            RemoteError: It failed, or could not be started.
        """
        content = self._started_with(request_id, part)
        return self._output(self._call("StartSyncExecution", content, timeout_s=timeout_s))

    def run_standard(self, request_id: str, part: Part, *, timeout_s: float) -> bytes:
        """Run a standard workflow, and look now and then whether it has ended; returns its output.

        Raises:
            InputError: A slice refuses what it gets.
            RemoteError: It failed, could not be started, or has not ended in time.
        """
        until, pause_s, signal = monotonic() + timeout_s, _FIRST_PAUSE_S, Signal()
        execution = self.start(request_id, part)
        while (payload := self.finished(execution)) is None:
            if monotonic() + pause_s > until:
                raise RemoteError(
                    f"the workflow did not end within {timeout_s:.0f} s: Timeout",
                    hint="ask for the result later (`Prefer: respond-async`)",
                )
            signal.wait(uniform(pause_s / 2, pause_s))
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 1.5)
        return payload

    def start(self, request_id: str, part: Part) -> str:
        """Start a standard workflow; returns its execution's ARN. Starting the same request twice starts it once."""
        return fields.text(self._call("StartExecution", self._started_with(request_id, part))["executionArn"])

    def finished(self, execution: str) -> bytes | None:
        """The output of a standard workflow; None while it runs.

        Raises:
            InputError: A slice has refused what it got.
            RemoteError: It failed.
        """
        found = self._call("DescribeExecution", {"executionArn": execution})
        return None if found.get("status") in ("RUNNING", "PENDING_REDRIVE") else self._output(found)

    def _output(self, found: Mapping[str, object]) -> bytes:
        """The output of what `StartSyncExecution` or `DescribeExecution` tells of."""
        if found.get("status") != "SUCCEEDED":
            status, error, cause = (str(found.get(name) or "") for name in ("status", "error", "cause"))
            raise self._failure(status, error, cause)
        return fields.text(found["output"]).encode()

    def _failure(self, status: str, error: str, cause: str) -> LamellaError:
        """The failure of a workflow: `slice N: ` and, as JSON, `Error` and `Cause` of what failed there."""
        found = _CAUSE.fullmatch(cause)
        if found is None:
            kind = error or status
            said = f"the workflow ended as {status}: {kind}{': ' if cause else ''}{cause}"
            return RemoteError(said, hint=way_out(f"{status} {kind}"))
        reported, slice = _document(found["failure"]), int(found["slice"])
        kind, text = str(reported.get("Error") or error), str(reported.get("Cause") or "")
        raised = _document(text)  # what a function has raised is JSON in JSON
        answered = Answered(b"", str(raised.get("errorType") or kind), str(raised.get("errorMessage") or text))
        return failure(slice, self._functions.get(slice, self._machine), answered)

    def _started_with(self, request_id: str, part: Part) -> dict[str, object]:
        whole = encode_parts([(part.frame, part.references)], {"request_id": request_id})
        given = json.loads(whole)
        document = {"request_id": request_id, "input": given["parts"][0]}
        return {"stateMachineArn": self._machine, "name": request_id, "input": json.dumps(document)}

    def _call(
        self, action: str, content: Mapping[str, object], *, timeout_s: float | None = None
    ) -> Mapping[str, object]:
        signal, limit = Signal(), {} if timeout_s is None else {"timeout_s": timeout_s}
        for number in range(1, _ATTEMPTS):
            try:
                return self._caller.states(action, content, **limit)
            except AwsError as error:
                if error.code not in _PASSING:
                    raise
            signal.wait(uniform(0.05, 0.1) * 2**number)
        return self._caller.states(action, content, **limit)


def _document(text: str) -> dict[str, object]:
    try:
        return fields.members(json.loads(text))
    except (ValueError, TypeError):
        return {}
