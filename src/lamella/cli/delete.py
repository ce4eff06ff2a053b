"""`lamella delete`: the end of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from lamella.cli import output
from lamella.cli.deployments import Name, Stage, find, key, service
from lamella.cli.options import Json
from lamella.errors import UsageError


def delete(
    name: Name,
    *,
    stage: Stage = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Delete a deployment: its functions, packages, versions, logs and stored values."""
    deployment = find(*key(name, stage))
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
