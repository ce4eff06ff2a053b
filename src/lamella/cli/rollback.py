"""`lamella rollback`: the version before the live one answers again, or a given one."""

from __future__ import annotations

from typing import Annotated

import typer

from lamella.cli import on_aws, output
from lamella.cli.deployments import DEPLOYMENT, Name, Stage, find, key, print_functions, service
from lamella.cli.options import Json
from lamella.cli.places import Profile, Region, Target, found_on_aws


def rollback(
    name: Name,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="N",
            min=1,
            rich_help_panel=DEPLOYMENT,
            help="This version, as `lamella status NAME` lists them.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Let the version before the live one answer again, or any that is kept. All models change together."""
    bare, named = key(name, stage)
    aws = found_on_aws(bare, named, target=target, region=region, profile=profile)
    if aws is not None:
        deployment = aws.find(bare, stage=named)
        found = on_aws.view(aws, aws.rollback(bare, stage=named, to=to))
    else:
        deployment = find(bare, named)
        wanted = None if to is None else {"to": to}
        found = service().call("POST", f"/lamella/deployments/{deployment.key}/rollback", wanted)
    if json:
        output.json_object("lamella.rollback/1", found)
        return
    output.facts([("deployment", deployment.key), ("version", f"{found['version']}, before it {deployment.live}")])
    output.line()
    print_functions(found["functions"])
