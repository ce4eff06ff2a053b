"""A template whose packages, weights and images are there before its stack is: parameters say where."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from lamella.runtime.weights import WEIGHTS_VARIABLE
from lamella.targets.aws import storage
from lamella.targets.aws.functions import function_id
from lamella.targets.aws.intrinsics import Json, ref
from lamella.targets.aws.naming import logical_id
from lamella.targets.aws.release import Function, ImageCode, Release

BUCKET, REPOSITORY = "ArtifactBucket", "ImageRepository"
"""Parameters: the bucket with packages and weights, and the URI of the repository with images."""


@dataclass(frozen=True)
class Outside:
    """A template, and what must be there before its stack is.

    Attributes:
        template: The template, with parameters.
        folders: Of files for the bucket, called as their keys begin: `packages`, `weights`.
        images: Names of images for the repository.
    """

    template: Json
    folders: tuple[str, ...]
    images: tuple[str, ...]


def from_outside(template: Json, release: Release, *, flat: bool = False) -> Outside:
    """A deployment's only release, for somebody who brings what functions are made of himself.

    The stack's own bucket does not exist before it, and some functions begin while it is made. So what they are made of
    lies elsewhere; they may read their weights there, and nothing else.

    Args:
        template: The whole template.
        release: What it deploys.
        flat: Whether keys in the bucket are names of files alone.
    """
    found: Any = json.loads(json.dumps(template))
    resources, parameters = found["Resources"], {}
    for function in release.functions:
        properties = resources[function_id(function)]["Properties"]
        if isinstance(function.code, ImageCode):
            digest = logical_id("Digest", function.name)
            parameters[REPOSITORY] = _parameter("The URI of the repository that holds the images")
            parameters[digest] = {**_parameter(f"Of the image of {function.name}"), "Default": function.code.digest}
            properties["Code"] = {"ImageUri": _joined(ref(REPOSITORY), "@", ref(digest))}
        else:
            parameters[BUCKET] = _parameter("The bucket that packages and weights were copied to")
            properties["Code"] = {"S3Bucket": ref(BUCKET), "S3Key": _key(function.code.key, flat=flat)}
        if function.weights:
            _find_weights(resources, function, flat=flat)
    resources.pop(storage.REPOSITORY, None)
    found["Outputs"].pop(storage.REPOSITORY, None)
    head = {key: found.pop(key) for key in ("AWSTemplateFormatVersion", "Description")}
    return Outside({**head, "Parameters": parameters, **found}, _folders(release), _images(release))


def _find_weights(resources: Any, function: Function, *, flat: bool) -> None:  # noqa: ANN401 - of a template
    """Let a function find its weights in the bucket, and read them."""
    keys = [_key(key, flat=flat) for key in function.weights]
    (folder,) = {key.rpartition("/")[0] for key in keys}
    place = [ref(BUCKET), f"/{folder}"] if folder else [ref(BUCKET)]
    resources[function_id(function)]["Properties"]["Environment"]["Variables"][WEIGHTS_VARIABLE] = _joined(
        "s3://", *place
    )
    (policy,) = resources[logical_id("Role", function.name)]["Properties"]["Policies"]
    (allowed,) = (each for each in policy["PolicyDocument"]["Statement"] if each["Sid"] == "Weights")
    allowed["Resource"] = [_joined("arn:", ref("AWS::Partition"), ":s3:::", ref(BUCKET), f"/{key}") for key in keys]


def _folders(release: Release) -> tuple[str, ...]:
    keys = {key for function in release.functions for key in function.weights}
    keys |= {function.code.key for function in release.functions if not isinstance(function.code, ImageCode)}
    return tuple(sorted({key.partition("/")[0] for key in keys}))


def _images(release: Release) -> tuple[str, ...]:
    return tuple(
        step.function
        for model in release.models
        for step in model.workflow.steps
        if isinstance(release.function(model.name, step.slice).code, ImageCode)
    )


def _key(key: str, *, flat: bool) -> str:
    return key.rpartition("/")[2] if flat else key


def _joined(*parts: object) -> Json:
    return {"Fn::Join": ["", list(parts)]}


def _parameter(description: str) -> Json:
    return {"Type": "String", "Description": description}
