"""`lamella plan`: where a model would be cut, and what that would cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.estimates import (
    alternatives_view,
    estimate_view,
    explanation_view,
    frontier_view,
    plot_frontier,
    print_alternatives,
    print_estimate,
    print_explanation,
    print_frontier,
)
from lamella.cli.options import (
    OUTPUT,
    PLATFORM,
    Architecture,
    Cold,
    CustomOps,
    Dims,
    Inputs,
    Json,
    MaxCost,
    MaxMemory,
    Objective,
    Platform,
    PlatformProfile,
    Slices,
    Slo,
    check_needs_platform,
)
from lamella.cli.profiles import profile_beside
from lamella.cli.sizes import parse_dims, parse_size, parse_slices
from lamella.cli.views import print_slices, slice_view
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.graph.model import Model
    from lamella.planner.goal import Goal
    from lamella.planner.plan import Plan
    from lamella.planner.planning import Planning
    from lamella.planner.profile import Profile


def plan(
    context: typer.Context,
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An `.onnx` file.")],
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
    profile: Annotated[
        bool,
        typer.Option(
            "--profile",
            rich_help_panel=PLATFORM,
            help="Run the model here first, measure its operators, and keep that beside it for this and later plans.",
        ),
    ] = False,
    inputs: Inputs = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            rich_help_panel=OUTPUT,
            help="Show what each estimate is made of, and how far it is off from what was measured.",
        ),
    ] = False,
    pareto: Annotated[
        bool,
        typer.Option("--pareto", rich_help_panel=OUTPUT, help="Show all plans that no other beats in time and price."),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE.svg", rich_help_panel=OUTPUT, help="Draw these plans; with `--pareto`."),
    ] = None,
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
    """Show where a model would be cut, and what that would cost on a platform. Weights are read to measure only."""
    wanted = None if slices is None else parse_slices(slices)
    limit = None if max_memory is None else parse_size(max_memory, flag="--max-memory")
    dims, libraries = parse_dims(dim or []), tuple(custom_ops or ())
    check_needs_platform(
        context,
        platform,
        objective=objective,
        slo_ms=slo_ms,
        max_cost_usd=max_cost_usd,
        cold=cold,
        architecture=architecture,
        platform_profile=platform_profile,
        explain=explain or None,
        pareto=pareto or None,
    )
    _refuse(plot is not None and not pareto, "`--plot` draws what `--pareto` finds", "give both")
    _refuse(pareto and explain, "`--explain` shows one plan, and `--pareto` all", "give one of them")
    _refuse(pareto and file is not None, "`--pareto` finds many plans, and `-o` writes one", "leave one of them out")
    _refuse(bool(inputs) and not profile, "`--input` is what `--profile` runs the model on", "give both")
    from lamella.graph.reader import load

    where, goal = None, None
    if platform is not None:
        _refuse(wanted == "max", "`--slices max` and a platform exclude each other", "give one of them")
        from lamella.planner.planning import goal_of
        from lamella.platforms import load_platform

        count = wanted if isinstance(wanted, int) else None
        goal = goal_of(objective, slo_ms, max_cost_usd, limit, count, cold)
        where = load_platform(platform, profile=platform_profile)
    opened = load(model)
    measured = _profile(opened, measure=profile, inputs=inputs, dims=dims, custom_ops=libraries)
    if where is None or goal is None:
        from lamella.planner.plan import plan as make_plan

        with output.status(f"planning {model}"):
            planned = make_plan(opened, slices=wanted, max_memory_bytes=limit, dims=dims, custom_ops=libraries)
        _show(planned, None, None, file=file, json=json, explain=False)
        return
    from lamella.planner.planning import Planning

    with output.status(f"planning {model}"):
        planning = Planning(
            opened,
            where,
            architecture=architecture,
            profile=measured,
            dims=dims,
            custom_ops=libraries,
        )
    if pareto:
        _show_frontier(planning, goal, plot=plot, json=json)
        return
    with output.status(f"planning {model}"):
        planned = planning.plan(goal)
    _show(planned, planning, goal, file=file, json=json, explain=explain)


def _refuse(contradiction: bool, message: str, hint: str) -> None:
    if contradiction:
        raise UsageError(message, hint=hint)


def _show_frontier(planning: Planning, goal: Goal, *, plot: Path | None, json: bool) -> None:
    with output.status(f"planning {planning.model.path}"):
        found = planning.frontier(goal)
    if plot is not None:
        plot_frontier(plot, planning, found)
        output.message(f"wrote `{plot}`")
    if json:
        output.json_object("lamella.pareto/1", frontier_view(planning, found))
    else:
        print_frontier(found)


def _profile(
    model: Model, *, measure: bool, inputs: list[str] | None, dims: dict[str, int], custom_ops: tuple[Path, ...]
) -> Profile | None:
    """The model's profile: measured now, or the one that lies beside it."""
    from lamella.planner.profile import profile_path, write_profile

    path = profile_path(model.path)
    if measure:
        from lamella.cli.inputs import read_inputs
        from lamella.planner.profiling import measure_profile

        given = read_inputs(inputs, [value.spec for value in model.graph.inputs]) if inputs else None
        with output.status(f"measuring {model.path}"):
            found = measure_profile(model.path, inputs=given, dims=dims, custom_ops=custom_ops)
        write_profile(found, path)
        output.message(f"wrote `{path}`")
        return found
    return profile_beside(model)


def _show(
    planned: Plan, planning: Planning | None, goal: Goal | None, *, file: str | None, json: bool, explain: bool
) -> None:
    from lamella.planner.plan import SCHEMA
    from lamella.planner.plan_file import write_plan

    if file is not None and file != "-":
        write_plan(planned, file)
        output.message(f"wrote `{file}`")
    others = planning.alternatives(goal) if planning is not None and goal is not None and file != "-" else []
    if file == "-":
        output.json_object(SCHEMA, {name: value for name, value in planned.to_json().items() if name != "schema"})
        return
    if json:
        view = _view(planned)
        if planning is not None and goal is not None and planned.estimate is not None:
            view |= estimate_view(planning, goal, planned.estimate)
            if others:
                view["alternatives"] = alternatives_view(others)
            if explain:
                view["explanation"] = explanation_view(planning, planned.estimate)
        output.json_object(SCHEMA, view)
        return
    _print(planned)
    if planning is not None and goal is not None and planned.estimate is not None:
        print_estimate(planning, goal, planned.estimate)
        print_alternatives(planning, others, planned.estimate, goal)
        if explain:
            print_explanation(planning, planned.estimate)


def _view(plan: Plan) -> dict[str, object]:
    """What `plan.json` holds, so that `lamella slice` takes it too, and the estimates."""
    stored = plan.to_json()
    entries = stored["slices"]
    assert isinstance(entries, list)
    views = [{**slice_view(part), **entry} for part, entry in zip(plan.slices, entries, strict=True)]
    found = plan.estimate
    return {
        **stored,
        "slices": views,
        "stages": [list(stage) for stage in plan.stages],
        "estimated_ms": None if found is None else found.warm_ms,
        "estimated_usd": None if found is None else found.warm_usd,
    }


def _print(plan: Plan) -> None:
    print_slices(plan)
    output.line()
    count = len(plan.slices)
    largest = max((part.memory_mb << 20 for part in plan.slices), default=0)
    crossing = f", {output.size(sum(plan.crossing_bytes))} cross the cuts" if count > 1 else ""
    output.line(f"{count} slice{'s' * (count != 1)}, the largest takes {output.memory(largest)}{crossing}")
    for split in plan.splits:
        node = plan.whole.graph.nodes[split.node]
        output.line(
            f"{node.label} runs in {split.parts} parts side by side, `{split.weight}` split along axis {split.axis}"
        )
