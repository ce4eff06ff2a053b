"""How the record of a deployment changes from one version to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lamella.targets.aws.record import Record
from lamella.targets.aws.release import Release
from lamella.targets.aws.settings import Settings
from lamella.targets.base import VERSIONS_KEPT, Deployment, Version, Wanted

PLATFORM = "aws-lambda"


def with_version(
    found: Record | None, wanted: Wanted, settings: Settings, version: Version, release: Release
) -> Record:
    """A record with a new version, and as many of the earlier ones as are kept."""
    kept = () if found is None else found.deployment.kept(VERSIONS_KEPT - 1)
    if found is not None and found.deployment.version not in kept:
        kept = (found.deployment.version, *kept)  # it answers until the new one does
    numbers = [each.number for each in kept]
    functions = {} if found is None else {number: found.functions[number] for number in numbers}
    chosen = {} if found is None else {number: found.chosen[number] for number in numbers}
    platform = wanted.platform_source or PLATFORM
    aliases = {} if found is None else found.deployment.aliases
    deployment = Deployment(wanted.name, wanted.stage, "aws", platform, (*kept, version), version.number, aliases)
    return Record(deployment, {**chosen, version.number: settings}, {**functions, version.number: release.functions})


def known(record: Record, live: int) -> Record:
    """What the stack holds: not a version that a run did not come to deploy."""
    versions = tuple(each for each in record.deployment.versions if each.number <= live or each.functions[0].version)
    numbers = [each.number for each in versions]
    return Record(
        replace(record.deployment, versions=versions, live=live),
        {number: record.chosen[number] for number in numbers},
        {number: record.functions[number] for number in numbers},
    )


def numbered(record: Record, numbers: Mapping[str, str]) -> Record:
    """The same with AWS's own numbers of the functions' versions."""

    def told(version: Version) -> Version:
        release = next(each for each in record.releases if each.number == version.number)
        functions = tuple(
            replace(each, version=numbers.get(release.function(each.model, each.slice).version_id, each.version))
            for each in version.functions
        )
        return replace(version, functions=functions)

    versions = tuple(map(told, record.deployment.versions))
    return replace(record, deployment=replace(record.deployment, versions=versions))


def reserved(found: Record | None) -> int:
    """The concurrency that a deployment has reserved already."""
    if found is None or found.settings.concurrency is None:
        return 0
    return found.settings.concurrency * len(found.release.functions) + (found.settings.mount == "efs")
