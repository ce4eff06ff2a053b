"""`lamella infer`: a request to a deployment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamella.cli import output
from lamella.cli.deployments import DEPLOYMENT, Model, Stage, address, find, service
from lamella.cli.options import Inputs, Json, OutputFile, Random, Seed
from lamella.cli.places import Profile, Region, Target, found_on_aws
from lamella.cli.views import check_output_file, print_outputs, summary_view
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.gateway.client import Inferred
    from lamella.targets.addresses import Address
    from lamella.targets.aws.later import LaterAnswer
    from lamella.targets.aws.target import AwsTarget
    from lamella.targets.base import DeployedModel, Deployment
    from lamella.tensors import Array, TensorSpec
    from lamella.workflow.request import Answer

REQUEST = "Request"
_TIMES = ("init_ms", "load_ms", "infer_ms", "transfer_ms", "billed_ms")


def infer(
    name: Model,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    version: Annotated[
        str | None,
        typer.Option(
            "--version",
            metavar="N|ALIAS",
            rich_help_panel=DEPLOYMENT,
            help="Ask this version, not the live one; by its number, or a name that `lamella alias` gave it.",
        ),
    ] = None,
    inputs: Inputs = None,
    random: Random = False,
    seed: Seed = 0,
    part: Annotated[
        int | None,
        typer.Option(
            "--slice", metavar="K", min=0, rich_help_panel=REQUEST, help="Run this slice alone, on its inputs."
        ),
    ] = None,
    asynchronous: Annotated[
        bool, typer.Option("--async", rich_help_panel=REQUEST, help="Do not wait; print an id for `--result`.")
    ] = False,
    result: Annotated[
        str | None,
        typer.Option("--result", metavar="ID", rich_help_panel=REQUEST, help="Wait for an earlier request's answer."),
    ] = None,
    file: OutputFile = None,
    json: Json = False,
) -> None:
    """Send a request to a deployment, and show outputs and what each slice did."""
    check_output_file(file, json=json)
    if asynchronous and file is not None:
        raise UsageError("`--async` does not wait for outputs to save", hint="give `-o` with `--result`")
    to = address(name, stage)
    aws = found_on_aws(to.name, to.stage, target=target, region=region, profile=profile)
    deployment = find(to.name, to.stage) if aws is None else aws.find(to.name, stage=to.stage)
    if result is not None:
        if inputs or random or asynchronous or part is not None or version is not None:
            raise UsageError("`--result` is for a request that was sent already", hint="leave the other flags out")
        with output.status(f"waiting for {result}"):
            found = service().result(result) if aws is None else _later(aws.result(to.name, result, stage=to.stage))
        _show(deployment, found, file, json=json)
        return
    if version is not None:
        deployment = deployment.at(version)
    feeds = _feeds(deployment.model(to.model), to, inputs or [], part, random=random, seed=seed)
    if asynchronous:
        _submit(aws, to, feeds, version, part, json=json)
        return
    with output.status(f"asking {to}"):
        if aws is not None:
            answer = aws.infer(to.name, feeds, stage=to.stage, model=to.model, version=version, slice=part)
            found = _inferred(answer)
        else:
            found = service().infer(str(to), feeds, version=version, slice=part)
    _show(deployment, found, file, json=json)


def _feeds(
    model: DeployedModel, to: Address, arguments: list[str], part: int | None, *, random: bool, seed: int
) -> dict[str, Array]:
    """Everything that the model, or one slice, takes; checked before anything is sent."""
    from lamella.cli.inputs import feeds

    required, optional = _specs(model, to, part)
    bounds = model.workflow.index_bounds
    return feeds(arguments, required, optional, bounds=bounds, random=random, seed=seed)


def _specs(model: DeployedModel, to: Address, part: int | None) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    workflow = model.workflow
    if part is None:
        return workflow.inputs, workflow.optional_inputs
    for step in workflow.steps:
        if step.slice == part:
            return step.inputs, step.optional_inputs
    known = ", ".join(str(step.slice) for step in workflow.steps)
    raise UsageError(f"`{to}` has no slice {part}", hint=f"its slices are {known}")


def _inferred(answer: Answer) -> Inferred:
    from lamella.gateway.client import Inferred

    return Inferred(answer.outputs, [asdict(run) for run in answer.timeline], answer.latency_ms, answer.request_id)


def _later(answer: LaterAnswer) -> Inferred:
    from lamella.gateway.client import Inferred

    return Inferred(answer.outputs, [asdict(run) for run in answer.timeline], None, answer.request_id)


def _submit(
    aws: AwsTarget | None,
    to: Address,
    feeds: Mapping[str, Array],
    version: str | None,
    part: int | None,
    *,
    json: bool,
) -> None:
    if aws is None:
        request_id = service().submit(str(to), feeds, version=version, slice=part)
    elif version is not None or part is not None:
        raise UsageError("on AWS `--async` is for all slices of the live version", hint="leave the other flag out")
    else:
        request_id = aws.submit(to.name, feeds, stage=to.stage, model=to.model)
    if json:
        output.json_object("lamella.request/1", {"id": request_id, "status": "running"})
        return
    output.line(request_id)
    output.message(f"its answer: `lamella infer {to} --result {request_id}`")


def _show(deployment: Deployment, found: Inferred, file: str | None, *, json: bool) -> None:
    from lamella.cli.results import save, summary
    from lamella.tensors import TensorSpec

    if file == "-":
        save(output.binary_stdout(), found.outputs)
        return
    summaries = [summary(TensorSpec(name, "", None), array) for name, array in found.outputs.items()]
    if file is not None:
        save(Path(file), found.outputs)
        output.message(f"wrote `{file}`")
    if json:
        content = {
            "name": deployment.name,
            "stage": deployment.stage,
            "request_id": found.request_id,
            "outputs": [summary_view(one) for one in summaries],
            "timeline": found.timeline,
            "latency_ms": found.latency_ms,
        }
        output.json_object("lamella.infer/1", content)
        return
    print_outputs(summaries)
    output.line()
    _print_timeline(found.timeline)
    output.line()
    latency = [] if found.latency_ms is None else [("latency", output.milliseconds(found.latency_ms))]
    output.facts([*latency, ("request", found.request_id)])


def _print_timeline(timeline: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        (
            str(run["slice"]),
            "cold" if run["cold_start"] else "warm",
            *("-" if run[name] is None else output.milliseconds(run[name]) for name in _TIMES),
            "-" if run["max_memory_mb"] is None else f"{run['max_memory_mb']:.0f} MB",
        )
        for run in timeline
    ]
    headers = ["slice", "start", "init", "load", "infer", "transfer", "billed", "memory"]
    output.table(headers, rows, right=(0, 2, 3, 4, 5, 6, 7))
