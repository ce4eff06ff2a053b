"""Functions of a deployment on a local platform, and the chain through them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lamella.errors import StoreError
from lamella.platforms.base import Limits
from lamella.runtime.slice_function import STORE_VARIABLE
from lamella.stores.directory import path_of
from lamella.stores.opening import open_store
from lamella.targets.base import LIVE, DeployedFunction, Deployment, Version
from lamella.targets.local.invoker import LocalInvoker
from lamella.targets.local.platform import LocalPlatform
from lamella.targets.local.spec import FunctionSpec, Mount
from lamella.workflow.chain import Chain, delete_expired, inline_bytes

_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

_REFERENCES_KEPT_S = 24 * 3600.0
"""No request takes as long as this: what an older one put into the store is nobody's."""


@dataclass(frozen=True)
class Placed:
    """A deployment whose functions are on a platform.

    Attributes:
        deployment: What is deployed.
        platform: Where its functions are.
        chains: Run them, one for each model of each version that is kept, by the version's number and the model's name.
    """

    deployment: Deployment
    platform: LocalPlatform
    chains: Mapping[tuple[int, str], Chain]

    def chain(self, model: str | None = None, version: int | str | None = None) -> Chain:
        """Runs a model, in the version that is live or another.

        Raises:
            NotDeployedError: There is no such version or model.
            UsageError: There are several models, and none is named.
        """
        found = self.deployment if version is None else self.deployment.at(version)
        return self.chains[found.live, found.model(model).name]


def place(deployment: Deployment, platform: LocalPlatform, *, limits: Limits, idle_s: float) -> Placed:
    """Let the live version of functions that are on the platform answer."""
    _point_aliases(deployment, platform)
    chains = {
        (version.number, model): chain
        for version in deployment.versions
        for model, chain in _chains(version, platform, limits=limits, idle_s=idle_s).items()
    }
    return Placed(deployment, platform, chains)


def _point_aliases(deployment: Deployment, platform: LocalPlatform) -> None:
    """Let every alias stand for the functions of its version, and for no others."""
    wanted = {
        (function.name, alias): function.version
        for alias, number in {**deployment.aliases, LIVE: deployment.live}.items()
        for function in deployment.at(number).version.functions
    }
    mine = {function.name for version in deployment.versions for function in version.functions}
    for status in platform.functions():
        if status.name in mine:
            for alias in status.aliases.keys() - {name for function, name in wanted if function == status.name}:
                platform.set_alias(status.name, alias, None)
    for (function, alias), version in wanted.items():
        platform.set_alias(function, alias, version)


def _chains(version: Version, platform: LocalPlatform, *, limits: Limits, idle_s: float) -> dict[str, Chain]:
    """A chain for each model. They share the store: each request has a place of its own in it."""
    store = open_store(version.store)
    with suppress(StoreError):  # next time, then
        delete_expired(store, older_than_s=_REFERENCES_KEPT_S)
    invoker = LocalInvoker(platform, {function.name: function.version for function in version.functions})
    return {
        model.name: Chain(
            model.workflow,
            invoker,
            store=store,
            inline_bytes=inline_bytes(limits.request_bytes, limits.response_bytes),
            cold=version.cold,
            idle_s=idle_s,
        )
        for model in version.models
    }


def create_missing(
    platform: LocalPlatform, functions: Sequence[DeployedFunction], version: Version
) -> tuple[DeployedFunction, ...]:
    """Create the functions that have no version yet, and fill that in."""
    there = {function.name for function in platform.functions()}
    created: list[DeployedFunction] = []
    try:
        for function in functions:
            made = function if function.version else _created(platform, function, version)
            created.append(made)
    except BaseException:
        for old, new in zip(functions, created, strict=False):
            if new.name not in there:
                platform.delete(new.name)
            elif not old.version:
                platform.delete(new.name, version=new.version)
        raise
    return tuple(created)


def recreate(deployment: Deployment, platform: LocalPlatform) -> None:
    """Create every function of every version on a platform that has none of them, with the versions they had."""
    done: set[tuple[str, str]] = set()
    try:
        for version in deployment.versions:
            for function in version.functions:
                if (function.name, function.version) not in done:
                    _created(platform, function, version)
                    done.add((function.name, function.version))
    except BaseException:
        for name in {name for name, _ in done}:
            platform.delete(name)
        raise


def remove_others(platform: LocalPlatform, before: Deployment | None, after: Deployment | None) -> None:
    """Remove the functions, and versions of functions, that one deployment has and the other has not."""
    kept = _versions(after)
    for name, versions in _versions(before).items():
        if name not in kept:
            platform.delete(name)
            for path in platform.logs(name).parent.glob(f"{name}.log*"):
                path.unlink(missing_ok=True)
        else:
            for version in versions - kept[name]:
                platform.delete(name, version=version)


def _versions(deployment: Deployment | None) -> dict[str, set[str]]:
    """The platform's versions of each function."""
    found: dict[str, set[str]] = {}
    for version in () if deployment is None else deployment.versions:
        for function in version.functions:
            found.setdefault(function.name, set()).add(function.version)
    return found


def _created(platform: LocalPlatform, function: DeployedFunction, version: Version) -> DeployedFunction:
    spec = FunctionSpec(
        name=function.name,
        folder=Path(function.folder),
        memory_mb=function.memory_mb,
        timeout_s=function.timeout_s,
        temporary_mb=function.temporary_mb,
        environment={**_credentials(version), **version.environment, STORE_VARIABLE: open_store(version.store).uri},
        mounts=_mounts(version),
    )
    return replace(function, version=platform.create(spec, version=function.version or None))


def _credentials(version: Version) -> dict[str, str]:
    """What a function needs to reach an S3 store; on AWS its role does. It is kept in no file."""
    if not version.store.startswith("s3:"):
        return {}
    return {name: os.environ[name] for name in _CREDENTIALS if name in os.environ}


def _mounts(version: Version) -> tuple[Mount, ...]:
    """The folders that functions need beside their packages: a store that is one, and where the model is mounted."""
    mounts = []
    if version.store.startswith("file:"):
        folder = path_of(version.store)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        mounts.append(Mount(folder, str(folder), writable=True))
    if version.mount is not None:
        mounts.append(Mount(Path(version.mount), version.mount))
    return tuple(mounts)
