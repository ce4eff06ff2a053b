"""`lamella deploy`: slices as functions, behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lamella.cli import on_aws, output
from lamella.cli.aws_flags import Chosen, check_local, settings_of, with_aws_flags
from lamella.cli.deployments import DEPLOYMENT, Stage, key, print_functions, service, urls
from lamella.cli.options import Json, NoVerify, Slices
from lamella.cli.places import Profile, Region, aws_account
from lamella.cli.sizes import parse_memory_mb, parse_slices

if TYPE_CHECKING:
    from lamella.runtime.function import Delivery
    from lamella.targets.aws.settings import Settings
    from lamella.targets.base import Wanted

FUNCTIONS = "Functions"


@with_aws_flags
def deploy(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]SLICES|PLAN.json|MODEL",
            help="A slices directory, or what to slice first; several become the models of one deployment.",
        ),
    ],
    *,
    target: Annotated[
        Literal["local", "aws"],
        typer.Option("--target", envvar="LAMELLA_TARGET", rich_help_panel=DEPLOYMENT, help="Where to."),
    ] = "local",
    region: Region = None,
    profile: Profile = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="NAME",
            rich_help_panel=DEPLOYMENT,
            help="By default from the model's file; needed for several.",
        ),
    ] = None,
    stage: Stage = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", rich_help_panel=DEPLOYMENT, help="Only say what would change.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", rich_help_panel=DEPLOYMENT, help="Do not ask: on AWS, deploying costs money.")
    ] = False,
    platform: Annotated[
        str,
        typer.Option(
            "--platform",
            metavar="NAME|FILE.toml",
            envvar="LAMELLA_PLATFORM",
            rich_help_panel=FUNCTIONS,
            help="Whose limits hold; `lamella platforms` lists them.",
        ),
    ] = "aws-lambda",
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="MB|SIZE",
            envvar="LAMELLA_MEMORY",
            rich_help_panel=FUNCTIONS,
            help="Memory of every function, such as `1769` or `2GB`; by default as planned for a platform, else "
            "what it needs, and 512 MB at least.",
            show_default=False,
        ),
    ] = None,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout", metavar="S", min=0.1, rich_help_panel=FUNCTIONS, help="Seconds that a slice may take at most."
        ),
    ] = 60.0,
    delivery: Annotated[
        Literal["package", "image", "object-store", "mount"],
        typer.Option(
            "--delivery",
            envvar="LAMELLA_DELIVERY",
            rich_help_panel=FUNCTIONS,
            help="How the model reaches them: in the package or image, from a store, or on a mount.",
        ),
    ] = "package",
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URI",
            envvar="LAMELLA_STORE",
            rich_help_panel=FUNCTIONS,
            help="For weights and large values: `file:///folder` or `s3://bucket/prefix`; a folder by default.",
        ),
    ] = None,
    mount: Annotated[
        Path | None,
        typer.Option(
            "--mount",
            metavar="FOLDER",
            file_okay=False,
            rich_help_panel=FUNCTIONS,
            help="For `--delivery mount` here.",
        ),
    ] = None,
    cold: Annotated[
        Literal["sequential", "parallel"] | None,
        typer.Option(
            "--cold",
            envvar="LAMELLA_COLD",
            rich_help_panel=FUNCTIONS,
            help="Start functions one after the other, or all with the first request.",
        ),
    ] = None,
    slices: Slices = None,
    no_verify: NoVerify = False,
    json: Json = False,
    aws: Chosen,
) -> None:
    """Deploy models in slices, each in a function of its own. What was deployed before can be rolled back to."""
    from lamella.packaging.cache import scratch
    from lamella.platforms import load_platform
    from lamella.targets.base import Wanted
    from lamella.targets.local.serving import require_aiohttp
    from lamella.targets.sources import models_of
    from lamella.targets.state import home_folder

    given = _given(sources, name)
    settings = None
    if target == "aws":
        settings = _settings(aws, region, profile, delivery)
    else:
        check_local(region, profile, aws)
        require_aiohttp()  # before anything takes its time
    platform = str(Path(platform).absolute()) if platform.endswith(".toml") else platform
    limits, home = load_platform(platform), home_folder()
    memory_mb = None if memory is None else parse_memory_mb(memory)
    count = None if slices is None else parse_slices(slices)
    with scratch(home) as folder:
        with output.status(f"slicing {', '.join(sources)}"):
            models = models_of(given, folder / "slices", platform=limits, slices=count, cold=cold, verify=not no_verify)
        bare, named = key(name or next(iter(models)), stage)
        wanted = Wanted(
            name=bare,
            stage=named,
            models=models,
            platform=limits,
            platform_source=platform,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            delivery=delivery,
            store=str(Path(store).absolute()) if store is not None and "://" not in store else store,
            mount=None if mount is None else mount.absolute(),
            cold=cold,
            temporary_mb=512 if settings is None else settings.temporary_mb,
        )
        if settings is not None:
            on_aws.deploy(wanted, settings, dry_run=dry_run, yes=yes, json=json)
            return
        with output.status(f"deploying {bare}@{named}"):
            found = _changes(wanted, home) if dry_run else _deployed(wanted)
    if json:
        output.json_object("lamella.deploy/1", found)
    else:
        _print(found, dry_run=dry_run)


def _settings(aws: Chosen, region: str | None, profile: str | None, delivery: Delivery) -> Settings:
    """How a deployment on AWS is set up, checked before anything takes its time."""
    from lamella.targets.aws.settings import Settings

    place = aws_account(region, profile).region
    given = settings_of(aws)
    if delivery == "mount" and given["mount"] is None:
        given["mount"] = "efs"
    settings = Settings(region=place, profile=profile, delivery=delivery, **given)
    settings.check()
    return settings


def _given(sources: Sequence[str], name: str | None) -> Path | Mapping[str, Path]:
    """One model, called by its own file, or models by their names."""
    from lamella.targets.sources import check_named, named_source, named_sources

    if len(sources) == 1:
        model, path = named_source(sources[0])
        return path if model is None else {model: path}
    found = named_sources(sources)
    check_named(found, name, "give one: `--name app`")
    return found


def _changes(wanted: Wanted, home: Path) -> dict[str, Any]:
    from lamella.gateway.views import change_view
    from lamella.targets.local.target import LocalTarget

    changes = [change_view(change) for change in LocalTarget(home).diff(wanted)]
    return {
        "name": wanted.name,
        "stage": wanted.stage,
        "url": None,
        "functions": [],
        "front_doors": [],
        "changes": changes,
    }


def _deployed(wanted: Wanted) -> dict[str, Any]:
    from lamella.gateway.views import wanted_view

    return service().call("POST", "/lamella/deployments", wanted_view(wanted))


def _print(found: Mapping[str, Any], *, dry_run: bool) -> None:
    _print_changes(found["changes"])
    if dry_run:
        return
    output.line()
    print_functions(found["functions"])
    output.line()
    output.facts(
        [
            ("name", f"{found['name']}@{found['stage']}, version {found['version']}"),
            *urls(found),
            ("token", found["token_file"]),
            ("functions", f"{found['functions_url']} (the API of AWS Lambda)"),
        ]
    )


def _print_changes(changes: Sequence[Mapping[str, str]]) -> None:
    rows = [(change["action"], change["function"], change["reason"]) for change in changes]
    output.table(["change", "function", "reason"], rows)
