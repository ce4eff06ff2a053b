"""Deployments on this machine: functions on an embedded platform, and a chain through each deployment's slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock

from lamella.errors import LamellaError, UsageError
from lamella.packaging.package import Package, build_packages
from lamella.platforms import Limits, Platform, load_platform
from lamella.stores.directory import path_of
from lamella.stores.opening import open_store
from lamella.targets.base import (
    DEFAULT_STAGE,
    VERSIONS_KEPT,
    Change,
    Deployment,
    LogLine,
    NotDeployedError,
    Version,
    Wanted,
    key_of,
)
from lamella.targets.changes import changes, functions_of, with_known_versions
from lamella.targets.keeping import drop_others, keep
from lamella.targets.local.placing import Placed, create_missing, place, recreate, remove_others
from lamella.targets.local.platform import LocalPlatform
from lamella.targets.local.tail import LogTail, log_lines
from lamella.targets.state import State, remove_tree
from lamella.workflow.manifest import read_manifest
from lamella.workflow.request import Answer
from lamella.workflow.steps import check_travels, workflow_of


class LocalTarget:
    """The target `local`. Thread-safe; one process at a time may use a folder.

    Args:
        folder: Where deployments, their packages, stores and logs are kept.
        keeps: Whether deployments outlive this object; then each keeps its packages by itself, beside the cache.
        keep_alive_s: Seconds after which the platform stops an instance that is not used.
    """

    def __init__(self, folder: Path, *, keeps: bool = True, keep_alive_s: float = 600.0) -> None:
        self._folder, self._keeps, self._keep_alive_s = folder, keeps, keep_alive_s
        self._state = State(folder / "deployments")
        self._platforms: dict[str, tuple[LocalPlatform, Limits]] = {}
        self._placed: dict[str, Placed] = {}
        self._changing, self._closed = RLock(), False

    def diff(self, wanted: Wanted) -> list[Change]:
        """What `apply` would change. Builds the packages, and changes nothing else."""
        packages = self._packages(wanted)
        return changes(self._state.read(wanted.name, wanted.stage), functions_of(wanted, packages, _planned(wanted)))

    def apply(self, wanted: Wanted) -> Deployment:
        """Deploy a new version of all functions, and let it answer as soon as all of them are there.

        Raises:
            UsageError: It is deployed with another platform's limits.
            PlanError: The platform does not allow what is wanted.
            LamellaError: The slices cannot be packaged.
        """
        with self._changing:
            found = self._state.read(wanted.name, wanted.stage)
            source = wanted.platform_source or wanted.platform.name
            if found is not None and found.platform != source:
                raise UsageError(
                    f"`{found.key}` is deployed with the limits of `{found.platform}`, not of `{source}`",
                    hint="delete it first, or deploy to another stage",
                )
            if found is not None:
                found = self._placed_of(found.name, found.stage).deployment
            try:
                return self._apply(wanted, found, source)
            except BaseException:
                if found is None:
                    self._remove(wanted.name, wanted.stage)
                else:
                    self._drop_packages(found)
                raise

    def _apply(self, wanted: Wanted, found: Deployment | None, source: str) -> Deployment:
        manifest = read_manifest(wanted.sliced)
        packages = self._packages(wanted)
        number = 1 if found is None else max(version.number for version in found.versions) + 1
        platform, _ = self._platform(source, wanted.platform)
        version = Version(
            number=number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            model=manifest.model,
            delivery=wanted.delivery,
            cold=wanted.cold,
            environment=dict(wanted.environment),
            mount=None if wanted.mount is None else str(wanted.mount),
            store=self._store(wanted),
            workflow=workflow_of(manifest, [package.function for package in packages]),
            functions=functions_of(wanted, self._kept(wanted, packages), _planned(wanted)),
        )
        functions = create_missing(platform, with_known_versions(found, version), version)
        version = replace(version, functions=functions)
        kept = () if found is None else found.versions[1 - VERSIONS_KEPT :]
        deployment = Deployment(wanted.name, wanted.stage, "local", source, (*kept, version), number)
        return self._switch(deployment, found)

    def _switch(self, deployment: Deployment, found: Deployment | None) -> Deployment:
        """Let the live version answer. A request that is under way stays with the version that it began with."""
        platform, limits = self._platform(deployment.platform, None)
        placed = place(deployment, platform, limits=limits, idle_s=self._keep_alive_s)
        try:
            self._state.write(deployment)
        except BaseException:
            if found is not None:  # its alias again
                place(found, platform, limits=limits, idle_s=self._keep_alive_s)
            raise
        self._placed[deployment.key] = placed
        remove_others(platform, found, deployment)
        for store in _stores(found) - _stores(deployment):
            _remove_store(store)
        self._drop_packages(deployment)
        return deployment

    def _drop_packages(self, deployment: Deployment) -> None:
        """Remove the packages that no version of a deployment needs."""
        folders = {function.folder for version in deployment.versions for function in version.functions}
        drop_others(self._state.folder_of(deployment.name, deployment.stage) / "packages", folders)

    def infer(
        self,
        name: str,
        inputs: Mapping[str, object],
        *,
        stage: str = DEFAULT_STAGE,
        version: int | None = None,
        slice: int | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request to the live version or another, to all slices or to one of them alone.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in this version.
            UsageError: It has no such slice.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good.
        """
        placed = self._placed_of(name, stage)
        chain = placed.chain if version is None else placed.chains.get(version)
        if chain is None:
            known = ", ".join(map(str, placed.chains))
            raise NotDeployedError(f"`{placed.deployment.key}` has no version {version}", hint=f"there is {known}")
        if slice is None:
            return chain.infer(inputs, request_id=request_id)
        return chain.infer_slice(slice, inputs, request_id=request_id)

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed, by name and stage."""
        return list(self._state.all())

    def logs(
        self, name: str, *, stage: str = DEFAULT_STAGE, slice: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """What the functions have logged; with `follow`, what they go on to log, without end."""
        return log_lines(self.tail(name, stage=stage, slice=slice), follow=follow)

    def tail(self, name: str, *, stage: str = DEFAULT_STAGE, slice: int | None = None) -> LogTail:
        """The logs of the functions that are live, or of one of them.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
            UsageError: It has no such slice.
        """
        placed = self._placed_of(name, stage)
        workflow = placed.deployment.version.workflow
        steps = workflow.steps if slice is None else (placed.chain.step(slice),)
        return LogTail([(step.slice, step.function, placed.platform.logs(step.function)) for step in steps])

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name.

        Raises:
            NotDeployedError: Nothing is.
        """
        return self._placed_of(name, stage).deployment

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """Let the version before the live one answer again.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
            UsageError: There is no earlier version.
        """
        with self._changing:
            placed = self._placed_of(name, stage)
            found = placed.deployment
            earlier = [version.number for version in found.versions if version.number < found.live]
            if not earlier:
                raise UsageError(
                    f"`{found.key}` has no version before {found.live}", hint=f"the last {VERSIONS_KEPT} are kept"
                )
            return self._switch(replace(found, live=earlier[-1]), found)

    def delete(self, name: str, *, stage: str = DEFAULT_STAGE) -> None:
        """End a deployment, and leave nothing behind.

        Raises:
            NotDeployedError: Nothing is deployed under this name.
        """
        with self._changing:
            self._state.find(name, stage)
            self._remove(name, stage)

    def is_empty(self) -> bool:
        """Whether nothing is deployed."""
        return self._state.is_empty()

    def url_of(self, name: str, *, stage: str = DEFAULT_STAGE) -> str:
        """Where a deployment's functions can be invoked with the AWS Lambda API."""
        return self._placed_of(name, stage).platform.url

    def restore(self) -> dict[str, LamellaError]:
        """Put everything that is deployed on a platform again; returns what could not be, by name and stage."""
        failures: dict[str, LamellaError] = {}
        for name, stage in self._state.names():
            try:
                self._placed_of(name, stage)
            except LamellaError as error:
                failures[key_of(name, stage)] = error
        return failures

    def close(self) -> None:
        """Stop every instance. Deployments stay, and answer again when they are restored."""
        with self._changing:
            self._closed = True
            self._placed.clear()
            platforms, self._platforms = list(self._platforms.values()), {}
        for platform, _ in platforms:
            platform.close()

    def _placed_of(self, name: str, stage: str) -> Placed:
        placed = self._placed.get(key_of(name, stage))
        if placed is not None:
            return placed
        with self._changing:
            placed = self._placed.get(key_of(name, stage))
            if placed is not None:
                return placed
            found = self._state.find(name, stage)
            platform, limits = self._platform(found.platform, None)
            recreate(found, platform)
            self._placed[found.key] = place(found, platform, limits=limits, idle_s=self._keep_alive_s)
            return self._placed[found.key]

    def _remove(self, name: str, stage: str) -> None:
        placed = self._placed.pop(key_of(name, stage), None)
        found = self._state.read(name, stage)
        if placed is not None:
            remove_others(placed.platform, placed.deployment, None)
        for store in _stores(found):
            _remove_store(store)
        self._state.delete(name, stage)
        self._close_unused()

    def _close_unused(self) -> None:
        try:
            used = {deployment.platform for deployment in self._state.all()}
        except LamellaError:  # one of them is damaged: who knows what it uses
            return
        for source in set(self._platforms) - used:
            self._platforms.pop(source)[0].close(remove=True)

    def _packages(self, wanted: Wanted) -> list[Package]:
        check_travels(read_manifest(wanted.sliced))
        return build_packages(
            wanted.sliced,
            name=f"{wanted.name}-{wanted.stage}",
            platform=wanted.platform,
            delivery=wanted.delivery,
            store=self._store(wanted),
            mount=wanted.mount,
        )

    def _kept(self, wanted: Wanted, packages: Sequence[Package]) -> list[Package]:
        if not self._keeps:
            return list(packages)
        folder = self._state.folder_of(wanted.name, wanted.stage) / "packages"
        return [replace(package, folder=keep(package.folder, folder)) for package in packages]

    def _store(self, wanted: Wanted) -> str:
        """A store, or a part of one, that is the deployment's alone."""
        if wanted.store is not None:
            return _part_of(wanted.store, key_of(wanted.name, wanted.stage))
        return (self._state.folder_of(wanted.name, wanted.stage) / "store").as_uri()

    def _platform(self, source: str, platform: Platform | None) -> tuple[LocalPlatform, Limits]:
        """The platform with these limits, started when it is first needed."""
        if self._closed:
            raise UsageError("this target is closed", hint="open another one")
        if source not in self._platforms:
            chosen = platform or load_platform(source)
            hosted = LocalPlatform(
                self._platform_folder(source),
                limits=chosen.limits,
                mb_per_vcpu=chosen.speeds.mb_per_vcpu,
                keep_alive_s=self._keep_alive_s,
            )
            self._platforms[source] = hosted, chosen.limits
        return self._platforms[source]

    def _platform_folder(self, source: str) -> Path:
        name = Path(source).stem
        if name != source:  # a file: others may be called alike
            name = f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        return self._folder / "platforms" / name


def _planned(wanted: Wanted) -> dict[int, int]:
    return {part.index: part.memory_mb for part in read_manifest(wanted.sliced).slices}


def _stores(deployment: Deployment | None) -> set[str]:
    return set() if deployment is None else {version.store for version in deployment.versions}


def _part_of(store: str, key: str) -> str:
    """The store under a prefix of the one that the user gave."""
    uri = store if "://" in store else Path(store).absolute().as_uri()
    place, mark, query = uri.partition("?")
    return f"{place.rstrip('/')}/{key}{mark}{query}"


def _remove_store(uri: str) -> None:
    if uri.startswith("file:"):
        remove_tree(path_of(uri))
    else:
        open_store(uri).delete_all("")
