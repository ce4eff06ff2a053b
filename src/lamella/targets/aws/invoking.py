"""Functions and workflows on AWS, called with the user's own credentials.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (types of invocation, `FunctionError`, the log's tail)
https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartSyncExecution.html
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from lamella.runtime.answered import PASSING_ERRORS, Answered
from lamella.runtime.calling import LONGEST_S, AwsError
from lamella.runtime.payload import PING
from lamella.targets.aws.account import Account
from lamella.targets.aws.refusals import AwsRefusedError, is_throttled
from lamella.targets.reports import read_report

_PASSING = ("ServiceException", "EC2", "EFS", "ENI", "ResourceConflict", "ResourceNotReady", "S3Files")
"""What codes begin with of errors of the platform: a network or file system that is new takes a while to be there.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (errors)
"""

_ACTIONS = {
    "StartSyncExecution": "start_sync_execution",
    "StartExecution": "start_execution",
    "DescribeExecution": "describe_execution",
}


class AccountCaller:
    """Calls functions and state machines (a `lamella.runtime.calling.Caller`).

    Args:
        account: Whose they are.
    """

    def __init__(self, account: Account) -> None:
        self._account = account

    def invoke(self, function: str, payload: bytes, *, wait: bool = True, timeout_s: float = LONGEST_S) -> Answered:
        """Run a function once; errors of the function are no exceptions. boto3 waits as long as a function may take."""
        del timeout_s
        kind = {"InvocationType": "RequestResponse", "LogType": "Tail"} if wait else {"InvocationType": "Event"}
        try:
            found = self._account.call("lambda", "invoke", FunctionName=function, Payload=payload, **kind)
        except AwsRefusedError as error:
            throttled = is_throttled(error.code)
            retriable = throttled or error.code.startswith(_PASSING)
            return Answered(b"", error.code, error.message, retriable=retriable, throttled=throttled)
        return _answered(found)

    def states(
        self, action: str, content: Mapping[str, object], *, timeout_s: float = LONGEST_S
    ) -> Mapping[str, object]:
        """Call Step Functions.

        Raises:
            AwsError: It refuses.
            RemoteError: It cannot be reached.
        """
        del timeout_s
        try:
            return self._account.call("stepfunctions", _ACTIONS[action], **content)
        except AwsRefusedError as error:
            raise AwsError(error.message, code=error.code, hint=error.hint) from error


class AccountInvoker:
    """Invokes the published version of each function, whatever the alias says meanwhile (an `Invoker`).

    Args:
        account: Whose they are.
        arns: ARN of the version of each function, by its name in the deployment.
    """

    def __init__(self, account: Account, arns: Mapping[str, str]) -> None:
        self._caller, self._arns = AccountCaller(account), dict(arns)

    def invoke(self, function: str, payload: bytes, *, request_id: str) -> Answered:
        """Run a function once and wait for its answer."""
        del request_id  # AWS gives each invocation an id of its own
        return self._caller.invoke(self._arns[function], payload)

    def start(self, function: str) -> Future[Any]:
        """Have an instance started, by a request that infers nothing; the future ends at once."""
        done: Future[Any] = Future()
        done.set_result(self._caller.invoke(self._arns[function], PING, wait=False))
        return done


def _answered(found: Mapping[str, Any]) -> Answered:
    payload: bytes = found["Payload"].read()
    report = read_report(b64decode(found.get("LogResult") or "").decode("utf-8", "replace"))
    answered = Answered(payload)
    if report is not None:
        answered = replace(
            answered,
            cold_start=report.init_ms is not None,
            init_ms=report.init_ms,
            billed_ms=report.billed_ms,
            max_memory_mb=report.max_memory_mb,
        )
    if not found.get("FunctionError"):
        return answered
    said = _document(payload)
    kind = str(said.get("errorType") or found["FunctionError"])
    message = str(said.get("errorMessage") or "")
    if "Task timed out" in message:
        kind = "Sandbox.Timedout"
    return replace(answered, error_type=kind, error_message=message, retriable=kind in PASSING_ERRORS)


def _document(payload: bytes) -> dict[str, Any]:
    try:
        found = json.loads(payload)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
