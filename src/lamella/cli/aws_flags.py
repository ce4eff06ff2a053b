"""The flags of `lamella deploy --target aws`: each a setting of `lamella.targets.aws.settings`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.targets.aws.settings import Budget, HttpApi, ObjectEvents

AWS = "On AWS"
Chosen = Mapping[str, Any]
"""The flags as they were given, by name."""


def _flags(  # a signature, from which the verb gets its flags
    *,
    architecture: Annotated[
        Literal["x86_64", "arm64"],
        typer.Option("--architecture", envvar="LAMELLA_ARCHITECTURE", rich_help_panel=AWS, help="Of functions."),
    ] = "x86_64",
    python: Annotated[str, typer.Option("--python", metavar="X.Y", rich_help_panel=AWS, help="Of functions.")] = "3.13",
    base_image: Annotated[
        str | None,
        typer.Option(
            "--base-image",
            metavar="IMAGE|LAYOUT",
            envvar="LAMELLA_BASE_IMAGE",
            rich_help_panel=AWS,
            help="What images stand on, with `--delivery image`; by default AWS Lambda's own for that Python.",
        ),
    ] = None,
    file_system: Annotated[
        Literal["efs", "s3-files"] | None,
        typer.Option(
            "--file-system",
            rich_help_panel=AWS,
            help="For `--delivery mount`: EFS, which is the default, or S3 Files, the bucket itself.",
            show_default=False,
        ),
    ] = None,
    workflow: Annotated[
        Literal["express", "standard", "direct"],
        typer.Option(
            "--workflow",
            rich_help_panel=AWS,
            help="Slices joined by Step Functions, of either type, or each invoking the next.",
        ),
    ] = "express",
    http_api: Annotated[
        Literal["iam", "jwt"] | None,
        typer.Option("--http-api", rich_help_panel=AWS, help="An HTTP API, and who may call it.", show_default=False),
    ] = None,
    jwt_issuer: Annotated[
        str | None, typer.Option("--jwt-issuer", metavar="URL", rich_help_panel=AWS, help="Of tokens.")
    ] = None,
    jwt_audience: Annotated[
        list[str] | None,
        typer.Option("--jwt-audience", metavar="NAME", rich_help_panel=AWS, help="Whom tokens are meant for."),
    ] = None,
    function_url: Annotated[
        bool, typer.Option("--function-url", rich_help_panel=AWS, help="A URL for whom IAM allows.")
    ] = False,
    asynchronous: Annotated[
        bool, typer.Option("--async", rich_help_panel=AWS, help="A function answers requests later.")
    ] = False,
    s3_events: Annotated[
        bool, typer.Option("--s3-events", rich_help_panel=AWS, help="Objects in the bucket are requests.")
    ] = False,
    s3_batch: Annotated[
        int, typer.Option("--s3-batch", metavar="N", min=1, rich_help_panel=AWS, help="Objects of one invocation.")
    ] = 1,
    s3_window_s: Annotated[
        int, typer.Option("--s3-window", metavar="S", min=0, rich_help_panel=AWS, help="Seconds to gather them.")
    ] = 0,
    keep_warm: Annotated[
        int | None,
        typer.Option("--keep-warm", metavar="MINUTES", min=1, rich_help_panel=AWS, help="Ping each function so often."),
    ] = None,
    snap_start: Annotated[
        bool, typer.Option("--snap-start", rich_help_panel=AWS, help="New instances begin from a snapshot.")
    ] = False,
    provisioned: Annotated[
        int,
        typer.Option("--provisioned", metavar="N", min=0, rich_help_panel=AWS, help="Instances that are always there."),
    ] = 0,
    concurrency: Annotated[
        str,
        typer.Option(
            "--concurrency",
            metavar="N|none",
            rich_help_panel=AWS,
            help="Most instances of each function; a new account can reserve `none`.",
        ),
    ] = "10",
    temporary: Annotated[
        str, typer.Option("--temporary", metavar="MB|SIZE", rich_help_panel=AWS, help="Each slice's `/tmp`.")
    ] = "512",
    log_days: Annotated[
        int, typer.Option("--log-days", metavar="DAYS", rich_help_panel=AWS, help="How long logs are kept.")
    ] = 14,
    tracing: Annotated[bool, typer.Option("--tracing", rich_help_panel=AWS, help="Trace requests by X-Ray.")] = False,
    budget_usd: Annotated[
        float | None,
        typer.Option("--budget", metavar="USD", rich_help_panel=AWS, help="A monthly sum to be told about."),
    ] = None,
    budget_email: Annotated[
        str | None, typer.Option("--budget-email", metavar="ADDRESS", rich_help_panel=AWS, help="Who is told.")
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option("--tag", metavar="KEY=VALUE", rich_help_panel=AWS, help="On everything; may be repeated."),
    ] = None,
) -> None: ...


_PARAMETERS = inspect.signature(_flags).parameters
_HINTS = get_type_hints(_flags, include_extras=True)


def with_aws_flags(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a verb these flags; it gets all of them together, as its argument `aws`."""

    @wraps(verb)
    def called(**given: Any) -> None:  # noqa: ANN401 - what the command line gives
        aws = {name: given.pop(name) for name in _PARAMETERS}
        verb(**given, aws=aws)

    hints = get_type_hints(verb, include_extras=True) | _HINTS
    parameters = {**inspect.signature(verb).parameters, **_PARAMETERS}
    own = [entry.replace(annotation=hints[name]) for name, entry in parameters.items() if name != "aws"]
    called.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    called.__annotations__ = {name: hint for name, hint in hints.items() if name != "aws"}
    return called


def check_local(region: str | None, profile: str | None, aws: Chosen) -> None:
    """Refuse flags that mean something on AWS only.

    Raises:
        UsageError: One was given.
    """
    if region is not None or profile is not None:
        raise UsageError("this machine has no regions and profiles", hint="say `--target aws`, or leave them out")
    for name, parameter in _PARAMETERS.items():
        if aws[name] != parameter.default:
            flag = _HINTS[name].__metadata__[0].default  # where an `Annotated` option has its name
            raise UsageError(f"`{flag}` is for AWS", hint="say `--target aws`, or leave it out")


def settings_of(aws: Chosen) -> dict[str, Any]:
    """Arguments of `Settings`, but for region, profile and delivery.

    Raises:
        UsageError: A flag makes no sense.
    """
    from lamella.cli.sizes import parse_memory_mb

    return {
        "architecture": aws["architecture"],
        "python": aws["python"],
        "base_image": aws["base_image"],
        "mount": aws["file_system"],
        "workflow": aws["workflow"],
        "http_api": _http_api(aws),
        "function_url": aws["function_url"],
        "asynchronous": aws["asynchronous"],
        "s3_events": _events(aws),
        "keep_warm_minutes": aws["keep_warm"],
        "snap_start": aws["snap_start"],
        "provisioned_concurrency": aws["provisioned"],
        "concurrency": _concurrency(aws["concurrency"]),
        "temporary_mb": parse_memory_mb(aws["temporary"]),
        "log_retention_days": aws["log_days"],
        "tracing": aws["tracing"],
        "budget": _budget(aws),
        "tags": _tags(aws["tag"] or []),
    }


def _http_api(aws: Chosen) -> HttpApi | None:
    from lamella.targets.aws.settings import HttpApi

    issuer, audiences = aws["jwt_issuer"], tuple(aws["jwt_audience"] or ())
    if aws["http_api"] is None:
        if issuer or audiences:
            raise UsageError("an issuer and audiences are an HTTP API's", hint="add `--http-api jwt`")
        return None
    return HttpApi(aws["http_api"], issuer, audiences)


def _events(aws: Chosen) -> ObjectEvents | None:
    from lamella.targets.aws.settings import ObjectEvents

    if not aws["s3_events"]:
        if aws["s3_batch"] != 1 or aws["s3_window_s"]:
            raise UsageError("batches and windows are of objects in the bucket", hint="add `--s3-events`")
        return None
    return ObjectEvents(aws["s3_batch"], aws["s3_window_s"])


def _budget(aws: Chosen) -> Budget | None:
    from lamella.targets.aws.settings import Budget

    usd, email = aws["budget_usd"], aws["budget_email"]
    if (usd is None) != (email is None):
        raise UsageError("a budget is a sum and somebody to tell", hint="give `--budget` and `--budget-email`")
    return None if usd is None else Budget(usd, email)


def _concurrency(text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise UsageError(f"`{text}` is no concurrency", hint="give a number, or `none`")
    return int(text)


def _tags(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        key, mark, value = text.partition("=")
        if not mark:
            raise UsageError(f"`{text}` is no tag", hint="give `KEY=VALUE`")
        found[key] = value
    return found
