"""A model's slices as a Step Functions workflow, in Amazon States Language with JSONPath.

```text
input   {"request_id": ID, "input": {"frame": BASE64, "references": [...]}}
output  {"request_id": ID, "parts": [ANSWER...], "timings": {"0": TIMING...}}
```

Slices of one level of the DAG run side by side. A slice gets, as `parts`, the workflow's input and the answers with the
values that it takes, and its answer stays under `$.answers` until the end. What passes between states may have 256
KiB, so each slice is told how much it may answer inline (`inline_bytes`); everything larger goes through the bucket,
under a place of its own for each attempt.

A slice that fails for good ends the workflow: `Error` is the last error, `Cause` is `slice N: ` and a JSON object with
`Error` and `Cause` as the slice's function or the platform gave them.

https://states-language.net/spec.html
https://docs.aws.amazon.com/step-functions/latest/dg/amazon-states-language-intrinsic-functions.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from lamella.targets.aws.intrinsics import Json
from lamella.targets.aws.release import Function, Model
from lamella.targets.aws.settings import WorkflowKind
from lamella.workflow.steps import Step

STATE_BYTES = 256 << 10
"""What passes between states, as UTF-8. https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

INVOKE_BYTES = 6 << 20
"""What a function takes and answers. https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""

LATE_S = 15
"""How much longer than the function's timeout a state waits: an instance may have to be started first."""

PASSING = (
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Runtime.OutOfMemory",
    "Sandbox.Timedout",
    "States.Timeout",
)
"""The instance was killed, its time was up, or the service failed: another attempt may do better.

https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html
https://docs.aws.amazon.com/step-functions/latest/dg/sfn-best-practices.html (transient Lambda service exceptions)
"""

MOUNTING = (
    "Lambda.EFSIOException",
    "Lambda.EFSMountConnectivityException",
    "Lambda.EFSMountTimeoutException",
    "Lambda.S3FilesMountConnectivityException",
    "Lambda.S3FilesMountTimeoutException",
)
"""The file system could not be mounted this time.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html (errors)
"""

THROTTLED = ("Lambda.TooManyRequestsException", "TooManyRequestsException")

_RESERVED_BYTES = 2048  # the workflow's own members, and what the answer of Invoke has around the payload
_ANSWER_BYTES = 768  # timing, a frame's header, and what is around them
_VALUE_BYTES = 640  # a reference: name, shape, URI, digest
_FAILURE = "$.failure"


def definition(
    model: Model, *, arn: Callable[[Function], str], function: Callable[[int], Function], store: str
) -> Json:
    """The workflow of a model.

    Args:
        model: Its slices.
        arn: What is invoked for a function: a version of it, so that a request keeps the one with which it began.
        function: The function of a slice.
        store: URI of the bucket.

    Returns:
        The definition; texts in it may have `${...}` for `Fn::Sub`.
    """
    states: dict[str, Json] = {}
    names = [_level_name(level) for level in model.levels]
    for level, name, following in zip(model.levels, names, [*names[1:], "Answer"], strict=True):
        tasks = {step: _task(model, step, function(step.slice), arn, store) for step in level}
        if len(level) == 1:
            states[name] = {**tasks[level[0]], "ResultPath": _path(model, level[0]), "Next": following}
            states[_failed(level[0])] = _report(level[0])
        else:
            states[name] = {**_parallel(tasks), "ResultPath": _path(model, level[0], level=True), "Next": following}
            states["Failed"] = _fail(f"{_FAILURE}.Cause")  # as a branch has put it
    states["Answer"] = _answer(model)
    comment = f"Lamella: the {len(model.workflow.steps)} slices of {model.name}"
    return {"Comment": comment, "StartAt": names[0], "States": states}


def inline_bytes(model: Model, kind: WorkflowKind = "express") -> int:
    """What the input, and each slice's answer, may hold inline: bytes of tensors, before base64.

    In the end all of them are in the state of a workflow, or in the payload of the last slice that is invoked directly,
    so they share it evenly. Input and answer of a single slice are never together.
    """
    steps = model.workflow.steps
    payload_bytes = STATE_BYTES if kind in ("express", "standard") else INVOKE_BYTES
    sharing = 1 if kind == "single" else len(steps) + 1
    values = len(model.workflow.inputs) + len(model.workflow.optional_inputs) + sum(len(step.makes) for step in steps)
    around = _RESERVED_BYTES + _ANSWER_BYTES * (len(steps) + 1) + _VALUE_BYTES * values
    return max(0, payload_bytes - around) // sharing // 4 * 3


def text(found: Json) -> str:
    """A definition as CloudFormation's `DefinitionString`."""
    return json.dumps(found, separators=(",", ":"), ensure_ascii=True)


def _task(model: Model, step: Step, function: Function, arn: Callable[[Function], str], store: str) -> Json:
    """One slice. https://docs.aws.amazon.com/step-functions/latest/dg/connect-lambda.html (optimized integration)."""
    place: Json = {
        "inline_bytes": inline_bytes(model),
        "store": store,
        "prefix.$": f"States.Format('requests/{{}}/slice-{step.slice}/{{}}/', $.request_id, $$.State.RetryCount)",
    }
    payload: Json = {
        "request_id.$": "$.request_id",
        "parts.$": f"States.Array({', '.join(_sources(model, step))})",
        "answer": place,
    }
    return {
        "Type": "Task",
        "Resource": "arn:${AWS::Partition}:states:::lambda:invoke",
        "Parameters": {"FunctionName": arn(function), "Payload": payload},
        "ResultSelector": {
            "frame.$": "$.Payload.frame",
            "references.$": "$.Payload.references",
            "timing.$": "$.Payload.timing",
        },
        "TimeoutSeconds": function.timeout_s + LATE_S,
        "Retry": _retry((*PASSING, *MOUNTING) if function.is_mounted else PASSING),
        "Catch": _catch(_failed(step)),
    }


def _sources(model: Model, step: Step) -> list[str]:
    """Where the values that a slice takes are in the state."""
    wanted = {*step.needs, *step.may_take}
    given = {spec.name for spec in (*model.workflow.inputs, *model.workflow.optional_inputs)}
    makers = [other for other in model.workflow.steps if other is not step and wanted.intersection(other.makes)]
    paths = [_path(model, maker) for maker in makers]
    return ["$.input", *paths] if wanted & given or not paths else paths


def _parallel(tasks: dict[Step, Json]) -> Json:
    """Slices side by side; what a branch ends with is the answer of its slice.

    https://docs.aws.amazon.com/step-functions/latest/dg/state-parallel.html
    """
    branches = [
        {
            "StartAt": _task_name(step),
            "States": {_task_name(step): {**task, "End": True}, _failed(step): _report(step)},
        }
        for step, task in tasks.items()
    ]
    selector = {f"s{step.slice}.$": f"$[{index}]" for index, step in enumerate(tasks)}
    return {"Type": "Parallel", "Branches": branches, "ResultSelector": selector, "Catch": _catch("Failed")}


def _retry(passing: Sequence[str]) -> list[Json]:
    """As a chain elsewhere: three attempts, but up to about a minute where there was no instance to spare.

    https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html (Retry field examples)
    """
    return [
        {
            "ErrorEquals": list(THROTTLED),
            "IntervalSeconds": 1,
            "BackoffRate": 2,
            "MaxDelaySeconds": 8,
            "MaxAttempts": 10,
            "JitterStrategy": "FULL",
        },
        {
            "ErrorEquals": list(passing),
            "IntervalSeconds": 1,
            "BackoffRate": 2,
            "MaxDelaySeconds": 4,
            "MaxAttempts": 2,
            "JitterStrategy": "FULL",
        },
    ]


def _catch(following: str) -> list[Json]:
    """Everything: `States.ALL` leaves out a state that became too large, and must stand alone and last."""
    return [
        {"ErrorEquals": [error], "ResultPath": _FAILURE, "Next": following}
        for error in ("States.DataLimitExceeded", "States.ALL")
    ]


def _report(step: Step) -> Json:
    return _fail(f"States.Format('slice {step.slice}: {{}}', States.JsonToString({_FAILURE}))")


def _fail(cause: str) -> Json:
    """https://docs.aws.amazon.com/step-functions/latest/dg/state-fail.html (ErrorPath, CausePath)."""
    return {"Type": "Fail", "ErrorPath": f"{_FAILURE}.Error", "CausePath": cause}


def _answer(model: Model) -> Json:
    """The answers with the model's outputs, and how long each slice took."""
    outputs = {spec.name for spec in model.workflow.outputs}
    steps = model.workflow.steps
    parts = ", ".join(_path(model, step) for step in steps if outputs.intersection(step.makes))
    timings = {f"{step.slice}.$": f"{_path(model, step)}.timing" for step in steps}
    return {
        "Type": "Pass",
        "Parameters": {"request_id.$": "$.request_id", "parts.$": f"States.Array({parts})", "timings": timings},
        "End": True,
    }


def _path(model: Model, step: Step, *, level: bool = False) -> str:
    """Where the answer of a slice is in the state, or those of its level.

    A state can put its result into one place only, so those of a Parallel state are together in one.
    """
    index, mates = next((index, mates) for index, mates in enumerate(model.levels) if step in mates)
    if level:
        return f"$.answers.level{index}"
    return f"$.answers.level{index}.s{step.slice}" if len(mates) > 1 else f"$.answers.s{step.slice}"


def _level_name(level: tuple[Step, ...]) -> str:
    if len(level) == 1:
        return _task_name(level[0])
    return "Slices " + ", ".join(str(step.slice) for step in level)


def _task_name(step: Step) -> str:
    return f"Slice {step.slice}"


def _failed(step: Step) -> str:
    return f"Slice {step.slice} failed"
