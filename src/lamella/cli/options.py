"""Flags that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

CUTS = "Where to cut"
INPUTS = "Inputs"
ENGINE = "Engine"
OUTPUT = "Output"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead.", rich_help_panel=OUTPUT)]

Slices = Annotated[
    str | None,
    typer.Option(
        "--slices",
        metavar="N|max",
        envvar="LAMELLA_SLICES",
        rich_help_panel=CUTS,
        help="How many slices, balanced; `max` for one at every legal cut. By default one.",
    ),
]

MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        envvar="LAMELLA_MAX_MEMORY",
        rich_help_panel=CUTS,
        help="As few slices as keep each one's process under this, such as `512MiB` or `1GB`, engine included.",
    ),
]

Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="NAME=FILE",
        rich_help_panel=INPUTS,
        help="An input from a `.npy`, `.npz` or `.json` file; `FILE.npz` alone for all that are in it. Repeatable.",
    ),
]

CustomOps = Annotated[
    list[Path] | None,
    typer.Option(
        "--custom-ops",
        metavar="LIBRARY",
        exists=True,
        dir_okay=False,
        resolve_path=True,  # the loader looks for a name without a folder elsewhere
        envvar="LAMELLA_CUSTOM_OPS",
        rich_help_panel=ENGINE,
        help="A shared library with custom operators. Repeatable.",
    ),
]
