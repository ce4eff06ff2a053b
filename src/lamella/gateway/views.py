"""Deployments as the JSON values that the service and the command line show, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lamella.platforms import load_platform
from lamella.targets.base import Change, Deployment, Wanted
from lamella.targets.state import check_name


def deployment_view(deployment: Deployment, *, url: str, functions_url: str, token_file: str) -> dict[str, Any]:
    """A deployment.

    Args:
        deployment: What is deployed.
        url: Of the service.
        functions_url: Where its functions are invoked with the AWS Lambda API.
        token_file: Where the token is that callers must send.
    """
    version = deployment.version
    doors = {model.name: f"{url}/v2/models/{deployment.address(model.name)}/infer" for model in version.models}
    return {
        "name": deployment.name,
        "stage": deployment.stage,
        "target": deployment.target,
        "platform": deployment.platform,
        "url": next(iter(doors.values())) if len(doors) == 1 else None,
        "models": [
            {"name": model.name, "address": deployment.address(model.name), "file": model.file}
            for model in version.models
        ],
        "version": version.number,
        "versions": [
            {
                "version": v.number,
                "created": v.created,
                "models": [model.file for model in v.models],
                "aliases": [alias for alias, number in deployment.aliases.items() if number == v.number],
            }
            for v in deployment.versions
        ],
        "delivery": version.delivery,
        "cold": version.cold,
        "store": version.store,
        "functions": [
            {
                "name": function.name,
                "model": function.model,
                "slice": function.slice,
                "version": function.version,
                "memory_mb": function.memory_mb,
                "timeout_s": function.timeout_s,
                "unzipped_bytes": function.unzipped_bytes,
                "sha256": function.sha256,
            }
            for function in version.functions
        ],
        "functions_url": functions_url,
        "token_file": token_file,
        "front_doors": [{"kind": "http", "model": model, "url": door} for model, door in doors.items()],
    }


def change_view(change: Change) -> dict[str, str]:
    """A change to one function."""
    return {"action": change.action, "function": change.function, "reason": change.reason}


def wanted_view(wanted: Wanted) -> dict[str, Any]:
    """What is to be deployed, for `wanted_of`."""
    return {
        "name": wanted.name,
        "stage": wanted.stage,
        "models": {name: str(directory.absolute()) for name, directory in wanted.models.items()},
        "platform": wanted.platform_source or wanted.platform.name,
        "memory_mb": wanted.memory_mb,
        "timeout_s": wanted.timeout_s,
        "temporary_mb": wanted.temporary_mb,
        "delivery": wanted.delivery,
        "store": wanted.store,
        "mount": None if wanted.mount is None else str(wanted.mount),
        "cold": wanted.cold,
        "environment": dict(wanted.environment),
    }


def wanted_of(content: Mapping[str, Any]) -> Wanted:
    """What is to be deployed, from what `wanted_view` gave.

    Raises:
        UsageError: A name or the platform makes no sense.
        KeyError: Something is missing.
        TypeError: Something is of another type.
        AttributeError: Likewise.
    """
    platform = str(content["platform"])
    return Wanted(
        name=check_name(str(content["name"]), "name"),
        stage=check_name(str(content["stage"]), "stage"),
        models={check_name(str(name), "name for a model"): Path(str(path)) for name, path in content["models"].items()},
        platform=load_platform(platform),
        platform_source=platform,
        memory_mb=content["memory_mb"],
        timeout_s=float(content["timeout_s"]),
        temporary_mb=int(content["temporary_mb"]),
        delivery=content["delivery"],
        store=content["store"],
        mount=None if content["mount"] is None else Path(str(content["mount"])),
        cold=content["cold"],
        environment=dict(content["environment"]),
    )
