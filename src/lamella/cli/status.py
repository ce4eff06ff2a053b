"""`lamella status`: what is deployed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer

from lamella.cli import on_aws, output
from lamella.cli.deployments import Stage, find, key, print_functions, service, urls
from lamella.cli.options import Json
from lamella.cli.places import Profile, Region, Target, found_on_aws


def status(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME[@STAGE]]", help="One deployment; all by default.", show_default=False)
    ] = None,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    json: Json = False,
) -> None:
    """Show what is deployed, and where it answers."""
    wanted = None if name is None else key(name, stage)
    if wanted is not None:
        aws = found_on_aws(*wanted, target=target, region=region, profile=profile)
        if aws is not None:
            _show_on_aws(on_aws.view(aws, aws.find(wanted[0], stage=wanted[1])), json=json)
            return
        find(*wanted)
    local = _deployments() if target != "aws" and region is None and profile is None else []
    elsewhere = [] if wanted else on_aws.views(target=target, region=region, profile=profile)
    deployments = [
        found
        for found in (*local, *elsewhere)
        if wanted in (None, (found["name"], found["stage"])) and (stage is None or name or found["stage"] == stage)
    ]
    if wanted is not None and not deployments:
        find(*wanted)  # deleted meanwhile, which this says
    if json:
        output.json_object("lamella.status/1", {"deployments": deployments})
    elif wanted is not None:
        _print_one(deployments[0])
    else:
        _print_all(deployments, stage)


def _show_on_aws(found: Mapping[str, Any], *, json: bool) -> None:
    if json:
        output.json_object("lamella.status/1", {"deployments": [found]})
    else:
        on_aws.show(found)


def _deployments() -> list[dict[str, Any]]:
    """What the service hosts; it is not started for nothing."""
    from lamella.targets.state import State, home_folder

    if State(home_folder() / "deployments").is_empty():
        return []
    found: list[dict[str, Any]] = service().call("GET", "/lamella/deployments")["deployments"]
    return found


def _print_all(deployments: Sequence[Mapping[str, Any]], stage: str | None) -> None:
    if not deployments:
        output.message("nothing is deployed" if stage is None else f"nothing is deployed to the stage `{stage}`")
        return
    rows = [row for found in deployments for row in _rows(found)]
    output.table(["deployment", "version", "model", "functions", "target", "platform", "url"], rows, right=(1, 3))


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """A row for each model, by its full name in requests."""
    urls = {door["model"]: door["url"] for door in found["front_doors"] if door["kind"] == "http"}
    for model in found["models"]:
        name = found["name"] if len(found["models"]) == 1 else f"{found['name']}.{model['name']}"
        yield (
            f"{name}@{found['stage']}",
            str(found["version"]),
            model["file"],
            str(sum(function["model"] == model["name"] for function in found["functions"])),
            found["target"],
            found["platform"],
            urls.get(model["name"], found.get("stack", "")),
        )


def _print_one(found: Mapping[str, Any]) -> None:
    output.facts(
        [
            ("deployment", f"{found['name']}@{found['stage']}"),
            ("model", ", ".join(model["file"] for model in found["models"])),
            ("target", f"{found['target']}, with the limits of {found['platform']}"),
            ("delivery", found["delivery"]),
            *urls(found),
            ("token", found["token_file"]),
            ("functions", f"{found['functions_url']} (the API of AWS Lambda)"),
            ("store", found["store"]),
        ]
    )
    output.line()
    versions = [
        (
            str(version["version"]),
            ", ".join([*(["live"] if version["version"] == found["version"] else []), *version["aliases"]]),
            version["created"],
            ", ".join(version["models"]),
        )
        for version in found["versions"]
    ]
    output.table(["version", "", "deployed", "model"], versions, right=(0,))
    output.line()
    print_functions(found["functions"])
