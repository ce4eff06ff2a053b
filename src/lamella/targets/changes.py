"""What deploying would change, as values: the functions that are wanted against those that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lamella.errors import PlanError, UsageError
from lamella.targets.base import Change, DeployedFunction, Deployment, Version, Wanted

if TYPE_CHECKING:
    from lamella.packaging.package import Package


def functions_of(
    wanted: Wanted, packages: Sequence[Package], planned_mb: Mapping[int, int]
) -> tuple[DeployedFunction, ...]:
    """The functions that are wanted, without a version yet. A slice that gives nothing needs none.

    Args:
        wanted: What is to be deployed.
        packages: One a slice.
        planned_mb: Memory that each slice was planned with.

    Raises:
        UsageError: The memory is no number that makes sense.
        PlanError: The platform does not allow what is wanted.
    """
    if wanted.memory_mb is not None and (type(wanted.memory_mb) is not int or wanted.memory_mb < 1):
        raise UsageError(f"functions cannot have {wanted.memory_mb} MB of memory", hint="give a whole number above 0")
    return tuple(
        _function(wanted, package, wanted.memory_mb or planned_mb[package.function.slice])
        for package in packages
        if package.function.outputs
    )


def _function(wanted: Wanted, package: Package, memory_mb: int) -> DeployedFunction:
    limits, name = wanted.platform.limits, package.function.name
    sizes = limits.memory_sizes(memory_mb)
    if not sizes:
        raise PlanError(
            f"`{name}` needs {memory_mb} MB of memory, and {wanted.platform.name} offers {limits.memory_max_mb} MB",
            hint="ask for less" if wanted.memory_mb else "cut the model into more slices",
        )
    if limits.timeout_s is not None and wanted.timeout_s > limits.timeout_s:
        raise PlanError(
            f"a timeout of {wanted.timeout_s:g} s is above the {limits.timeout_s:g} s of {wanted.platform.name}",
            hint="ask for less, or cut the model into more slices",
        )
    return DeployedFunction(
        name=name,
        slice=package.function.slice,
        version="",
        memory_mb=sizes[0],
        timeout_s=wanted.timeout_s,
        temporary_mb=wanted.temporary_mb,
        sha256=package.sha256,
        unzipped_bytes=package.unzipped_bytes,
        folder=str(package.folder),
    )


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
