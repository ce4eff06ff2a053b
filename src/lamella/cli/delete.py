"""`lamella delete`: the end of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from lamella.cli import on_aws, output
from lamella.cli.deployments import Name, Stage, find, key, service
from lamella.cli.options import Json
from lamella.cli.places import Profile, Region, Target, found_on_aws
from lamella.errors import UsageError


def delete(
    name: Name,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete a deployment: its functions, packages, versions, logs and stored values."""
    bare, named = key(name, stage)
    aws = found_on_aws(bare, named, target=target, region=region, profile=profile)
    if aws is not None:
        on_aws.delete(aws, bare, named, yes=yes, json=json)
        return
    deployment = find(bare, named)
    functions = ", ".join(function.name for function in deployment.version.functions)
    if not yes:
        output.message(f"this deletes {deployment.key}: {functions}, and {len(deployment.versions)} version(s)")
        if not output.confirmed("go on?"):
            raise UsageError("nothing was deleted", hint="say `--yes` to go on without being asked")
    found = service().call("DELETE", f"/lamella/deployments/{deployment.key}")
    if found.pop("service_ends"):
        _wait_for_idle_service()
    if json:
        output.json_object("lamella.delete/1", found)
    else:
        output.message(f"deleted {deployment.key}")


def _wait_for_idle_service() -> None:
    """Wait for the service to end, so that nothing is left when this returns; unless it is given something to host."""
    from lamella.gateway.starting import wait_for_end
    from lamella.targets.state import State, home_folder

    home = home_folder()
    wait_for_end(home, unless=lambda: not State(home / "deployments").is_empty())
