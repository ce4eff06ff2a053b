"""`lamella package`: what would be deployed, as files or images, without deploying it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lamella.cli import output
from lamella.cli.options import INPUTS, OUTPUT, PLATFORM, Json, Slices
from lamella.cli.sizes import parse_slices

if TYPE_CHECKING:
    from lamella.targets.packages import Packaged

_IMAGES = "Images"
_SHOWN = 5


def package(
    source: Annotated[
        Path, typer.Argument(metavar="SLICES|PLAN.json|MODEL", help="A slices directory, or what to slice first.")
    ],
    *,
    directory: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", rich_help_panel=OUTPUT, help="Where to; with `--push` it may be left out."
        ),
    ] = None,
    format: Annotated[
        Literal["zip", "folder", "oci", "oci-archive"],
        typer.Option(
            "--format",
            rich_help_panel=OUTPUT,
            help="Zip files, folders, images in one OCI layout, or images as tar files for `podman load`.",
        ),
    ] = "zip",
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", rich_help_panel=OUTPUT, help="By default from the model's file."),
    ] = None,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="NAME|FILE.toml",
            envvar="LAMELLA_PLATFORM",
            rich_help_panel=PLATFORM,
            help="Whose limits hold; `lamella platforms` lists them.",
        ),
    ] = "aws-lambda",
    architecture: Annotated[
        Literal["x86_64", "arm64"] | None,
        typer.Option(
            "--architecture",
            envvar="LAMELLA_ARCHITECTURE",
            rich_help_panel=PLATFORM,
            help="Of the functions; by default this machine's.",
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="VERSION",
            envvar="LAMELLA_PYTHON",
            rich_help_panel=PLATFORM,
            help="Of the functions, such as `3.13`; by default this one.",
        ),
    ] = None,
    delivery: Annotated[
        Literal["package", "image", "object-store", "mount"] | None,
        typer.Option(
            "--delivery",
            envvar="LAMELLA_DELIVERY",
            rich_help_panel=OUTPUT,
            help="How the model reaches the functions; by default inside.",
        ),
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URI",
            envvar="LAMELLA_STORE",
            rich_help_panel=OUTPUT,
            help="For the weights: `file:///folder` or `s3://bucket/prefix`.",
        ),
    ] = None,
    mount: Annotated[
        Path | None,
        typer.Option(
            "--mount", metavar="FOLDER", file_okay=False, rich_help_panel=OUTPUT, help="For `--delivery mount`."
        ),
    ] = None,
    base_image: Annotated[
        str | None,
        typer.Option(
            "--base-image",
            metavar="IMAGE|LAYOUT|none",
            envvar="LAMELLA_BASE_IMAGE",
            rich_help_panel=_IMAGES,
            help="What images stand on; by default the platform's image for that Python.",
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="REGISTRY/NAME",
            rich_help_panel=_IMAGES,
            help="Push the images, each with the tag `slice-INDEX`; as whom `podman login` or `docker login` knows.",
        ),
    ] = None,
    plain_http: Annotated[
        bool,
        typer.Option(
            "--plain-http", rich_help_panel=_IMAGES, help="No TLS, also for registries that are not on this machine."
        ),
    ] = False,
    slices: Slices = None,
    no_verify: Annotated[
        bool,
        typer.Option("--no-verify", rich_help_panel=INPUTS, help="Do not compare new slices with the whole model."),
    ] = False,
    json: Json = False,
) -> None:
    """Package a model's slices as zip files, folders or images, and hold them against the platform's limit."""
    from lamella.targets.packages import package as make

    count = None if slices is None else parse_slices(slices)
    with output.status(f"packaging {source}"):
        made = make(
            source,
            directory,
            format=format,
            name=name,
            platform=platform,
            slices=count,
            architecture=architecture,
            python=python,
            delivery=delivery,
            store=store,
            mount=mount,
            base_image=base_image,
            push=push,
            plain_http=plain_http,
            verify=not no_verify,
        )
    if json:
        output.json_object("lamella.package/1", {"packages": [_view(one) for one in made]})
    else:
        _print(made)


def _view(made: Packaged) -> dict[str, object]:
    heaviest = [{"path": path, "bytes": size} for path, size in made.heaviest]
    return {**asdict(made), "path": None if made.path is None else str(made.path), "heaviest": heaviest}


def _print(made: Sequence[Packaged]) -> None:
    rows = [
        (
            one.function,
            output.size(one.size_bytes),
            output.size(one.unpacked_bytes),
            "-" if one.limit_bytes is None else f"{one.unpacked_bytes / one.limit_bytes:.0%}",
            one.digest[:12],
            one.pushed or str(one.path),
        )
        for one in made
    ]
    output.table(["function", "size", "unpacked", "of the limit", "sha256", "where"], rows, right=(1, 2, 3))
    largest = max(made, key=lambda one: one.unpacked_bytes)
    output.line()
    output.table(
        [f"heaviest of {largest.function}", "bytes"],
        [(path, output.count(size)) for path, size in largest.heaviest[:_SHOWN]],
        right=(1,),
    )
    for one in made[:1]:
        if one.format.startswith("oci") and one.base_image is None:
            output.warning("the images have no base: they hold the function alone, and cannot run by themselves")
