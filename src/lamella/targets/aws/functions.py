"""The functions of a stack: each with its log, its role, every version that is kept, and the alias of the live one.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256

from lamella.targets.aws.access import NETWORK_REASON, log_statement, network_statements, tracing_statement
from lamella.targets.aws.intrinsics import (
    FUNCTION_REASONS,
    Json,
    Resources,
    att,
    excused,
    ref,
    resource,
    role,
    sub,
    tag_list,
)
from lamella.targets.aws.logs import log_group
from lamella.targets.aws.mounts import MOUNT_TARGETS, mount_statements, mounted
from lamella.targets.aws.naming import Names, logical_id
from lamella.targets.aws.release import HANDLER, Function, Release, ZipCode
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.storage import BUCKET, REPOSITORY

ALIAS = "live"
"""What outsiders invoke: the version that answers."""

STORE = sub("s3://${Bucket}")
"""The value of `LAMELLA_STORE`."""

_UNVERSIONED = ("FunctionName", "ReservedConcurrentExecutions", "Tags")
"""What a version does not keep: where only these change, AWS Lambda publishes none."""


def function_id(function: Function) -> str:
    """Logical id of a function."""
    return logical_id("Function", function.name)


def alias_id(function: Function) -> str:
    """Logical id of its alias `live`."""
    return logical_id("Live", function.name)


def invoked(settings: Settings, release: Release, function: Function) -> str:
    """Logical id of what a workflow or the slice before invokes: its `Ref` is an ARN that always means this version.

    It is the version itself. Provisioned instances serve an alias only, and cannot be taken from a version again: with
    them, each version that is kept has an alias that never moves. A model's only slice needs none: a request cannot
    meet two versions of it, so its alias `live` will do.

    https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html
    """
    if release.is_alone(function):
        return alias_id(function)
    return _pinned(function) if settings.provisioned_concurrency else function.version_id


def properties(names: Names, settings: Settings, function: Function, variables: Mapping[str, object]) -> Json:
    """A function as it is now: what the next version is made of.

    Args:
        names: Of the deployment.
        settings: Its settings.
        function: The function.
        variables: Of its environment, beside its own.
    """
    found: Json = {
        "FunctionName": function.name,
        "Description": _description(names, function),
        **_code(settings, function),
        "Architectures": [settings.architecture],
        "MemorySize": function.memory_mb,
        "Timeout": function.timeout_s,
        "EphemeralStorage": {"Size": function.temporary_mb},
        "Role": att(logical_id("Role", function.name), "Arn"),
        "Environment": {"Variables": {"LAMELLA_STORE": STORE, **function.environment, **variables}},
        "LoggingConfig": {"LogFormat": "Text", "LogGroup": ref(logical_id("Log", function.name))},
        "TracingConfig": {"Mode": "Active" if settings.tracing else "PassThrough"},
    }
    if settings.concurrency is not None:
        found["ReservedConcurrentExecutions"] = settings.concurrency
    if settings.snap_start:  # https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
        found["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    if function.is_mounted:
        found |= mounted(settings)
    return {**found, "Tags": tag_list(names.tags(dict(settings.tags)))}


def version_id(found: Json) -> str:
    """Logical id of the version that is published of these properties: other ones give another version."""
    kept = {key: value for key, value in found.items() if key not in _UNVERSIONED}
    text = json.dumps([found["FunctionName"], kept], sort_keys=True)
    return f"Version{sha256(text.encode()).hexdigest()[:24]}"


def function_resources(
    names: Names, settings: Settings, now: Json, kept: Sequence[tuple[Release, Function]], statements: Sequence[Json]
) -> Resources:
    """A function with its log, its role, and all of its versions.

    Args:
        names: Of the deployment.
        settings: Its settings.
        now: Its properties in the newest release that has it.
        kept: It in every release that is kept, the newest last.
        statements: What it may do beside writing its log.
    """
    newest, tags = kept[-1][1], names.tags(dict(settings.tags))
    own, log = function_id(newest), logical_id("Log", newest.name)
    allowed = [log_statement(log), *statements, *([tracing_statement()] if settings.tracing else [])]
    more: dict[str, object] = {}
    if any(function.is_mounted for _, function in kept):
        allowed += [*mount_statements(settings), *network_statements(newest.name)]
        more["DependsOn"] = list(MOUNT_TARGETS)
    runs_as = role(names.role(newest.name), "lambda.amazonaws.com", allowed, tags)
    if more:
        runs_as = excused(runs_as, CKV_AWS_111=NETWORK_REASON)
    versions = {function.version_id: resource("Lambda::Version", {"FunctionName": ref(own)}) for _, function in kept}
    return {
        log: log_group(f"/aws/lambda/{newest.name}", settings, tags),
        logical_id("Role", newest.name): runs_as,
        own: excused(resource("Lambda::Function", now, **more), **_reasons(settings)),
        **versions,
    }


def aliases(settings: Settings, kept: Sequence[tuple[Release, Function]], live: int) -> Resources:
    """The alias of the live version, and with provisioned instances one that stays for each version.

    Args:
        settings: The deployment's settings.
        kept: A function in every release that is kept, the newest last.
        live: Number of the live release.
    """
    current = next((function for release, function in kept if release.number == live), None)
    found: Resources = {}
    for release, function in kept:
        if settings.provisioned_concurrency and not function.is_door and not release.is_alone(function):
            serves = current is not None and current.version_id == function.version_id
            found[_pinned(function)] = _alias(settings, function, _pinned(function), provisioned=serves)
    if current is not None:
        alone = any(release.number == live and release.is_alone(current) for release, _ in kept)
        found[alias_id(current)] = _alias(settings, current, ALIAS, provisioned=alone)
    return found


def _reasons(settings: Settings) -> dict[str, str]:
    reasons = dict(FUNCTION_REASONS)
    if settings.concurrency is None:
        reasons["CKV_AWS_115"] = "this account's quota is too low to reserve any of it"
    if not settings.tracing:
        reasons["CKV_AWS_50"] = "tracing is a setting; every answer has the times of each slice"
    return reasons


def _pinned(function: Function) -> str:
    return f"Pinned{function.version_id}"


def _alias(settings: Settings, function: Function, name: str, *, provisioned: bool) -> Json:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-alias.html."""
    version = att(function.version_id, "Version")
    found: Json = {"FunctionName": ref(function_id(function)), "FunctionVersion": version, "Name": name}
    if provisioned and settings.provisioned_concurrency:
        count = settings.provisioned_concurrency
        found["ProvisionedConcurrencyConfig"] = {"ProvisionedConcurrentExecutions": count}
    return resource("Lambda::Alias", found)


def _code(settings: Settings, function: Function) -> Json:
    if isinstance(function.code, ZipCode):
        return {
            "PackageType": "Zip",
            "Code": {"S3Bucket": ref(BUCKET), "S3Key": function.code.key},
            "Runtime": f"python{settings.python}",
            "Handler": function.handler,
        }
    image = sub(f"${{{REPOSITORY}.RepositoryUri}}@{function.code.digest}")
    found: Json = {"PackageType": "Image", "Code": {"ImageUri": image}}
    if function.handler != HANDLER:  # the image itself names the handler of a slice
        found["ImageConfig"] = {"Command": [function.handler]}
    return found


def _description(names: Names, function: Function) -> str:
    what = "the door" if function.is_door else f"slice {function.slice} of {function.model}"
    return f"Lamella: {what}, {names.name}@{names.stage}"
