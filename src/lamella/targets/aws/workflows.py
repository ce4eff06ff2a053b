"""The workflows of a stack as resources, and what somebody must know to start them."""

from __future__ import annotations

import json

from lamella.targets.aws.access import function_arn, machine_arn
from lamella.targets.aws.functions import invoked
from lamella.targets.aws.intrinsics import (
    Json,
    Resources,
    att,
    excused,
    resource,
    role,
    statement,
    sub,
    tag_list,
)
from lamella.targets.aws.logs import log_group
from lamella.targets.aws.naming import Names, Value, logical_id
from lamella.targets.aws.release import Model, Release
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.state_machine import definition, inline_bytes, text

_DELIVERY = (
    "logs:CreateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:DescribeLogGroups",
    "logs:DescribeResourcePolicies",
    "logs:GetLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:UpdateLogDelivery",
)


def workflow_resources(names: Names, settings: Settings, release: Release, kept: tuple[Release, ...]) -> Resources:
    """A state machine for each model of a release that has one, with its log and role.

    Args:
        names: Of the deployment.
        settings: Its settings.
        release: The live one.
        kept: All that are kept: a workflow that is running goes on with what it began with.
    """
    found: Resources = {}
    for model in release.models:
        if model.kind(settings) in ("express", "standard"):
            found |= _workflow(names, settings, release, model, kept)
    return found


def machine_id(names: Names, model: str) -> str:
    """Logical id of a model's state machine."""
    return logical_id("Workflow", names.state_machine(model))


def entrance(names: Names, settings: Settings, release: Release, model: Model, *, inside: bool = False) -> Json:
    """What somebody must know to send a model a request, as JSON.

    Args:
        names: Of the deployment.
        settings: Its settings.
        release: The release that has the model.
        model: The model.
        inside: For the environment of a release's door: then a name stands for the door itself.
    """
    kind = model.kind(settings)
    if kind in ("express", "standard"):
        # From inside by its name: a door that is kept may belong to a release whose workflow is not there for now.
        arn = machine_arn(names, model.name) if inside else f"${{{machine_id(names, model.name)}}}"
    else:
        first = release.first(model)
        arn = first.name if inside and release.door == first else f"${{{invoked(settings, release, first)}}}"
    return {"kind": kind, "arn": arn, "inline_bytes": inline_bytes(model, kind)}


def entrances(names: Names, settings: Settings, release: Release) -> Value:
    """The same for all models of a release, as its door has it in its environment."""
    found = {model.name: entrance(names, settings, release, model, inside=True) for model in release.models}
    written = json.dumps(found, separators=(",", ":"))
    return sub(written) if "${" in written else written


def _workflow(names: Names, settings: Settings, release: Release, model: Model, kept: tuple[Release, ...]) -> Resources:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-stepfunctions-statemachine.html.

    Its log group is under `/aws/vendedlogs/`, where the account's policy for deliveries does not grow with each.
    https://docs.aws.amazon.com/step-functions/latest/dg/bp-cwl.html
    """
    tags, name = names.tags(dict(settings.tags)), names.state_machine(model.name)
    own, log, runs_as = machine_id(names, model.name), logical_id("WorkflowLog", name), logical_id("WorkflowRole", name)
    states = definition(
        model,
        arn=lambda function: f"${{{invoked(settings, release, function)}}}",
        function=lambda slice: release.function(model.name, slice),
        store="s3://${Bucket}",
    )
    properties: Json = {
        "StateMachineName": name,
        "StateMachineType": model.kind(settings).upper(),
        "DefinitionString": sub(text(states)),
        "RoleArn": att(runs_as, "Arn"),
        "LoggingConfiguration": {
            "Level": "ERROR",
            "IncludeExecutionData": False,  # it would be the tensors
            "Destinations": [{"CloudWatchLogsLogGroup": {"LogGroupArn": att(log, "Arn")}}],
        },
        "TracingConfiguration": {"Enabled": settings.tracing},
        "Tags": tag_list(tags),
    }
    reasons = {
        "CKV_AWS_285": "errors are logged; what passes between states is tensors, which do not belong into a log"
    }
    if not settings.tracing:
        reasons["CKV_AWS_284"] = "tracing is a setting; every answer has the times of each slice"
    return {
        log: log_group(f"/aws/vendedlogs/states/{name}", settings, tags),
        runs_as: role(names.role(f"{name}-workflow"), "states.amazonaws.com", _statements(settings, model, kept), tags),
        own: excused(resource("StepFunctions::StateMachine", properties), **reasons),
    }


def _statements(settings: Settings, model: Model, kept: tuple[Release, ...]) -> list[Json]:
    """Invoking this model's slices in all versions that are kept.

    https://docs.aws.amazon.com/step-functions/latest/dg/lambda-iam.html
    https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html (these actions know no resources)
    """
    names = {function.name for release in kept for function in release.functions if function.model == model.name}
    found = [
        statement("Slices", ["lambda:InvokeFunction"], [sub(f"{function_arn(name)}:*") for name in sorted(names)]),
        statement("DeliverLogs", _DELIVERY, "*"),
    ]
    if settings.tracing:  # https://docs.aws.amazon.com/step-functions/latest/dg/xray-iam.html
        actions = [
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
        ]
        found.append(statement("Trace", actions, "*"))
    return found
