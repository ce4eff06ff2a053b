"""`lamella export`: a deployment on AWS as a folder for another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lamella.cli import output
from lamella.cli.aws_flags import Chosen, settings_of, with_aws_flags
from lamella.cli.deployments import DEPLOYMENT, Stage, key
from lamella.cli.options import OUTPUT, Json
from lamella.cli.sizes import parse_memory_mb

FUNCTIONS = "Functions"


@with_aws_flags
def export(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SLICES", help="A slices directory; several become the models of one deployment."
        ),
    ],
    *,
    format: Annotated[
        Literal["cloudformation", "terraform", "cdk"],
        typer.Option("--format", rich_help_panel=OUTPUT, help="The tool that is to deploy it."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", rich_help_panel=OUTPUT, help="A folder that is new or empty.")
    ],
    region: Annotated[
        str,
        typer.Option("--region", envvar="AWS_REGION", rich_help_panel=DEPLOYMENT, help="Where it is to be deployed."),
    ] = "us-east-1",
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            rich_help_panel=DEPLOYMENT,
            help="By default from the model's file; needed for several.",
        ),
    ] = None,
    stage: Stage = None,
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="MB|SIZE",
            envvar="LAMELLA_MEMORY",
            rich_help_panel=FUNCTIONS,
            help="Memory of every function, such as `1769` or `2GB`; by default as planned.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option("--timeout", metavar="S", min=1, max=900, rich_help_panel=FUNCTIONS, help="Seconds for a slice."),
    ] = 60.0,
    delivery: Annotated[
        Literal["package", "image", "object-store", "mount"],
        typer.Option(
            "--delivery",
            envvar="LAMELLA_DELIVERY",
            rich_help_panel=FUNCTIONS,
            help="How models reach functions: in packages or images, or as objects; no export has a mount.",
        ),
    ] = "package",
    json: Json = False,
    aws: Chosen,
) -> None:
    """Write a deployment on AWS as a folder for CloudFormation, Terraform or the CDK. Needs no account."""
    from lamella.targets.aws.exporting import export as write
    from lamella.targets.aws.settings import Settings
    from lamella.targets.sources import check_named, name_of, named_source, named_sources

    if len(sources) == 1:
        model, path = named_source(sources[0])
        models = {model or name_of(path): path}
    else:
        models = dict(named_sources(sources))
    check_named(models, name, "give one: `--name app`")
    bare, named = key(name or next(iter(models)), stage)
    memory_mb = None if memory is None else parse_memory_mb(memory)
    settings = Settings(region=region, delivery=delivery, **settings_of(aws))
    with output.status(f"packaging {bare}@{named}"):
        files = write(
            models,
            out,
            format=format,
            settings=settings,
            name=bare,
            stage=named,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
        )
    rows = [(str(path.relative_to(out)), path.stat().st_size) for path in files]
    if json:
        found = [{"file": file, "size": size} for file, size in rows]
        output.json_object("lamella.export/1", {"folder": str(out), "format": format, "files": found})
        return
    output.table(["file", "size"], [(file, output.size(size)) for file, size in rows], right=(1,))
