"""`lamella export`: a deployment on AWS as a folder for another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lamella.cli import output
from lamella.cli.deployments import DEPLOYMENT, Stage, key
from lamella.cli.options import OUTPUT, Json
from lamella.cli.sizes import parse_memory_mb

FUNCTIONS = "Functions"


def export(
    sliced: Annotated[Path, typer.Argument(metavar="SLICES", help="A slices directory.")],
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
        typer.Option("--name", metavar="NAME", rich_help_panel=DEPLOYMENT, help="By default from the model's file."),
    ] = None,
    stage: Stage = None,
    workflow: Annotated[
        Literal["express", "standard", "direct"],
        typer.Option(
            "--workflow",
            rich_help_panel=FUNCTIONS,
            help="Slices joined by Step Functions, of either type, or each invoking the next.",
        ),
    ] = "express",
    architecture: Annotated[
        Literal["x86_64", "arm64"],
        typer.Option("--architecture", envvar="LAMELLA_ARCHITECTURE", rich_help_panel=FUNCTIONS, help="Of functions."),
    ] = "x86_64",
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
    json: Json = False,
) -> None:
    """Write a deployment on AWS as a folder for CloudFormation, Terraform or the CDK. Needs no account."""
    from lamella.targets.aws.exporting import export as write
    from lamella.targets.aws.settings import Settings
    from lamella.targets.sources import name_of

    bare, named = key(name or name_of(sliced), stage)
    memory_mb = None if memory is None else parse_memory_mb(memory)
    settings = Settings(region=region, workflow=workflow, architecture=architecture)
    with output.status(f"packaging {bare}@{named}"):
        files = write(
            sliced,
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
