"""`lamella trigger`: requests that come from new objects, and pings that come from the clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lamella.cli import output
from lamella.cli.deployments import Model, Stage, address, find, service
from lamella.cli.options import Json
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.gateway.events.trigger import Trigger, Warming

OBJECTS = "Objects"
SCHEDULE = "Schedule"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", re.ASCII)
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}

trigger = typer.Typer(
    name="trigger",
    help="Make requests of new objects in a folder or bucket, or keep functions warm.",
    rich_markup_mode="markdown",
)


@trigger.command("add")
def add(
    name: Model,
    *,
    stage: Stage = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="URI",
            rich_help_panel=OBJECTS,
            help="What is watched: a folder, `file:///folder` or `s3://bucket/prefix`.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--output",
            metavar="URI",
            rich_help_panel=OBJECTS,
            help="Where results go: a folder, `s3://...`, `sqlite:///file.db?table=NAME`, "
            "`postgresql://user@host/database?table=NAME&password_env=VARIABLE`, `mysql://...`, `https://...` "
            "(a webhook), or `deployment://NAME@STAGE?output=URI`.",
        ),
    ] = None,
    form: Annotated[
        Literal["json", "text", "tensors"],
        typer.Option("--as", rich_help_panel=OBJECTS, help="What a result becomes as an object."),
    ] = "json",
    dead_letter: Annotated[
        str | None,
        typer.Option(
            "--dead-letter",
            metavar="URI",
            rich_help_panel=OBJECTS,
            help="Where objects go that cannot be answered; by default a folder beside the deployment.",
        ),
    ] = None,
    suffix: Annotated[
        str, typer.Option("--suffix", metavar="TEXT", rich_help_panel=OBJECTS, help="Take only keys that end so.")
    ] = "",
    poll_s: Annotated[
        float,
        typer.Option(
            "--poll-s",
            metavar="N",
            min=0,
            rich_help_panel=OBJECTS,
            help="Seconds between two looks; 1 for a folder and 10 for a bucket by default.",
            show_default=False,
        ),
    ] = 0.0,
    attempts: Annotated[
        int, typer.Option("--attempts", metavar="N", min=1, rich_help_panel=OBJECTS, help="Tries of an object.")
    ] = 5,
    parallel: Annotated[
        int,
        typer.Option("--parallel", metavar="N", min=1, rich_help_panel=OBJECTS, help="Requests at the same time."),
    ] = 4,
    keep_warm: Annotated[
        str | None,
        typer.Option(
            "--keep-warm",
            metavar="TIME",
            rich_help_panel=SCHEDULE,
            help="Ping each function when no request has come for so long, such as `60s` or `5m`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add a trigger: objects that come into `--input`, or `--keep-warm`."""
    from lamella.gateway.events.trigger import Trigger, Warming, to_json

    to = _model(name, stage)
    made: Trigger | Warming
    if keep_warm is not None:
        if source is not None or target is not None:
            raise UsageError(
                "`--keep-warm` is a trigger of its own", hint="add one for `--input` and `--output` as well"
            )
        made = Warming(to, _seconds(keep_warm))
    elif source is None or target is None:
        raise UsageError("`--input` and `--output` belong together", hint="give both, or `--keep-warm 60s`")
    else:
        made = Trigger(to, source, target, form, dead_letter, suffix, poll_s, attempts, parallel)
    found = service().call("POST", f"/lamella/deployments/{to}/triggers", to_json(made))
    if json:
        output.json_object("lamella.trigger/1", found)
    else:
        output.line(found["id"])
        output.message(f"{to}: {_described(found)}")


Id = Annotated[str, typer.Argument(metavar="ID", help="As `lamella trigger list` shows it.")]


@trigger.command("list")
def list_(name: Model, *, stage: Stage = None, json: Json = False) -> None:
    """Show the triggers of a deployment, or of one of its models, and how each goes."""
    to = address(name, stage)
    find(to.name, to.stage)
    found = service().call("GET", f"/lamella/deployments/{to}/triggers")
    if json:
        output.json_object("lamella.triggers/1", found)
    elif not found["triggers"]:
        output.message(f"{to} has no trigger")
    else:
        rows = [
            (entry["id"], entry["deployment"], _described(entry), _progress(entry), _state(entry))
            for entry in found["triggers"]
        ]
        output.table(["id", "deployment", "trigger", "so far", "state"], rows)


@trigger.command("remove")
def remove(
    name: Model,
    trigger_id: Id,
    *,
    stage: Stage = None,
    json: Json = False,
) -> None:
    """Remove a trigger, and what it knows about the objects that it has seen. Objects and results stay."""
    to = address(name, stage)
    find(to.name, to.stage)
    found = service().call("DELETE", f"/lamella/deployments/{to}/triggers/{trigger_id}")
    if json:
        output.json_object("lamella.trigger/1", found)
    else:
        output.message(f"removed {trigger_id}")


@trigger.command("failed")
def failed(name: Model, trigger_id: Id, *, stage: Stage = None, json: Json = False) -> None:
    """Show the objects that a trigger has given up, and why."""
    to = address(name, stage)
    find(to.name, to.stage)
    found = service().call("GET", f"/lamella/deployments/{to}/triggers/{trigger_id}/failed")
    if json:
        output.json_object("lamella.trigger.failed/1", found)
    elif not found["failed"]:
        output.message(f"{trigger_id} has given nothing up")
    else:
        rows = [(entry["key"], str(entry["attempts"]), entry["given_up"], _reason(entry)) for entry in found["failed"]]
        output.table(["key", "tries", "given up", "why"], rows, right=(1,))


@trigger.command("retry")
def retry(
    name: Model,
    trigger_id: Id,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY]...", help="As `lamella trigger failed` shows them; all if none is given."),
    ] = None,
    *,
    stage: Stage = None,
    json: Json = False,
) -> None:
    """Put objects back that a trigger has given up: they are answered as if they were new."""
    to = address(name, stage)
    find(to.name, to.stage)
    path = f"/lamella/deployments/{to}/triggers/{trigger_id}/retry"
    found = service().call("POST", path, {"keys": keys or None})
    if json:
        output.json_object("lamella.trigger.retry/1", found)
    else:
        refused = {key: why for key, why in found["objects"].items() if why is not None}
        for one, why in refused.items():
            output.message(f"`{one}` is left where it is: {why}")
        output.message(f"put back {len(found['objects']) - len(refused)} of {len(found['objects'])}")


def _reason(entry: Mapping[str, Any]) -> str:
    return str(entry["error"]) if entry["hint"] is None else f"{entry['error']} ({entry['hint']})"


def _model(name: str, stage: str | None) -> str:
    """The address of a model that is deployed."""
    to = address(name, stage)
    find(to.name, to.stage).model(to.model)
    return str(to)


def _seconds(text: str) -> float:
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"`{text}` is no time", hint="give one such as `60s`, `5m` or `1h`")
    return float(found[1]) * _SECONDS[found[2]]


def _described(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "objects":
        return f"{entry['input']} to {entry['output']}"
    return f"a ping after {entry['interval_s']:g} s without a request" if entry["kind"] == "keep_warm" else "unknown"


def _progress(entry: Mapping[str, Any]) -> str:
    if entry["kind"] == "objects":
        return f"{entry['done']} done, {entry['given_up']} given up, {entry['waiting']} waiting"
    return f"{entry['pings']} pings" if entry["kind"] == "keep_warm" else "-"


def _state(entry: Mapping[str, Any]) -> str:
    if entry["last_error"]:
        return f"{'' if entry['active'] else 'not active: '}{entry['last_error']}"
    return "active"
