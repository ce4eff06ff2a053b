"""Whether results could become requests again: places inside each other, and triggers that feed one another."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import UsageError
from lamella.gateway.events.deployed import full_key
from lamella.gateway.events.sinks import sqlite
from lamella.gateway.events.trigger import DEPLOYMENT_SCHEME, THEN, Trigger
from lamella.stores.bucket import read_bucket
from lamella.stores.directory import path_of


@dataclass(frozen=True)
class Place:
    """Where objects are.

    Attributes:
        uri: As it was given.
        path: The folder or file, links resolved; None in a bucket.
        bucket: Bucket and prefix in segments; empty on a file system. Which server keeps the bucket does not count:
            one server has many names.
    """

    uri: str
    path: Path | None
    bucket: tuple[str, ...] = ()

    def is_same(self, other: Place) -> bool:
        """Whether both are one place."""
        return self.path == other.path and self.bucket == other.bucket

    def overlaps(self, other: Place) -> bool:
        """Whether one lies in the other, or both are the same."""
        if self.path is not None and other.path is not None:
            return _is_within(self.path, other.path) or _is_within(other.path, self.path)
        shorter = min(len(self.bucket), len(other.bucket))
        return shorter > 0 and self.bucket[:shorter] == other.bucket[:shorter]


def place_of(uri: str) -> Place | None:
    """The place behind a URI; None for what keeps no objects, such as a webhook."""
    if uri.startswith(DEPLOYMENT_SCHEME):
        then = uri.partition(THEN)[2]
        return place_of(then) if then else None
    if uri.startswith("s3://"):
        found = read_bucket(uri)
        return Place(uri, None, (found.name, *filter(None, found.prefix.split("/"))))
    if uri.startswith("file://"):
        return Place(uri, _resolved(path_of(uri)))
    if uri.startswith(sqlite.SCHEME):
        return Place(uri, _resolved(sqlite.file_of(uri)))
    return None


def deployments_of(trigger: Trigger) -> list[str]:
    """The models that an object goes through, as `NAME[.MODEL]@STAGE`, the trigger's own first."""
    found, rest = [full_key(trigger.deployment)], trigger.output
    while rest.startswith(DEPLOYMENT_SCHEME):
        name, _, rest = rest.removeprefix(DEPLOYMENT_SCHEME).partition(THEN)
        found.append(full_key(name))
    return found


def check_loops(trigger: Trigger, others: Sequence[Trigger] = (), *, state: Path | None = None) -> None:
    """Refuse a trigger whose results could start it again.

    Args:
        trigger: The new one.
        others: Those that are there.
        state: The folder where this one's state is kept, which must not be watched either.

    Raises:
        UsageError: Its output or dead-letter place overlaps its input, a deployment comes twice, others carry what it
            gives back to it, or another writes objects to the same place.
    """
    watched = place_of(trigger.input)
    if watched is None:
        raise UsageError(f"`{trigger.input}` cannot be watched", hint="give `file:///folder` or `s3://bucket/prefix`")
    _check_own(trigger, watched, state)
    names = deployments_of(trigger)
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"`{name}` would get its own results: {' to '.join(names)}", hint="leave it out of `output`"
            )
    reached: list[Trigger] = []
    waiting = [trigger]
    while waiting:
        for place in _given(waiting.pop()):
            if place.overlaps(watched):
                raise UsageError(
                    f"what goes to `{place.uri}` comes back to `{trigger.input}`, through trigger "
                    f"{', '.join(f'`{other.id}`' for other in reached)}",
                    hint="break the circle: give another output",
                )
            for other in others:
                source = place_of(other.input)
                if source is not None and other not in reached and place.overlaps(source):
                    reached.append(other)
                    waiting.append(other)
    _check_shared(trigger, others)


def _check_own(trigger: Trigger, watched: Place, state: Path | None) -> None:
    for what, place in (("output", place_of(trigger.output)), ("dead-letter place", _dead_letters(trigger))):
        if place is not None and place.overlaps(watched):
            raise UsageError(
                f"the {what} `{place.uri}` and the input `{trigger.input}` overlap: results would be requests again",
                hint="give places of which none lies in the other, such as `in/` and `out/`",
            )
    if state is not None and Place("", _resolved(state)).overlaps(watched):
        raise UsageError(
            f"the input `{trigger.input}` holds Lamella's own files at `{state}`", hint="watch a folder beside it"
        )


def _check_shared(trigger: Trigger, others: Sequence[Trigger]) -> None:
    """Keys of objects are those of the inputs: of two triggers, one object would silently take the other's place."""
    for other in others:
        for what, mine, theirs in (
            ("output", _objects(trigger), _objects(other)),
            ("dead-letter place", _dead_letters(trigger), _dead_letters(other)),
        ):
            if mine is not None and theirs is not None and mine.is_same(theirs):
                raise UsageError(
                    f"the {what} `{mine.uri}` is that of trigger `{other.id}`, too: objects of the same key would take "
                    "each other's place",
                    hint="give each a place of its own, such as `out/first` and `out/second`",
                )


def _objects(trigger: Trigger) -> Place | None:
    """Where results go, if they become objects."""
    place = place_of(trigger.output)
    return None if place is None or place.uri.startswith(sqlite.SCHEME) else place


def _given(trigger: Trigger) -> Iterator[Place]:
    for place in (place_of(trigger.output), _dead_letters(trigger)):
        if place is not None:
            yield place


def _dead_letters(trigger: Trigger) -> Place | None:
    return None if trigger.dead_letter is None else place_of(trigger.dead_letter)


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _is_within(inner: Path, outer: Path) -> bool:
    """Also under another name: on a file system that ignores case, or mounted twice."""
    if inner.is_relative_to(outer):
        return True
    identity = _identity(outer)
    return identity is not None and any(_identity(path) == identity for path in (inner, *inner.parents))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:  # not there, so that it has no second name
        return None
    return found.st_dev, found.st_ino
