"""What the verbs for deployments have in common: their names, and the service behind them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lamella.cli import output

if TYPE_CHECKING:
    from lamella.gateway.client import ServiceClient
    from lamella.targets.base import Deployment

DEPLOYMENT = "Deployment"

Name = Annotated[str, typer.Argument(metavar="NAME[@STAGE]", help="A deployment; `lamella status` lists them.")]

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
        UsageError: One of them cannot be that of a deployment.
    """
    from lamella.targets.base import DEFAULT_STAGE
    from lamella.targets.state import check_name

    bare, _, named = name.partition("@")
    return check_name(bare, "name"), check_name(named or stage or DEFAULT_STAGE, "stage")


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


def print_functions(functions: Sequence[Mapping[str, Any]]) -> None:
    """Print a deployment's functions as a table."""
    rows = [
        (
            str(function["slice"]),
            function["name"],
            function["version"],
            f"{function['memory_mb']} MB",
            f"{function['timeout_s']:g} s",
            output.size(function["unzipped_bytes"]),
        )
        for function in functions
    ]
    output.table(["slice", "function", "version", "memory", "timeout", "package"], rows, right=(0, 2, 3, 4, 5))
