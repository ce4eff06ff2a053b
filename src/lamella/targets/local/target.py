"""Deployments on this machine: functions on an embedded platform, and a chain through each deployment's slices."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock

from lamella.errors import LamellaError, UsageError
from lamella.packaging.cache import in_use
from lamella.packaging.images.unpacking import from_images
from lamella.platforms import Limits, Platform, load_platform
from lamella.stores.directory import path_of
from lamella.stores.opening import open_store
from lamella.targets.base import (
    DEFAULT_STAGE,
    VERSIONS_KEPT,
    Change,
    DeployedFunction,
    Deployment,
    LogLine,
    Version,
    Wanted,
    key_of,
)
from lamella.targets.building import BuiltModel, build_models, functions_of
from lamella.targets.changes import changes, with_known_versions
from lamella.targets.keeping import drop_others, keep
from lamella.targets.local.placing import Placed, create_missing, place, recreate, remove_others
from lamella.targets.local.platform import LocalPlatform
from lamella.targets.local.tail import LogTail, kept_lines, log_lines
from lamella.targets.reports import Reports, read_invocations
from lamella.targets.state import State, remove_tree
from lamella.workflow.request import Answer
from lamella.workflow.steps import Step


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
        self._held = ExitStack()
        if not keeps:
            self._held.enter_context(in_use())

    def diff(self, wanted: Wanted) -> list[Change]:
        """What `apply` would change. Builds the packages, and changes nothing else."""
        with in_use():
            functions = functions_of(wanted, self._built(wanted))
        return changes(self._state.read(wanted.name, wanted.stage), functions)

    def apply(self, wanted: Wanted) -> Deployment:
        """Deploy a new version of all functions, and let it answer as soon as all of them are there.

        Raises:
            UsageError: It is deployed with another platform's limits, or another deployment has such functions.
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
        with in_use():
            built = [self._kept(wanted, model) for model in self._built(wanted)]
        functions = functions_of(wanted, built)
        self._check_free(functions, key_of(wanted.name, wanted.stage))
        number = 1 if found is None else max(version.number for version in found.versions) + 1
        platform, _ = self._platform(source, wanted.platform)
        version = Version(
            number=number,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            models=tuple(model.deployed() for model in built),
            delivery=wanted.delivery,
            cold=wanted.cold,
            environment=dict(wanted.environment),
            mount=None if wanted.mount is None else str(wanted.mount),
            store=self._store(wanted),
            functions=functions,
        )
        version = replace(version, functions=create_missing(platform, with_known_versions(found, version), version))
        kept = () if found is None else found.kept(VERSIONS_KEPT - 1)
        aliases = {} if found is None else found.aliases
        deployment = Deployment(wanted.name, wanted.stage, "local", source, (*kept, version), number, aliases)
        return self._switch(deployment, found)

    def _check_free(self, functions: Sequence[DeployedFunction], key: str) -> None:
        """Two deployments may want a function of one name, as `a-b@c` and `a@b-c` do."""
        wanted = {function.name for function in functions}
        for name, stage in self._state.names():
            if key_of(name, stage) == key:
                continue
            try:
                other = self._state.find(name, stage)
            except LamellaError:  # it is damaged: who knows what it has
                continue
            taken = wanted & {function.name for version in other.versions for function in version.functions}
            if taken:
                raise UsageError(
                    f"`{key_of(name, stage)}` has a function `{min(taken)}` already",
                    hint="choose another name for the deployment, its stage, or its model",
                )

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
        model: str | None = None,
        version: int | str | None = None,
        slice: int | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request to a model of the live version or another, to all slices or to one of them alone.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in this version, or not this model.
            UsageError: It has no such slice, or several models, and none is named.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good.
        """
        chain = self._placed_of(name, stage).chain(model, version)
        if slice is None:
            return chain.infer(inputs, request_id=request_id)
        return chain.infer_slice(slice, inputs, request_id=request_id)

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed, by name and stage."""
        return list(self._state.all())

    def logs(
        self,
        name: str,
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        slice: int | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        """What the functions of all models, or of one, have logged; with `follow`, what they go on to log, for ever."""
        return log_lines(self.tail(name, stage=stage, model=model, slice=slice), follow=follow)

    def tail(
        self, name: str, *, stage: str = DEFAULT_STAGE, model: str | None = None, slice: int | None = None
    ) -> LogTail:
        """The logs of the functions that are live: of all models, of one, or of one of its slices.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not this model.
            UsageError: It has no such slice, or several models, and none is named.
        """
        return LogTail(self._logs(self._placed_of(name, stage), model, slice))

    def reports(
        self,
        name: str,
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        slice: int | None = None,
        since_ms: int = 0,
        until_ms: int | None = None,
    ) -> Reports:
        """What the logs say that the functions of all models, or of one, did in a span of time: ms since 1970.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not this model.
            UsageError: It has no such slice, or several models, and none is named.
        """
        placed = self._placed_of(name, stage)
        lines = (line for log in self._logs(placed, model, slice) for line in kept_lines(*log))
        models = {function.name: function.model for function in placed.deployment.version.functions}
        architecture = load_platform(placed.deployment.platform).architectures[0]
        return Reports(architecture, read_invocations(lines, models, since_ms=since_ms, until_ms=until_ms))

    @staticmethod
    def _logs(placed: Placed, model: str | None, slice: int | None) -> list[tuple[int, str, Path]]:
        """Slice, function and log of each function."""
        if slice is not None:
            steps: Sequence[Step] = (placed.chain(model).step(slice),)
        else:
            models = placed.deployment.version.models if model is None else (placed.deployment.model(model),)
            steps = [step for one in models for step in one.workflow.steps]
        return [(step.slice, step.function, placed.platform.logs(step.function)) for step in steps]

    def find(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """What is deployed under a name.

        Raises:
            NotDeployedError: Nothing is.
        """
        return self._placed_of(name, stage).deployment

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE, to: int | None = None) -> Deployment:
        """Let the version before the live one, or a given one that is kept, answer; all models change together.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in the version `to`.
            UsageError: There is no earlier version.
        """
        with self._changing:
            placed = self._placed_of(name, stage)
            found = placed.deployment
            if to is not None:
                return self._switch(found.at(to), found)
            earlier = [version.number for version in found.versions if version.number < found.live]
            if not earlier:
                raise UsageError(
                    f"`{found.key}` has no version before {found.live}", hint=f"the last {VERSIONS_KEPT} are kept"
                )
            return self._switch(found.at(earlier[-1]), found)

    def set_alias(self, name: str, alias: str, *, to: int | str | None, stage: str = DEFAULT_STAGE) -> Deployment:
        """Let a name stand for a version, which is kept as long as it does; with `to=None`, no longer.

        The alias is one of every function of that version, too, for those who invoke functions themselves.

        Raises:
            NotDeployedError: Nothing is deployed under this name, or not in this version; or there is no such alias.
            UsageError: The alias is no name, or one that means something else.
        """
        with self._changing:
            found = self._placed_of(name, stage).deployment
            return self._switch(found.with_alias(alias, to), found)

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
        self._held.close()

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

    def _built(self, wanted: Wanted) -> list[BuiltModel]:
        """Its models as packages: what runs from images is what was unpacked from them."""
        built = build_models(wanted, store=self._store(wanted))
        if wanted.delivery != "image":
            return built
        return [replace(model, packages=tuple(from_images(model.packages))) for model in built]

    def _kept(self, wanted: Wanted, model: BuiltModel) -> BuiltModel:
        if not self._keeps:
            return model
        folder = self._state.folder_of(wanted.name, wanted.stage) / "packages"
        packages = (replace(package, folder=keep(package.folder, folder)) for package in model.packages)
        return replace(model, packages=tuple(packages))

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
