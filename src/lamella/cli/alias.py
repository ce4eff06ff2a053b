"""`lamella alias`: a name for a version, by which it can be asked."""

from __future__ import annotations

from typing import Annotated

import typer

from lamella.cli import output
from lamella.cli.deployments import DEPLOYMENT, Name, Stage, find, key, service
from lamella.cli.options import Json
from lamella.errors import UsageError


def alias(
    name: Name,
    alias: Annotated[
        str | None,
        typer.Argument(metavar="[ALIAS]", help="Such as `canary`; without one, all are shown.", show_default=False),
    ] = None,
    *,
    stage: Stage = None,
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
    deployment = find(*key(name, stage))
    if alias is not None:
        deployment = deployment.with_alias(alias, to)  # refused here, before the service is asked
        found = service().call("PUT", f"/lamella/deployments/{deployment.key}/aliases/{alias}", {"to": to})
        aliases = {one: entry["version"] for entry in found["versions"] for one in entry["aliases"]}
    else:
        aliases = dict(deployment.aliases)
    if json:
        content = {"name": deployment.name, "stage": deployment.stage, "live": deployment.live, "aliases": aliases}
        output.json_object("lamella.alias/1", content)
        return
    rows = [("live", str(deployment.live)), *((one, str(number)) for one, number in aliases.items())]
    output.table(["alias", "version"], rows, right=(1,))
