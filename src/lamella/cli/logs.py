"""`lamella logs`: what a deployment's functions say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from lamella.cli import output
from lamella.cli.deployments import Model, Stage, address, find, service
from lamella.cli.options import OUTPUT, Json
from lamella.cli.places import Profile, Region, Target, found_on_aws
from lamella.errors import UsageError

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def logs(
    name: Model,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    part: Annotated[int | None, typer.Option("--slice", metavar="K", min=0, help="Of this slice alone.")] = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", rich_help_panel=OUTPUT, help="Go on until interrupted.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the logs of a deployment's functions, slice by slice."""
    if follow and json:
        raise UsageError("`--json` prints one object, and `--follow` has no end", hint="leave one of them out")
    to = address(name, stage)
    aws = found_on_aws(to.name, to.stage, target=target, region=region, profile=profile)
    deployment = find(to.name, to.stage) if aws is None else aws.find(to.name, stage=to.stage)
    models = {function.name: function.model for function in deployment.version.functions}
    lines: Iterator[Mapping[str, Any]]
    if aws is None:
        lines = service().logs(str(to), slice=part, follow=follow)
    else:
        lines = map(asdict, aws.logs(to.name, stage=to.stage, model=to.model, slice=part, follow=follow))
    if json:
        output.json_object("lamella.logs/1", {"lines": list(lines)})
        return
    several = to.model is None and len(set(models.values())) > 1
    for line in lines:
        model = f"{models.get(line['function'], '?')} " if several else ""  # it may have been deployed anew meanwhile
        output.line(f"{model}{line['slice']} | {_plain(line['text'])}")
        output.flush()


def _plain(text: str) -> str:
    """A line without colours and tabs, which would be shown as escapes."""
    return _COLOUR.sub("", text).expandtabs(2)
