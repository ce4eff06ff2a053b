"""What deploying would change, as values: the functions that are wanted against those that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lamella.targets.base import Change, DeployedFunction, Deployment, Version


def changes(live: Deployment | None, wanted: Sequence[DeployedFunction]) -> list[Change]:
    """What is done to each function, those that go at the end."""
    before = {} if live is None else {function.name: function for function in live.version.functions}
    found = []
    for after in wanted:
        old = before.pop(after.name, None)
        if old is None:
            found.append(Change("create", after.name, f"{after.memory_mb} MB"))
        else:
            reason = difference(old, after)
            found.append(Change("update" if reason else "keep", after.name, reason))
    return [*found, *(Change("delete", name) for name in before)]


def difference(old: DeployedFunction, new: DeployedFunction) -> str:
    """What is new about a function, for people; empty where nothing is."""
    reasons = []
    if old.sha256 != new.sha256:
        reasons.append("another package")
    for what, unit in (("memory_mb", "MB"), ("timeout_s", "s"), ("temporary_mb", "MB")):
        was, now = getattr(old, what), getattr(new, what)
        if was != now:
            reasons.append(f"{what.rpartition('_')[0]} {was:g} {unit} to {now:g} {unit}")
    return ", ".join(reasons)


def with_known_versions(found: Deployment | None, new: Version) -> tuple[DeployedFunction, ...]:
    """The functions of a new version, each with the platform's version where the very same is there already."""
    known = [
        function
        for version in (() if found is None else found.versions)
        if (version.environment, version.mount, version.store) == (new.environment, new.mount, new.store)
        for function in version.functions
    ]
    return tuple(_with_version(function, known) for function in new.functions)


def _with_version(function: DeployedFunction, known: Sequence[DeployedFunction]) -> DeployedFunction:
    for old in reversed(known):
        if old.name == function.name and not difference(old, function):
            return replace(function, version=old.version)
    return function
