"""`lamella alias`: a name for a version, by which it can be asked."""

from __future__ import annotations

from typing import Annotated

import typer

from lamella.cli import output
from lamella.cli.deployments import DEPLOYMENT, Name, Stage, find, key, service
from lamella.cli.options import Json
from lamella.cli.places import Profile, Region, Target, found_on_aws
from lamella.errors import UsageError


def alias(
    name: Name,
    alias: Annotated[
        str | None,
        typer.Argument(metavar="[ALIAS]", help="Such as `canary`; without one, all are shown.", show_default=False),
    ] = None,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="N|ALIAS", rich_help_panel=DEPLOYMENT, help="The version that it is to stand for."
        ),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", rich_help_panel=DEPLOYMENT, help="Forget the alias.")] = False,
    json: Json = False,
) -> None:
    """Name a version of a deployment, so that it is kept, and can be asked beside the live one."""
    if (alias is None and (to is not None or remove)) or (alias is not None and (to is None) != remove):
        raise UsageError(
            "an alias is given a version, or removed", hint="`lamella alias NAME ALIAS --to N`, or `--remove`"
        )
    bare, named = key(name, stage)
    aws = found_on_aws(bare, named, target=target, region=region, profile=profile)
    deployment = find(bare, named) if aws is None else aws.find(bare, stage=named)
    if alias is not None:
        deployment = deployment.with_alias(alias, to)  # refused here, before anybody else is asked
        if aws is None:
            service().call("PUT", f"/lamella/deployments/{deployment.key}/aliases/{alias}", {"to": to})
        else:
            deployment = aws.set_alias(bare, alias, to=to, stage=named)
    if json:
        content = {"name": deployment.name, "stage": deployment.stage, "live": deployment.live}
        output.json_object("lamella.alias/1", {**content, "aliases": dict(deployment.aliases)})
        return
    rows = [("live", str(deployment.live)), *((one, str(number)) for one, number in deployment.aliases.items())]
    output.table(["alias", "version"], rows, right=(1,))
