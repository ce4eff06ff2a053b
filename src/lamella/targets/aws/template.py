"""A deployment's CloudFormation template, as a dict: the same values always give the same template.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from lamella.targets.aws.access import door_statements, next_statement, slice_statements
from lamella.targets.aws.doors import API, URL, alarm, door_resources, warmth
from lamella.targets.aws.events import DEAD_LETTERS, QUEUE, event_resources, notifications, queue_statement
from lamella.targets.aws.functions import (
    ALIAS,
    alias_id,
    aliases,
    function_resources,
    invoked,
    properties,
    version_id,
)
from lamella.targets.aws.intrinsics import Json, Resources, att, ref, sub
from lamella.targets.aws.mounts import FILE_SYSTEM, LOADER, loader_digest, mount_resources
from lamella.targets.aws.naming import Names, logical_id
from lamella.targets.aws.release import Function, ImageCode, Release
from lamella.targets.aws.settings import MountKind, Settings
from lamella.targets.aws.storage import BUCKET, REPOSITORY, storage
from lamella.targets.aws.workflows import entrance, entrances, workflow_resources

LONGEST = 1 << 20
"""Bytes of a template in a bucket; sent along, it may have 51,200.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""


def foundation(names: Names, settings: Settings, *, mount: MountKind | None = None) -> Json:
    """What must be there before a release: where its packages, images and files go.

    Args:
        names: Of the deployment.
        settings: Its settings.
        mount: The file system that the stack has, whatever settings say now.
    """
    settings = _with_mount(settings, mount)
    return _template(names, {**storage(names, settings), **mount_resources(names, settings)}, _places(settings))


def template(
    names: Names, settings: Settings, releases: Sequence[Release], *, live: int, mount: MountKind | None = None
) -> Json:
    """The whole of it.

    Args:
        names: Of the deployment.
        settings: Those with which the live release was made.
        releases: Every release that is kept, the newest last; all of their functions have versions (`published`), and
            they fit together (`checks.check_kept`).
        live: Number of the one that answers.
        mount: The file system that the stack has, whatever settings say now: once there, it stays until the end, since
            network interfaces outlive functions by up to an hour, and empty it costs nothing.

    Raises:
        LamellaError: A function has no version yet, or slices do not fit together.
    """
    kept, settings = tuple(releases), _with_mount(settings, mount)
    current = next(release for release in kept if release.number == live)
    if current.door is None:  # nor was one asked for when it was new
        settings = settings.without_doors()
    told = None if settings.s3_events is None else notifications(settings.s3_events)
    images = any(isinstance(each.code, ImageCode) for release in kept for each in release.functions)
    found = {**storage(names, settings, notifications=told, images=images), **mount_resources(names, settings)}
    for function_name in _function_names(kept):
        found |= _function(names, settings, kept, function_name, live)
    found |= workflow_resources(names, settings, current, kept)
    found |= warmth(names, settings, current)
    if current.door is not None:
        found |= door_resources(names, settings, current.door)
        if settings.s3_events is not None:
            found |= event_resources(names, settings, settings.s3_events, current.door)
    if settings.budget is not None:
        found["Budget"] = alarm(names, settings.budget)
    return _template(names, found, {**_places(settings), **_entrances(names, settings, current)})


def published(names: Names, settings: Settings, release: Release) -> Release:
    """A release whose functions know their versions; those that already do keep them.

    A function of which nothing changed gets the same version again, and AWS Lambda publishes no other.
    """
    # The last slice first, the door at the end: each holds the version of the one that it invokes.
    order = sorted(release.functions, key=lambda function: (function.is_door, -(function.slice or 0)))
    for function in order:
        if function.version is None:
            found = version_id(_properties(names, settings, release, function))
            release = release.with_function(replace(function, version=found))
    return release


def written(found: Json) -> str:
    """A template as JSON text."""
    return json.dumps(found, indent=1) + "\n"


def _with_mount(settings: Settings, mount: MountKind | None) -> Settings:
    return settings if settings.mount is not None else replace(settings, mount=mount)


def _template(names: Names, resources: Resources, outputs: Json) -> Json:
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Lamella: {names.name}@{names.stage}",
        "Resources": resources,
        "Outputs": {name: {"Value": value} for name, value in outputs.items()},
    }


def _function_names(kept: Sequence[Release]) -> list[str]:
    return list(dict.fromkeys(function.name for release in reversed(kept) for function in release.functions))


def _function(names: Names, settings: Settings, kept: Sequence[Release], name: str, live: int) -> Resources:
    """One function in all releases that have it."""
    mine = [(release, function) for release in kept for function in release.functions if function.name == name]
    release, function = mine[-1]
    now = _properties(names, settings, release, function)
    statements = _statements(names, settings, kept, mine)
    return {**function_resources(names, settings, now, mine, statements), **aliases(settings, mine, live)}


def _properties(names: Names, settings: Settings, release: Release, function: Function) -> Json:
    return properties(names, settings, function, _variables(names, settings, release, function))


def _variables(names: Names, settings: Settings, release: Release, function: Function) -> dict[str, object]:
    """What the target itself tells a function."""
    found: dict[str, object] = {}
    following = _following(settings, release, function)
    if following is not None:
        found["LAMELLA_NEXT"] = ref(invoked(settings, release, following))
    if settings.has_front_door and function == release.door:
        found["LAMELLA_WORKFLOW"] = entrances(names, settings, release)
        if settings.asynchronous:
            found["LAMELLA_NAME"] = f"{function.name}:{ALIAS}"
        if settings.s3_events is not None:
            events = {"inputs": settings.s3_events.inputs, "results": settings.s3_events.results}
            found["LAMELLA_EVENTS"] = json.dumps(events, separators=(",", ":"))
    return found


def _following(settings: Settings, release: Release, function: Function) -> Function | None:
    """The function that one invokes when it is done, where slices invoke each other."""
    for model in release.models:
        if model.name == function.model and model.kind(settings) == "direct":
            order = [level[0].slice for level in model.levels]
            index = order.index(function.slice or 0) + 1
            return release.function(model.name, order[index]) if index < len(order) else None
    return None


def _statements(
    names: Names, settings: Settings, kept: Sequence[Release], mine: Sequence[tuple[Release, Function]]
) -> list[Json]:
    """What a function may do, in any of the releases that are kept."""
    functions = [function for _, function in mine]
    found: list[Json] = []
    if not functions[-1].is_door:
        found += slice_statements(functions)
    following = {after.name for release, function in mine if (after := _following(settings, release, function))}
    if following:
        found.append(next_statement(following))
    if settings.has_front_door and any(release.door == function for release, function in mine):
        models = [(model, release.first(model).name) for release in kept for model in release.models]
        found += door_statements(names, settings, functions[-1].name, models)
        if settings.s3_events is not None:
            found.append(queue_statement())
    return found


def _places(settings: Settings) -> Json:
    found: Json = {"Bucket": ref(BUCKET), "Store": sub("s3://${Bucket}")}
    if settings.delivery == "image":
        found["Repository"] = att(REPOSITORY, "RepositoryUri")
    if settings.mount is not None:
        found["FileSystem"] = ref(FILE_SYSTEM) if settings.mount == "efs" else att(FILE_SYSTEM, "FileSystemId")
    if settings.mount == "efs":
        found |= {"Loader": ref(LOADER), "LoaderDigest": loader_digest()}
    return found


def _entrances(names: Names, settings: Settings, release: Release) -> Json:
    """What a client needs to know."""
    found: Json = {"Release": str(release.number)}
    for model in release.models:
        known = {"model": model.name, **entrance(names, settings, release, model)}
        found[logical_id("Model", model.name)] = sub(json.dumps(known, separators=(",", ":")))
    if settings.has_front_door and release.door is not None:
        found["Door"] = ref(alias_id(release.door))
    if settings.http_api is not None:
        found["HttpApi"] = att(API, "ApiEndpoint")
    if settings.function_url:
        found["FunctionUrl"] = att(URL, "FunctionUrl")
    if settings.s3_events is not None:
        found |= {"Queue": ref(QUEUE), "DeadLetters": ref(DEAD_LETTERS)}
    return found
