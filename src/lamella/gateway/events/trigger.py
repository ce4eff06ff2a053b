"""What starts requests by itself: new objects in a place, or the clock. As values, and as JSON."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, get_args

from lamella.errors import UsageError
from lamella.runtime.forms import Form

SCHEMA = "lamella.trigger/1"
DEPLOYMENT_SCHEME = "deployment://"
THEN = "?output="
"""What follows in the URI of a deployment: where its own outputs go. Taken as it is, up to the end."""

_SCHEMES = ("deployment", "file", "http", "https", "mariadb", "mysql", "postgresql", "s3", "sqlite")
_FOLDER_POLL_S, _BUCKET_POLL_S = 1.0, 10.0  # a look into a bucket costs money: $0.005 per 1,000 on S3
_SHORTEST_POLL_S, _SHORTEST_INTERVAL_S, _LONGEST_S = 0.01, 1.0, 86_400.0
_MOST_ATTEMPTS, _MOST_PARALLEL = 100, 64
_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")


def new_id() -> str:
    """A name for a trigger."""
    return token_hex(4)


@dataclass(frozen=True)
class Trigger:
    """Makes a request of each new object in a place.

    Attributes:
        deployment: What answers, as `NAME[.MODEL]@STAGE`.
        input: The store that is watched: `file:///folder`, `s3://bucket/prefix`, or the path of a folder.
        output: Where results go: a store, `sqlite:///file.db?table=NAME`, `postgresql://...`, `mysql://...`,
            `mariadb://...`, `http(s)://...`, or `deployment://NAME@STAGE?output=URI`.
        form: How results become objects.
        dead_letter: The store that objects go to which cannot be answered; None: a folder beside the trigger's state.
        suffix: What keys end with that are taken; empty: all.
        poll_s: Seconds between two looks; 0: one for a folder, ten for a bucket.
        attempts: How often an object is tried.
        parallel: Requests at the same time.
        id: Its name.

    Raises:
        UsageError: A value makes no sense.
    """

    deployment: str
    input: str
    output: str
    form: Form = "json"
    dead_letter: str | None = None
    suffix: str = ""
    poll_s: float = 0.0
    attempts: int = 5
    parallel: int = 4
    id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        _check_id(self.id)
        for name in ("input", "output", "dead_letter"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, as_uri(given))
        if not self.poll_s:
            object.__setattr__(self, "poll_s", _BUCKET_POLL_S if self.input.startswith("s3:") else _FOLDER_POLL_S)
        if self.form not in get_args(Form):
            raise UsageError(f"`{self.form}` is no form of a result", hint=f"give one of {', '.join(get_args(Form))}")
        _check_range("poll_s", self.poll_s, _SHORTEST_POLL_S, _LONGEST_S)
        for name, most in (("attempts", _MOST_ATTEMPTS), ("parallel", _MOST_PARALLEL)):
            _check_range(name, getattr(self, name), 1, most)
            object.__setattr__(self, name, int(getattr(self, name)))


@dataclass(frozen=True)
class Warming:
    """Sends each function of a deployment a ping when no request has come for a while.

    Attributes:
        deployment: Whose functions, as `NAME[.MODEL]@STAGE`.
        interval_s: Seconds without a request after which they get one; below the platform's own patience.
        id: Its name.

    Raises:
        UsageError: The interval makes no sense.
    """

    deployment: str
    interval_s: float
    id: str = field(default_factory=new_id)

    def __post_init__(self) -> None:
        _check_id(self.id)
        _check_range("keep_warm", self.interval_s, _SHORTEST_INTERVAL_S, _LONGEST_S)


def as_uri(place: str) -> str:
    """A place as a URI, whoever reads it: a path becomes absolute, also at the end of a chain of deployments."""
    if place.startswith(DEPLOYMENT_SCHEME):
        head, mark, then = place.partition(THEN)
        return f"{head}{mark}{as_uri(then)}" if then else place
    if "://" in place:
        return place
    scheme, colon, _ = place.partition(":")
    if not place or (colon and scheme in _SCHEMES):
        raise UsageError(f"`{place}` is no place", hint="give a folder, or a URI such as `s3://bucket/prefix`")
    return Path(os.path.abspath(place)).as_uri()


def to_json(trigger: Trigger | Warming) -> dict[str, object]:
    """A trigger as JSON values."""
    kind = "objects" if isinstance(trigger, Trigger) else "keep_warm"
    return {"schema": SCHEMA, "kind": kind, **asdict(trigger)}


def from_json(content: Mapping[str, Any]) -> Trigger | Warming:
    """The inverse.

    Raises:
        UsageError: It is none, or of another version of Lamella.
    """
    try:
        fields = {name: value for name, value in content.items() if name not in ("schema", "kind")}
        if content["schema"] != SCHEMA:
            raise UsageError(f"`{content['schema']}` is no trigger", hint="remove it, and add it again")
        kinds: dict[object, type[Trigger | Warming]] = {"objects": Trigger, "keep_warm": Warming}
        return kinds[content["kind"]](**fields)  # what is of a wrong type is a TypeError below
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"this is no trigger: {error!r}", hint="remove it, and add it again") from error


def _check_id(name: str) -> None:
    if not _ID.fullmatch(name):
        raise UsageError(
            f"`{name}` is no id of a trigger",
            hint="use up to 32 lower-case letters, digits and hyphens, no hyphen first or last",
        )


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise UsageError(f"`{name}` is {value:g}", hint=f"give {least:g} to {most:g}")
