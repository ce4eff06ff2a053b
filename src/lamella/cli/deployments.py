"""What the verbs for deployments have in common: their names, and the service behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamella.cli import output

if TYPE_CHECKING:
    from lamella.gateway.client import ServiceClient
    from lamella.targets.addresses import Address
    from lamella.targets.base import Deployment

DEPLOYMENT = "Deployment"

Name = Annotated[str, typer.Argument(metavar="NAME[@STAGE]", help="A deployment; `lamella status` lists them.")]

Model = Annotated[
    str,
    typer.Argument(metavar="NAME[.MODEL][@STAGE]", help="A deployment, or one of its models where there are several."),
]

Stage = Annotated[
    str | None,
    typer.Option(
        "--stage",
        metavar="NAME",
        envvar="LAMELLA_STAGE",
        rich_help_panel=DEPLOYMENT,
        help="Its stage; `dev` by default.",
    ),
]


def key(name: str, stage: str | None) -> tuple[str, str]:
    """Name and stage of `NAME[@STAGE]`; the one in the name goes before the flag.

    Raises:
        UsageError: One of them cannot be that of a deployment, or a model is named.
    """
    from lamella.targets.addresses import read_deployment

    found = _checked(read_deployment(name, stage=stage))
    return found.name, found.stage


def address(name: str, stage: str | None) -> Address:
    """The address in `NAME[.MODEL][@STAGE]`; the stage in it goes before the flag.

    Raises:
        UsageError: One of them cannot be that of a deployment.
    """
    from lamella.targets.addresses import read_address

    return _checked(read_address(name, stage=stage))


def _checked(found: Address) -> Address:
    from lamella.targets.state import check_name

    check_name(found.name, "name")
    check_name(found.stage, "stage")
    if found.model is not None:
        check_name(found.model, "name for a model")
    return found


def find(name: str, stage: str) -> Deployment:
    """What is deployed under a name and stage. Reads a file, and starts nothing.

    Raises:
        NotDeployedError: Nothing is.
    """
    from lamella.targets.state import State, home_folder

    return State(home_folder() / "deployments").find(name, stage)


def service() -> ServiceClient:
    """The service of this user's deployments, started if it does not run. Says if other machines may reach it.

    Raises:
        MissingDependencyError: What it needs is not installed.
        RemoteError: It does not start.
    """
    from lamella.gateway.client import ServiceClient
    from lamella.gateway.starting import started_service
    from lamella.targets.state import home_folder

    address = started_service(home_folder())
    wanted = os.environ.get("LAMELLA_HOST") or address.host
    if wanted != address.host:
        output.warning(
            f"the service runs already, and listens on {address.host}, not on {wanted}: to change that, end it with "
            f"`kill {address.pid}`, and give the command again"
        )
    if address.is_exposed:
        output.warning(address.exposure)
    return ServiceClient(address)


def urls(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where each model of a deployment answers, as facts to print."""
    doors = [door for door in found["front_doors"] if door["kind"] == "http"]
    return [("url" if len(doors) == 1 else f"url of {door['model']}", door["url"]) for door in doors]


def print_functions(functions: Sequence[Mapping[str, Any]]) -> None:
    """Print a deployment's functions as a table."""
    several = len({function["model"] for function in functions}) > 1
    rows = [
        (
            *([function["model"]] if several else []),
            str(function["slice"]),
            function["name"],
            function["version"],
            f"{function['memory_mb']} MB",
            f"{function['timeout_s']:g} s",
            output.size(function["unzipped_bytes"]),
        )
        for function in functions
    ]
    headers = [*(["model"] if several else []), "slice", "function", "version", "memory", "timeout", "package"]
    output.table(headers, rows, right=tuple(column + several for column in (0, 2, 3, 4, 5)))
