"""Where the verbs for deployments look: on this machine, or on AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lamella.cli.deployments import DEPLOYMENT
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.targets.aws.account import Account
    from lamella.targets.aws.stacks import Progress
    from lamella.targets.aws.target import AwsTarget

Target = Annotated[
    Literal["local", "aws"] | None,
    typer.Option(
        "--target",
        envvar="LAMELLA_TARGET",
        rich_help_panel=DEPLOYMENT,
        help="Where it is; by default where it was deployed from here.",
        show_default=False,
    ),
]
Region = Annotated[
    str | None,
    typer.Option(
        "--region",
        metavar="REGION",
        rich_help_panel=DEPLOYMENT,
        help="Of AWS; by default as AWS's own tools find it.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", rich_help_panel=DEPLOYMENT, help="Of the user's AWS configuration."),
]


def found_on_aws(
    name: str, stage: str, *, target: str | None, region: str | None, profile: str | None
) -> AwsTarget | None:
    """The target of a deployment on AWS; None for one on this machine.

    Raises:
        UsageError: It could be either, or a flag contradicts another.
    """
    from lamella.targets.aws.remembered import Remembered
    from lamella.targets.state import State, home_folder

    _check(target, region, profile)
    known = None if target == "local" else Remembered(home_folder()).find(name, stage)
    if target is None and region is None and profile is None:
        if known is None:
            return None
        if State(home_folder() / "deployments").read(name, stage) is not None:
            raise UsageError(
                f"`{name}@{stage}` is deployed on this machine and in `{known.region}` of AWS",
                hint="say which one: `--target local` or `--target aws`",
            )
    if target == "local":
        return None
    if known is not None:
        region, profile = region or known.region, profile or known.profile
    return aws_target(region, profile)


def places_on_aws(
    *, target: str | None, region: str | None, profile: str | None
) -> list[tuple[str | None, str | None]]:
    """Regions and profiles that are meant: those that are named, else where something was deployed from here.

    Raises:
        UsageError: A flag contradicts another.
    """
    from lamella.targets.aws.remembered import Remembered
    from lamella.targets.state import home_folder

    _check(target, region, profile)
    if target == "aws" or region is not None or profile is not None:
        return [(region, profile)]
    if target == "local":
        return []
    return [(place.region, place.profile) for place in Remembered(home_folder()).places()]


def aws_target(region: str | None, profile: str | None) -> AwsTarget:
    """The target, for everything but deploying.

    Raises:
        UsageError: Nobody says which region.
    """
    from lamella.targets.aws.settings import Settings
    from lamella.targets.aws.target import AwsTarget

    account = aws_account(region, profile)
    return AwsTarget(Settings(region=account.region, profile=profile), account=account, told=progress())


def aws_account(region: str | None, profile: str | None) -> Account:
    """The account of the user's credentials.

    Raises:
        UsageError: Nobody says which region.
    """
    from lamella.targets.aws.account import Account

    return Account(region, profile=profile)


def progress() -> Callable[[Progress], None]:
    """Says what has happened to a stack, a line each."""
    from lamella.cli import output

    def told(event: Progress) -> None:
        if not event.status.endswith("_IN_PROGRESS"):
            kind = event.kind.removeprefix("AWS::")
            reason = f": {event.reason}" if event.reason else ""
            output.message(f"{event.status.lower().replace('_', ' ')}  {kind} {event.resource}{reason}")

    return told


def _check(target: str | None, region: str | None, profile: str | None) -> None:
    if target == "local" and (region is not None or profile is not None):
        raise UsageError("this machine has no regions and profiles", hint="leave them out, or say `--target aws`")
