"""`lamella plan`: where a model would be cut."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import OUTPUT, CustomOps, Json, MaxMemory, Slices
from lamella.cli.sizes import parse_size, parse_slices
from lamella.cli.views import print_slices, slice_view

if TYPE_CHECKING:
    from lamella.planner.plan import Plan


def plan(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An `.onnx` file.")],
    *,
    slices: Slices = None,
    max_memory: MaxMemory = None,
    file: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            rich_help_panel=OUTPUT,
            help="Write the plan for `lamella slice`; `-` for stdout.",
        ),
    ] = None,
    custom_ops: CustomOps = None,
    json: Json = False,
) -> None:
    """Show where a model would be cut, and what crosses each cut. The weights are never read."""
    wanted = None if slices is None else parse_slices(slices)
    limit = None if max_memory is None else parse_size(max_memory, flag="--max-memory")
    from lamella.graph.reader import load
    from lamella.planner.plan import plan as make_plan
    from lamella.planner.plan_file import write_plan

    with output.status(f"planning {model}"):
        planned = make_plan(load(model), slices=wanted, max_memory_bytes=limit, custom_ops=tuple(custom_ops or ()))
    if file is not None and file != "-":
        write_plan(planned, file)
        output.message(f"wrote `{file}`")
    if json or file == "-":
        output.json_object("lamella.plan/1", _view(planned))
    else:
        _print(planned)


def _view(plan: Plan) -> dict[str, object]:
    """What `plan.json` holds, so that `lamella slice` takes it too, and the estimates."""
    stored = plan.to_json()
    entries = stored["slices"]
    assert isinstance(entries, list)
    views = [{**slice_view(part), **entry} for part, entry in zip(plan.slices, entries, strict=True)]
    return {**stored, "slices": views, "estimated_ms": None, "estimated_usd": None}


def _print(plan: Plan) -> None:
    print_slices(plan)
    output.line()
    count = len(plan.slices)
    largest = max((part.memory_mb << 20 for part in plan.slices), default=0)
    crossing = f", {output.size(sum(plan.crossing_bytes))} cross the cuts" if count > 1 else ""
    output.line(f"{count} slice{'s' * (count != 1)}, the largest takes {output.memory(largest)}{crossing}")
