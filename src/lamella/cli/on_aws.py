"""What the verbs for deployments do and show on AWS."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lamella.cli import output
from lamella.errors import LamellaError, UsageError

if TYPE_CHECKING:
    from lamella.targets.aws.price import Estimate
    from lamella.targets.aws.settings import Settings
    from lamella.targets.aws.target import AwsTarget, Preview
    from lamella.targets.base import Deployment, Wanted

BILLED_MS = 100.0
"""What a slice is taken to be billed in a request, where nobody has measured it."""

_REQUESTS = 1000


def deploy(wanted: Wanted, settings: Settings, *, dry_run: bool, yes: bool, json: bool) -> None:
    """Deploy, once somebody has agreed to what changes and what it costs.

    Raises:
        UsageError: Nobody agrees, or there is nobody to ask.
    """
    from lamella.cli.places import aws_account, progress
    from lamella.targets.aws.remembered import Remembered, Somewhere
    from lamella.targets.aws.target import AwsTarget
    from lamella.targets.state import home_folder

    account = aws_account(settings.region, settings.profile)
    target = AwsTarget(settings, account=account, told=progress())
    with output.status(f"packaging {wanted.name}@{wanted.stage}"):
        preview = target.preview(wanted)
    price = _price(wanted, preview)
    found = _previewed(wanted, preview, price)
    if not json:
        _print_preview(preview, price)
    if dry_run:
        if json:
            output.json_object("lamella.deploy/1", found)
        return
    where = f"`{settings.region}` of account {account.number}"
    if not yes and not output.confirmed(f"deploy {wanted.name}@{wanted.stage} to {where}?"):
        raise UsageError("nothing was deployed", hint="say `--yes` to go on without being asked")
    deployment = target.apply(wanted)
    Remembered(home_folder()).keep(wanted.name, wanted.stage, Somewhere(settings.region, settings.profile))
    shown = {**found, **view(target, deployment)}
    if json:
        output.json_object("lamella.deploy/1", shown)
    else:
        output.line()
        show(shown)


def delete(target: AwsTarget, name: str, stage: str, *, yes: bool, json: bool) -> None:
    """Delete a deployment, once somebody has agreed; also one whose record is lost, or that was never finished.

    Raises:
        UsageError: Nobody agrees, or there is nobody to ask.
    """
    from lamella.targets.aws.remembered import Remembered
    from lamella.targets.state import home_folder

    stack = target.stack_of(name, stage=stage)
    if not yes:
        output.message(
            f"this deletes the stack {stack} in {target.region}, with its bucket, functions, images and logs"
        )
        if not output.confirmed("go on?"):
            raise UsageError("nothing was deleted", hint="say `--yes` to go on without being asked")
    target.delete(name, stage=stage)
    Remembered(home_folder()).forget(name, stage)
    if json:
        output.json_object("lamella.delete/1", {"name": name, "stage": stage, "deleted": True})
    else:
        output.message(f"deleted {name}@{stage}")


def view(target: AwsTarget, deployment: Deployment) -> dict[str, Any]:
    """A deployment on AWS, with the JSON keys that one on this machine has."""
    from lamella.gateway.views import deployment_view

    outputs = target.outputs(deployment.name, stage=deployment.stage)
    found = deployment_view(deployment, url="", functions_url="", token_file="")
    doors = _doors(outputs, [model.name for model in deployment.version.models])
    urls = [door["url"] for door in doors if door["kind"] == "http"]
    return {
        **{key: value for key, value in found.items() if key not in ("functions_url", "token_file")},
        "url": urls[0] if len(urls) == 1 else None,
        "front_doors": doors,
        "file_system": outputs.get("FileSystem"),
        "region": target.region,
        "stack": target.stack_of(deployment.name, stage=deployment.stage),
    }


def views(*, target: str | None, region: str | None, profile: str | None) -> list[dict[str, Any]]:
    """Every deployment where it is asked for, or where something was deployed from here.

    Raises:
        LamellaError: AWS refuses. Where nobody asked for AWS, that is a warning: what is on this machine is shown.
    """
    from lamella.cli.places import aws_target, places_on_aws

    found, asked = [], target == "aws" or region is not None or profile is not None
    for place in places_on_aws(target=target, region=region, profile=profile):
        try:
            aws = aws_target(*place)
            found += [view(aws, deployment) for deployment in aws.status()]
        except LamellaError as error:
            if asked:
                raise
            output.warning(f"what is deployed in `{place[0]}` of AWS is not shown: {error}")
    return found


def show(found: Mapping[str, Any]) -> None:
    """Print a deployment."""
    from lamella.cli.deployments import print_functions

    print_functions(found["functions"])
    output.line()
    output.facts(
        [
            ("name", f"{found['name']}@{found['stage']}, version {found['version']}"),
            ("stack", f"{found['stack']} in {found['region']}"),
            ("store", found["store"]),
            *([("file system", found["file_system"])] if found["file_system"] else []),
            *((door["kind"], door["url"]) for door in found["front_doors"]),
        ]
    )


def _doors(outputs: Mapping[str, str], models: Sequence[str]) -> list[dict[str, str]]:
    """Where it answers without Lamella: requests to URLs are signed, or bring a token."""
    from lamella.targets.aws.settings import ObjectEvents

    found = []
    for base in (outputs.get("HttpApi"), outputs.get("FunctionUrl")):
        if base is not None:
            found += [
                {"kind": "http", "model": model, "url": f"{base.rstrip('/')}/v2/models/{model}/infer"}
                for model in models
            ]
    if "Queue" in outputs:
        below = {model: f"{model}/" if len(models) > 1 else "" for model in models}
        inputs = f"{outputs['Store']}/{ObjectEvents().inputs}"
        found += [{"kind": "s3", "model": model, "url": f"{inputs}{below[model]}"} for model in models]
    return found


def _price(wanted: Wanted, preview: Preview) -> Estimate:
    from lamella.targets.aws.price import Usage, estimate

    billed = {function.name: BILLED_MS for function in preview.release.functions if not function.is_door}
    usage = Usage(requests=_REQUESTS, billed_ms=billed, weights_bytes=preview.weights_bytes)
    return estimate(preview.settings, preview.release, usage, platform=wanted.platform)


def _copying(preview: Preview) -> float:
    from lamella.targets.aws.price import copying_usd

    return copying_usd(preview.settings, preview.weights_bytes)


def _previewed(wanted: Wanted, preview: Preview, price: Estimate) -> dict[str, Any]:
    from lamella.gateway.views import change_view

    return {
        "name": wanted.name,
        "stage": wanted.stage,
        "url": None,
        "functions": [],
        "front_doors": [],
        "changes": [change_view(change) for change in preview.changes],
        "estimated_usd_per_1000": price.per_1000_usd,
        "estimated_idle_month_usd": price.idle_month_usd,
        "estimated_copying_usd": _copying(preview),
        "assumed_billed_ms": BILLED_MS,
    }


def _print_preview(preview: Preview, price: Estimate) -> None:
    rows = [(change.action, change.function, change.reason) for change in preview.changes]
    output.table(["change", "function", "reason"], rows)
    output.line()
    copying = _copying(preview)
    requests = f"{price.per_1000_usd:.4f} USD, if a slice is billed {BILLED_MS:g} ms a request"
    output.facts(
        [
            ("estimated, per 1,000 requests", requests),
            ("estimated, per month without any", f"{price.idle_month_usd:.2f} USD"),
            *([("estimated, once, to copy the model", f"{copying:.2f} USD")] if copying else []),
        ]
    )
