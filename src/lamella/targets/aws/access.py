"""What the functions of a stack may do: each has a role of its own, and in it no more than it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lamella.targets.aws.intrinsics import Json, att, statement, sub
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Function, Model
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.storage import BUCKET, bucket_keys

REQUESTS, RESULTS = "requests/", "results/"


def log_statement(group: str) -> Json:
    """Writing to one log group.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-intro-execution-role.html
    """
    return statement("Log", ["logs:CreateLogStream", "logs:PutLogEvents"], att(group, "Arn"))


def network_statements(function: str) -> list[Json]:
    """What AWS Lambda needs to put a function into a network, and the function's own code may not use.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-vpc.html (required permissions, security best practices)
    """
    actions = [
        "ec2:AssignPrivateIpAddresses",
        "ec2:CreateNetworkInterface",
        "ec2:DeleteNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSubnets",
        "ec2:UnassignPrivateIpAddresses",
    ]
    itself = {"ArnEquals": {"lambda:SourceFunctionArn": sub(function_arn(function))}}
    allowed = statement("Network", actions, "*")  # these know no resources
    denied: Json = {**statement("NotFromCode", actions, "*", Condition=itself), "Effect": "Deny"}
    return [allowed, denied]


NETWORK_REASON = "these actions know no resources, and the function's own code is denied them"
"""Why a role with `network_statements` breaks CKV_AWS_111 of checkov."""


def tracing_statement() -> Json:
    """Sending traces. https://docs.aws.amazon.com/lambda/latest/dg/services-xray.html."""
    return statement("Trace", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], "*")  # these know no resources


def slice_statements(kept: Iterable[Function]) -> list[Json]:
    """The values of requests, and its own weights.

    Args:
        kept: The function in every release that is kept.
    """
    weights = sorted({key for function in kept if not function.is_mounted for key in function.weights})
    actions = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"]
    found = [statement("Values", actions, bucket_keys(REQUESTS))]
    if weights:
        found.append(statement("Weights", ["s3:GetObject"], [sub(f"${{{BUCKET}.Arn}}/{key}") for key in weights]))
    return found


def next_statement(names: Iterable[str]) -> Json:
    """Invoking the next slice, in whatever version."""
    return statement("Next", ["lambda:InvokeFunction"], [sub(f"{function_arn(name)}:*") for name in sorted(names)])


def door_statements(names: Names, settings: Settings, door: str, models: Sequence[tuple[Model, str]]) -> list[Json]:
    """Starting workflows, and the objects of requests, which it removes afterwards.

    Args:
        names: Of the deployment.
        settings: Its settings.
        door: The door's own name.
        models: Every model of a release that is kept, with the name of its first slice's function.
    """
    machines = {(model.name, model.kind(settings)) for model, _ in models}
    express = sorted(name for name, kind in machines if kind == "express")
    standard = sorted(name for name, kind in machines if kind == "standard")
    invoked = {first for model, first in models if model.kind(settings) in ("direct", "single")} - {door}
    found = _objects(settings)
    if express:
        found.append(_on_machines("Express", ["states:StartSyncExecution"], names, express))
    if standard:
        found.append(_on_machines("Standard", ["states:StartExecution"], names, standard))
        found.append(_on_machines("Executions", ["states:DescribeExecution"], names, standard, runs=True))
    if invoked:
        found.append(next_statement(invoked))
    if settings.asynchronous and len(standard) < len(machines):  # the others answer later by invoking the door itself
        found.append(statement("Later", ["lambda:InvokeFunction"], sub(f"{function_arn(door)}:*")))
    return found


def function_arn(name: str) -> str:
    """A function's ARN, for `Fn::Sub`. With `:VERSION` or `:ALIAS` behind it, one of its versions.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html (resource types)
    """
    return f"arn:${{AWS::Partition}}:lambda:${{AWS::Region}}:${{AWS::AccountId}}:function:{name}"


def machine_arn(names: Names, model: str, *, run: bool = False) -> str:
    """The ARN of a model's workflow, or of all of its executions, for `Fn::Sub`.

    https://docs.aws.amazon.com/service-authorization/latest/reference/list_awsstepfunctions.html (resource types)
    """
    what = "execution" if run else "stateMachine"
    tail = ":*" if run else ""
    place = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}"
    return f"{place}:{what}:{names.state_machine(model)}{tail}"


def _on_machines(sid: str, actions: list[str], names: Names, models: Iterable[str], *, runs: bool = False) -> Json:
    return statement(sid, actions, [sub(machine_arn(names, model, run=runs)) for model in models])


def _objects(settings: Settings) -> list[Json]:
    actions = ["s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:DeleteObject"]
    seen, found = [REQUESTS], [statement("Requests", actions, bucket_keys(REQUESTS))]
    if settings.asynchronous:
        seen.append(RESULTS)
        found.append(statement("Results", ["s3:GetObject", "s3:PutObject"], bucket_keys(RESULTS)))
    if settings.s3_events is not None:
        seen.append(settings.s3_events.inputs)
        found.append(statement("Inputs", ["s3:GetObject"], bucket_keys(settings.s3_events.inputs)))
        found.append(statement("Answers", ["s3:PutObject"], bucket_keys(settings.s3_events.results)))
    listed = {"StringLike": {"s3:prefix": [f"{prefix}*" for prefix in seen]}}
    found.append(statement("List", ["s3:ListBucket"], att(BUCKET, "Arn"), Condition=listed))
    return found
