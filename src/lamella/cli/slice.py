"""`lamella slice`: write a model's slices, and prove that they are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamella.cli import output
from lamella.cli.options import (
    CUTS,
    OUTPUT,
    Architecture,
    Cold,
    CustomOps,
    Dims,
    Inputs,
    Json,
    MaxCost,
    MaxMemory,
    NoVerify,
    Objective,
    Platform,
    PlatformProfile,
    Slices,
    Slo,
    check_needs_platform,
    is_on_command_line,
)
from lamella.cli.profiles import profile_beside
from lamella.cli.sizes import parse_dims, parse_size, parse_slices
from lamella.cli.views import placement_view, print_slices, slice_view, warn_of_copies, warn_of_second_names
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.plan import Plan
    from lamella.slicing.write import Sliced
    from lamella.tensors import Array


def slice(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="MODEL|PLAN.json", help="An `.onnx` file, or a plan; `-` for a plan on stdin.")
    ],
    *,
    slices: Slices = None,
    max_memory: MaxMemory = None,
    platform: Platform = None,
    platform_profile: PlatformProfile = None,
    architecture: Architecture = None,
    objective: Objective = None,
    slo_ms: Slo = None,
    max_cost_usd: MaxCost = None,
    cold: Cold = None,
    dim: Dims = None,
    optimize_first: Annotated[
        bool,
        typer.Option(
            "--optimize-first",
            envvar="LAMELLA_OPTIMIZE_FIRST",
            rich_help_panel=CUTS,
            help="Let ONNX Runtime optimise the whole graph before it is cut. Loads the weights once.",
        ),
    ] = False,
    copy_weights: Annotated[
        bool,
        typer.Option(
            "--copy-weights",
            envvar="LAMELLA_COPY_WEIGHTS",
            rich_help_panel=OUTPUT,
            help="Give each slice a copy of its own weights instead of referring to the model's.",
        ),
    ] = False,
    no_verify: NoVerify = False,
    inputs: Inputs = None,
    custom_ops: CustomOps = None,
    directory: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", metavar="DIR", rich_help_panel=OUTPUT, help="A folder; by default `<model>.slices`."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Cut a model into slice files, and verify them against the whole model."""
    wanted = None if slices is None else parse_slices(slices)
    limit = None if max_memory is None else parse_size(max_memory, flag="--max-memory")
    from lamella.slicing.write import UnverifiedError
    from lamella.slicing.write import slice as write_slices

    libraries = tuple(custom_ops or ())
    opened = _open(source, libraries)
    model = _model(opened)
    goal = {"objective": objective, "slo_ms": slo_ms, "max_cost_usd": max_cost_usd, "cold": cold}
    check_needs_platform(
        context, platform, **goal, architecture=architecture, platform_profile=platform_profile, dim=dim or None
    )
    if platform is not None and (model is opened or is_on_command_line(context, "platform")):
        opened = _planned(
            opened,
            platform,
            platform_profile,
            slices=wanted,
            max_memory_bytes=limit,
            architecture=architecture,
            dims=parse_dims(dim or []),
            custom_ops=libraries,
            **goal,
        )
        wanted = limit = None
    directory = directory or Path(f"{model.path.stem}.slices")
    failure = None
    with output.status(f"slicing {model.path}"):
        try:
            sliced = write_slices(
                opened,
                directory,
                slices=wanted,
                max_memory_bytes=limit,
                copy_weights=copy_weights,
                optimize_first=optimize_first,
                verify=not no_verify,
                inputs=_given(inputs, model),
                custom_ops=libraries,
            )
        except UnverifiedError as error:
            sliced, failure = error.sliced, error
    warn_of_copies(sliced.placements)
    warn_of_second_names(sliced.placements)
    if json:
        output.json_object("lamella.slice/1", _view(sliced))
    elif failure is None:
        _print(sliced)
    if failure is not None:
        raise failure


def _open(source: str, custom_ops: tuple[Path, ...]) -> Plan | Model:
    from lamella.graph.reader import load
    from lamella.planner.plan_file import STDIN, read_plan

    if source == "-":
        return read_plan(STDIN, custom_ops=custom_ops)
    return read_plan(source, custom_ops=custom_ops) if source.lower().endswith(".json") else load(source)


def _planned(opened: Plan | Model, platform: str, platform_profile: str | None, **arguments: Any) -> Plan:  # noqa: ANN401
    """The plan for a platform, with the profile that lies beside the model."""
    from lamella.graph.model import Model
    from lamella.planner.plan import plan
    from lamella.platforms import load_platform

    if not isinstance(opened, Model):
        raise UsageError("a plan says already where to cut", hint="give the model itself, or leave `--platform` out")
    where = load_platform(platform, profile=platform_profile)
    return plan(opened, platform=where, profile=profile_beside(opened), **arguments)


def _model(opened: Plan | Model) -> Model:
    from lamella.graph.model import Model

    return opened if isinstance(opened, Model) else opened.model


def _given(inputs: list[str] | None, model: Model) -> dict[str, Array] | None:
    if not inputs:
        return None
    from lamella.cli.inputs import read_inputs

    return read_inputs(inputs, [value.spec for value in model.graph.inputs])


def _view(sliced: Sliced) -> dict[str, object]:
    from lamella.runtime.memory import peak_rss_bytes

    entries = zip(sliced.plan.slices, sliced.manifest.slices, strict=True)
    found = sliced.verification
    return {
        "directory": str(sliced.directory),
        "model": str(sliced.plan.model.path),
        "slices": [
            {**slice_view(part), "file": entry.file, "size": entry.size, "sha256": entry.sha256}
            for part, entry in entries
        ],
        "crossing_bytes": list(sliced.plan.crossing_bytes),
        "optimized": sliced.manifest.optimized,
        "verified": sliced.manifest.verified,
        "max_abs_diff": None if found is None else found.max_abs_diff,
        "max_rel_diff": None if found is None else found.max_rel_diff,
        "random_outputs": [] if found is None else list(found.random_outputs),
        "placements": [placement_view(placement) for placement in sliced.placements],
        "seconds": sliced.seconds,
        "peak_rss_bytes": peak_rss_bytes(),
    }


def _print(sliced: Sliced) -> None:
    from lamella.runtime.memory import peak_rss_bytes

    print_slices(sliced.plan)
    output.line()
    methods = sorted({placement.method for placement in sliced.placements})
    output.facts(
        [
            ("directory", str(sliced.directory)),
            ("weights", ", ".join(methods) or "inside the slices"),
            ("verified", _verdict(sliced)),
            ("written in", output.milliseconds(sliced.seconds * 1000)),
            ("peak memory", output.memory(peak_rss_bytes())),
        ]
    )


def _verdict(sliced: Sliced) -> str:
    found = sliced.verification
    if found is None:
        return "no"
    for name in found.random_outputs:
        output.warning(f"output `{name}` is random in the model itself, and was not compared")
    if found.max_abs_diff == 0:
        return "equal to the whole model, with no difference"
    return f"equal to the whole model within {found.max_abs_diff:.3g} (relative {found.max_rel_diff:.3g})"
