"""What settings and a release contradict: each found before anything is asked of AWS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import get_args

from lamella.errors import UsageError
from lamella.packaging.images.bases import NO_BASE, is_layout
from lamella.packaging.images.references import parse_reference
from lamella.platforms.base import Architecture
from lamella.runtime.function import Delivery
from lamella.targets.aws.release import ImageCode, Release, needs_door
from lamella.targets.aws.settings import Budget, HttpApi, MountKind, ObjectEvents, Settings, WorkflowKind

EXPRESS_S = 300
"""An Express workflow's longest. https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

SNAP_START_TEMPORARY_MB = 512
"""https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html (supported features and limitations)"""

SNAP_START_PYTHON = (3, 12)

BATCH_MOST, BATCH_WITHOUT_WINDOW, WINDOW_MOST_S = 10_000, 10, 300
"""https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html"""

RETENTION_DAYS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)
"""https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html"""

OWN_PREFIXES = ("lamella/", "mount/", "packages/", "requests/", "results/", "weights/")
"""What the bucket holds beside the user's objects."""

MOST_TAGS = 45
"""50 a resource; CloudFormation and Lamella add some. https://docs.aws.amazon.com/tag-editor/latest/userguide/"""

_TEMPORARY_MB = (512, 10_240)  # https://docs.aws.amazon.com/lambda/latest/api/API_EphemeralStorage.html
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
_TAG = re.compile(r"[\w .:/=+@-]*")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.-]*/")


def check_region(region: str) -> None:
    """Refuse what cannot be the name of a region.

    Raises:
        UsageError: It cannot.
    """
    if not _REGION.fullmatch(region):
        raise UsageError(f"`{region}` is no region of AWS", hint="give one such as `eu-central-1`")


def check_settings(settings: Settings) -> None:
    """Refuse settings that contradict each other, or that AWS does not offer.

    Raises:
        UsageError: The text names both sides and the limit.
    """
    check_region(settings.region)
    _check_choices(settings)
    _check_base_image(settings)
    _check_mount(settings)
    _check_snap_start(settings)
    _check_concurrency(settings)
    _check_range("temporary storage in MB", settings.temporary_mb, *_TEMPORARY_MB)
    if settings.http_api is not None:
        _check_http_api(settings.http_api)
    if settings.s3_events is not None:
        _check_events(settings.s3_events)
    if settings.keep_warm_minutes is not None:
        _check_range("minutes between signs of life", settings.keep_warm_minutes, 1, 24 * 60)
    if settings.log_retention_days not in RETENTION_DAYS:
        close = min(RETENTION_DAYS, key=lambda days: abs(days - settings.log_retention_days))
        raise UsageError(
            f"logs cannot be kept for {settings.log_retention_days} days", hint=f"CloudWatch offers {close} days"
        )
    if settings.budget is not None:
        _check_budget(settings.budget)
    _check_tags(settings)


def check_release(settings: Settings, release: Release) -> None:
    """Refuse a release that these settings cannot run.

    Raises:
        UsageError: The text names the model or function and the limit.
    """
    for model in release.models:
        kind = model.kind(settings)
        if kind == "single" and len(model.workflow.steps) != 1:
            raise UsageError(
                f"`{model.name}` has {len(model.workflow.steps)} slices, and workflow `single` runs one",
                hint="use `express`, `standard` or `direct`",
            )
        if kind == "direct" and not model.is_chain:
            raise UsageError(
                f"slices of `{model.name}` run side by side, and with workflow `direct` each only invokes the next",
                hint="use `express` or `standard`",
            )
        if kind == "express":
            _check_express(release, model.name)
    if needs_door(settings, release.models) and not any(function.is_door for function in release.functions):
        raise UsageError("these models need a door of their own", hint="deploy with the door's function")
    if settings.has_front_door and release.door is None:
        raise UsageError("a front door needs a function behind it", hint="deploy with the door's function")


def check_kept(releases: Sequence[Release]) -> None:
    """Refuse releases that one stack cannot hold: a function is of zip files or of images for good.

    https://docs.aws.amazon.com/lambda/latest/dg/images-create.html (a function's package type cannot be changed)

    Raises:
        UsageError: A function has been of the other kind.
    """
    kinds: dict[str, type] = {}
    for release in releases:
        for function in release.functions:
            kind = type(function.code)
            if kinds.setdefault(function.name, kind) is not kind:
                new = "an image" if kind is ImageCode else "a zip file"
                raise UsageError(
                    f"`{function.name}` cannot become {new}: AWS keeps what a function is made of",
                    hint="deploy under another name or stage, or delete the deployment first",
                )


def _check_choices(settings: Settings) -> None:
    _check_choice("architecture", settings.architecture, get_args(Architecture))
    _check_choice("delivery", settings.delivery, get_args(Delivery))
    _check_choice("workflow", settings.workflow, get_args(WorkflowKind))
    if settings.mount is not None:
        _check_choice("kind of mount", settings.mount, get_args(MountKind))


def _check_choice(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"there is no {what} `{value}`", hint=f"there is {', '.join(f'`{one}`' for one in known)}")


def _check_range(what: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{what}: {value} is out of range", hint=f"give {least} to {most:,}")


def _check_base_image(settings: Settings) -> None:
    base = settings.base_image
    if base is None:
        return
    if settings.delivery != "image":
        raise UsageError(
            f"a base image needs images, and delivery `{settings.delivery}` has none", hint="deliver by `image`"
        )
    if base == NO_BASE:
        raise UsageError("an image without a base cannot run on AWS", hint="name a base image, or leave it out")
    if not is_layout(base):
        parse_reference(base)


def _check_mount(settings: Settings) -> None:
    if (settings.delivery == "mount") != (settings.mount is not None):
        if settings.mount is None:
            raise UsageError("delivery `mount` needs a kind of file system", hint="choose `efs` or `s3-files`")
        raise UsageError(
            f"delivery `{settings.delivery}` has no use for a file system (`{settings.mount}`)",
            hint="deliver by `mount`",
        )
    if settings.mount is not None and settings.workflow == "direct":
        raise UsageError(
            "with delivery `mount` functions are in a network of their own, from which they cannot invoke the next one",
            hint="use workflow `express` or `standard`: a way to AWS Lambda would cost 15 USD a month, idle or not",
        )


def _check_snap_start(settings: Settings) -> None:
    if not settings.snap_start:
        return
    for other, given in (
        ("provisioned concurrency", settings.provisioned_concurrency > 0),
        (f"the mount `{settings.mount}`", settings.mount is not None),
        (f"{settings.temporary_mb} MB of temporary storage", settings.temporary_mb > SNAP_START_TEMPORARY_MB),
        (f"Python {settings.python}", _version(settings.python) < SNAP_START_PYTHON),
    ):
        if given:
            raise UsageError(
                f"SnapStart does not go with {other}",
                hint=f"choose one; SnapStart needs Python 3.12 or newer, no mount, and {SNAP_START_TEMPORARY_MB} MB of "
                "temporary storage",
            )


def _version(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split("."))
    except ValueError as error:
        raise UsageError(f"`{text}` is no version of Python", hint="give one such as `3.13`") from error


def _check_concurrency(settings: Settings) -> None:
    cap, kept = settings.concurrency, settings.provisioned_concurrency
    if cap is not None and cap < 1:
        raise UsageError(f"a concurrency of {cap} lets no request run", hint="give at least 1")
    if kept < 0:
        raise UsageError(f"a provisioned concurrency of {kept} makes no sense", hint="give 0 for none")
    if cap is not None and kept > cap:
        raise UsageError(
            f"a provisioned concurrency of {kept} is above the concurrency of {cap}", hint="raise the concurrency"
        )


def _check_http_api(api: HttpApi) -> None:
    if api.auth == "iam" and (api.issuer or api.audiences):
        raise UsageError("an issuer and audiences mean something with `jwt` only", hint="use `jwt`, or leave them out")
    if api.auth == "iam":
        return
    _check_choice("authorization", api.auth, ("iam", "jwt"))
    if not api.issuer or not api.issuer.startswith("https://"):
        raise UsageError("`jwt` needs the issuer of the tokens", hint="give its `https://` URL")
    if not api.audiences:
        raise UsageError(
            "`jwt` needs an audience", hint="say whom tokens are meant for, else any of the issuer's opens"
        )


def _check_events(events: ObjectEvents) -> None:
    _check_range("objects of one batch", events.batch_size, 1, BATCH_MOST)
    _check_range("seconds that objects are gathered", events.window_s, 0, WINDOW_MOST_S)
    if events.batch_size > BATCH_WITHOUT_WINDOW and events.window_s == 0:
        raise UsageError(
            f"a batch of {events.batch_size} objects needs a window: AWS takes {BATCH_WITHOUT_WINDOW} without one",
            hint="give a window of at least 1 s",
        )
    for prefix in (events.inputs, events.results):
        if not _PREFIX.fullmatch(prefix):
            raise UsageError(f"`{prefix}` is no prefix of objects", hint="end it with `/`, as in `inbox/`")
        for own in OWN_PREFIXES:
            if _overlap(prefix, own):
                raise UsageError(f"`{prefix}` overlaps with Lamella's own `{own}`", hint="choose another prefix")
    if _overlap(events.inputs, events.results):
        raise UsageError(
            f"answers under `{events.results}` would be requests under `{events.inputs}` again",
            hint="choose prefixes of which neither begins with the other",
        )


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _check_budget(budget: Budget) -> None:
    if not budget.usd > 0:
        raise UsageError(f"a budget of {budget.usd:g} USD makes no sense", hint="give a sum above 0")
    if not _EMAIL.fullmatch(budget.email):
        raise UsageError("a budget needs somebody to tell", hint="give an e-mail address")


def _check_tags(settings: Settings) -> None:
    if len(settings.tags) > MOST_TAGS:
        raise UsageError(f"{len(settings.tags)} tags are too many", hint=f"give at most {MOST_TAGS}")
    for key, value in settings.tags.items():
        if not key or len(key) > 128 or not _TAG.fullmatch(key) or len(value) > 256 or not _TAG.fullmatch(value):
            raise UsageError(
                f"`{key}={value}` is no tag",
                hint="letters, digits, spaces and `_.:/=+-@`: 128 in a key, 256 in a value",
            )
        if key.lower().startswith(("aws:", "lamella:")):
            raise UsageError(f"the tag `{key}` is not yours to set", hint="begin it with something else")


def _check_express(release: Release, model: str) -> None:
    for function in release.functions:
        if function.model == model and function.timeout_s > EXPRESS_S:
            raise UsageError(
                f"`{function.name}` may take {function.timeout_s} s, an `express` workflow no more than {EXPRESS_S} s",
                hint="use workflow `standard`, or a shorter timeout",
            )
