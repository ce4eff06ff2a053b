"""Flags that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lamella.errors import UsageError

CUTS = "Where to cut"
PLATFORM = "Platform"
INPUTS = "Inputs"
TASK = "Task"
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
        help="How many slices, balanced; `max` for one at every legal cut. By default one; on a platform, the best.",
    ),
]

MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        metavar="SIZE",
        envvar="LAMELLA_MAX_MEMORY",
        rich_help_panel=CUTS,
        help="As few slices as keep each one's process under this, like `512MiB`; on a platform, the largest function.",
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

Task = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="NAME",
        envvar="LAMELLA_TASK",
        rich_help_panel=TASK,
        help="Give it images or texts and show answers: `image-classification`, `object-detection`, "
        "`question-answering`, `feature-extraction` or `custom`. `--input` is then a file.",
    ),
]

TaskFolder = Annotated[
    Path | None,
    typer.Option(
        "--task-folder",
        metavar="DIR",
        envvar="LAMELLA_TASK_FOLDER",
        rich_help_panel=TASK,
        help="Where the model's tokeniser, labels and configuration lie; by default beside it.",
    ),
]

TaskSettings = Annotated[
    list[str] | None,
    typer.Option(
        "--task-setting",
        metavar="KEY=VALUE",
        rich_help_panel=TASK,
        help="What differs from these files, such as `top_k=3`. Repeatable.",
    ),
]

Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="TEXT", rich_help_panel=TASK, help="A text for the task. Repeatable."),
]

Random = Annotated[
    bool, typer.Option("--random", rich_help_panel=INPUTS, help="Make up the inputs that are not given.")
]

Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        min=0,
        metavar="N",
        envvar="LAMELLA_SEED",
        rich_help_panel=INPUTS,
        help="Seed of the made-up inputs.",
    ),
]

OutputFile = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE.npz", rich_help_panel=OUTPUT, help="Save the outputs; `-` for stdout."
    ),
]

NoVerify = Annotated[
    bool, typer.Option("--no-verify", rich_help_panel=INPUTS, help="Do not compare slices with the whole model.")
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

Engine = Annotated[
    Literal["onnxruntime", "openvino", "opencv"] | None,
    typer.Option(
        "--engine",
        envvar="LAMELLA_ENGINE",
        rich_help_panel=ENGINE,
        help="What executes the model; by default ONNX Runtime, or the one whose own format the file has.",
    ),
]

ExecutionProviders = Annotated[
    list[str] | None,
    typer.Option(
        "--execution-provider",
        metavar="NAME[:KEY=VALUE,...]",
        envvar="LAMELLA_EXECUTION_PROVIDER",
        rich_help_panel=ENGINE,
        help="What ONNX Runtime runs on, such as `cuda` or `cuda:device_id=1`. Repeatable, the most wanted first.",
    ),
]

NoFallback = Annotated[
    bool,
    typer.Option(
        "--no-fallback",
        envvar="LAMELLA_NO_FALLBACK",
        rich_help_panel=ENGINE,
        help="Fail instead of letting the CPU run what these execution providers cannot.",
    ),
]

Precision = Annotated[
    Literal["f32", "bf16", "f16"],
    typer.Option(
        "--precision", envvar="LAMELLA_PRECISION", rich_help_panel=ENGINE, help="What OpenVINO computes FP32 in."
    ),
]

Platform = Annotated[
    str | None,
    typer.Option(
        "--platform",
        metavar="NAME|FILE.toml",
        envvar="LAMELLA_PLATFORM",
        rich_help_panel=PLATFORM,
        help="Where it will run, such as `aws-lambda`; `lamella platforms` lists them.",
    ),
]

PlatformProfile = Annotated[
    str | None,
    typer.Option(
        "--platform-profile",
        metavar="NAME",
        envvar="LAMELLA_PLATFORM_PROFILE",
        rich_help_panel=PLATFORM,
        help="A variant of the platform, such as `new-account`.",
    ),
]

Architecture = Annotated[
    Literal["x86_64", "arm64"] | None,
    typer.Option(
        "--architecture",
        envvar="LAMELLA_ARCHITECTURE",
        rich_help_panel=PLATFORM,
        help="Of the functions; by default the platform's first.",
    ),
]

Objective = Annotated[
    Literal["latency", "cost", "memory"] | None,
    typer.Option(
        "--objective",
        envvar="LAMELLA_OBJECTIVE",
        rich_help_panel=CUTS,
        help="What is to be least: the time of a request (the default), its price, or the largest function.",
    ),
]

Slo = Annotated[
    float | None,
    typer.Option(
        "--slo-ms",
        metavar="MS",
        envvar="LAMELLA_SLO_MS",
        rich_help_panel=CUTS,
        help="The longest that a request may take.",
    ),
]

MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost-usd",
        metavar="USD",
        envvar="LAMELLA_MAX_COST_USD",
        rich_help_panel=CUTS,
        help="The most that one request may cost.",
    ),
]

Cold = Annotated[
    Literal["sequential", "parallel"] | None,
    typer.Option(
        "--cold",
        envvar="LAMELLA_COLD",
        rich_help_panel=CUTS,
        help="Plan for the request that finds no instances: started one after the other, or all with the request.",
    ),
]

Dims = Annotated[
    list[str] | None,
    typer.Option(
        "--dim",
        metavar="NAME=N",
        rich_help_panel=INPUTS,
        help="Size of a symbolic dimension, such as `sequence=128`; the others are assumed. Repeatable.",
    ),
]


def check_needs_platform(context: typer.Context, platform: str | None, **flags: object) -> None:
    """Refuse flags that were given and mean nothing without a platform.

    Raises:
        UsageError: There is one.
    """
    given = [name for name, value in flags.items() if value is not None and is_on_command_line(context, name)]
    if given and platform is None:
        raise UsageError(
            f"`--{given[0].replace('_', '-')}` means something on a platform only",
            hint="add `--platform`; `lamella platforms` lists them",
        )


def is_on_command_line(context: typer.Context, name: str) -> bool:
    """Whether a flag was given there, and not by a variable or default."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"
