"""What a target is: where a deployment goes. Nothing above it knows which one is at work."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lamella.errors import UsageError
from lamella.platforms.base import Platform
from lamella.runtime.function import Delivery
from lamella.tensors import TensorSpec
from lamella.workflow.request import Answer
from lamella.workflow.steps import Workflow

if TYPE_CHECKING:
    from lamella.targets.reports import Reports

Cold = Literal["sequential", "parallel"]
"""How the first request starts the functions: each when its turn comes, or all at once."""

DEFAULT_STAGE = "dev"
DEFAULT_TIMEOUT_S = 60.0
LEAST_MEMORY_MB = 512
"""The least that a function gets for which nobody chose a size: processor time goes with memory, and starts need it."""
LIVE = "live"
"""The alias of the version that answers."""

VERSIONS_KEPT = 5
"""Versions of a deployment that can be rolled back to, the live one included; those with an alias come on top."""

_ALIAS = re.compile(r"[A-Za-z][\w-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed.

    Attributes:
        name: The deployment's name.
        stage: The named deployment of it, such as `dev` or `prod`.
        models: The slices directory of each model, by the model's name. Together they are one deployment.
        platform: Whose limits hold.
        platform_source: How it is found again by another process: a name, or a file; None: by its name.
        memory_mb: Memory of every function; None: as each slice was planned for a platform, else what it needs, at
            least `LEAST_MEMORY_MB`.
        timeout_s: The longest that one slice may take.
        temporary_mb: Temporary storage of every function.
        delivery: How the model reaches the functions.
        store: Where large values go, and weights with `object-store`; None: a folder of the deployment's own.
        mount: The shared folder of the delivery `mount`.
        cold: How the first request starts the functions.
        environment: Variables of every function.
    """

    name: str
    stage: str
    models: Mapping[str, Path]
    platform: Platform
    platform_source: str | None = None
    memory_mb: int | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S
    temporary_mb: int = 512
    delivery: Delivery = "package"
    store: str | None = None
    mount: Path | None = None
    cold: Cold | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DeployedFunction:
    """One function of a version.

    Attributes:
        name: Its name on the platform.
        model: The name of its model.
        slice: The slice that it runs.
        version: The platform's own number of it.
        memory_mb: Its memory.
        timeout_s: The longest that one request may take.
        temporary_mb: Its temporary storage.
        sha256: Digest of its package.
        unzipped_bytes: Size of its package.
        folder: Where its package lies.
    """

    name: str
    model: str
    slice: int
    version: str
    memory_mb: int
    timeout_s: float
    temporary_mb: int
    sha256: str
    unzipped_bytes: int
    folder: str


@dataclass(frozen=True)
class DeployedModel:
    """One model of a version.

    Attributes:
        name: Its name in the deployment.
        file: File name of what was sliced.
        workflow: Its slices as functions.
    """

    name: str
    file: str
    workflow: Workflow

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a request must give."""
        return self.workflow.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gets."""
        return self.workflow.outputs


@dataclass(frozen=True)
class Version:
    """One state of a deployment, to which it can be rolled back.

    Attributes:
        number: From 1 on, never used again.
        created: When it was deployed: ISO 8601, UTC.
        models: Its models, in the order in which they were given.
        delivery: How the model reaches the functions.
        cold: How the first request starts them.
        environment: Their variables.
        mount: The shared folder that they see; None: none.
        store: Where large values go, and weights with `object-store`; the deployment's alone.
        functions: The functions of all models.
    """

    number: int
    created: str
    models: tuple[DeployedModel, ...]
    delivery: Delivery
    cold: Cold | None
    environment: Mapping[str, str]
    mount: str | None
    store: str
    functions: tuple[DeployedFunction, ...]


@dataclass(frozen=True)
class Deployment:
    """What is deployed under a name and stage.

    Attributes:
        name: Its name.
        stage: Its stage.
        target: Where it is: `local`.
        platform: Whose limits hold.
        versions: Those that are kept, the oldest first.
        live: Number of the one that answers.
        aliases: Numbers of others, by the names under which they can be asked. A version with one is kept.
    """

    name: str
    stage: str
    target: str
    platform: str
    versions: tuple[Version, ...]
    live: int
    aliases: Mapping[str, int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name and stage in one word, as URLs and files have it."""
        return key_of(self.name, self.stage)

    @property
    def version(self) -> Version:
        """The one that answers."""
        return next(version for version in self.versions if version.number == self.live)

    @property
    def store(self) -> str:
        """Where the large values of the version that answers go."""
        return self.version.store

    def at(self, version: int | str) -> Deployment:
        """The same, as if another version were live.

        Args:
            version: Its number, also as text, or an alias.

        Raises:
            NotDeployedError: This version is not kept, or there is no such alias.
        """
        known = {**{str(kept.number): kept.number for kept in self.versions}, LIVE: self.live, **self.aliases}
        if str(version) not in known:
            what = f"version {version}" if str(version).isdecimal() else f"alias `{version}`"
            raise NotDeployedError(f"`{self.key}` has no {what}", hint=f"there is {', '.join(known)}")
        return replace(self, live=known[str(version)])

    def with_alias(self, alias: str, to: int | str | None) -> Deployment:
        """The same with an alias for a version; with None, without it.

        Raises:
            NotDeployedError: This version is not kept, or there is no such alias to remove.
            UsageError: The alias is no name, or one that means something else.
        """
        if to is not None:
            if alias == LIVE or not _ALIAS.fullmatch(alias):
                raise UsageError(
                    f"`{alias}` is no alias for a version",
                    hint="use letters, digits, hyphens and underscores, a letter first, and not `live`",
                )
            return replace(self, aliases={**self.aliases, alias: self.at(to).live})
        if alias not in self.aliases:
            known = ", ".join(self.aliases) or "none"
            raise NotDeployedError(f"`{self.key}` has no alias `{alias}`", hint=f"there is {known}")
        return replace(self, aliases={name: number for name, number in self.aliases.items() if name != alias})

    def kept(self, count: int) -> tuple[Version, ...]:
        """The last versions of these, and those before that have an alias."""
        last = {version.number for version in self.versions[-count:]} if count else set()
        return tuple(each for each in self.versions if each.number in last or each.number in self.aliases.values())

    def model(self, name: str | None = None) -> DeployedModel:
        """A model of the version that answers; the only one, where no name is given.

        Raises:
            NotDeployedError: There is none of this name.
            UsageError: No name is given, and there are several.
        """
        models = {model.name: model for model in self.version.models}
        if name is None and len(models) == 1:
            return self.version.models[0]
        if name in models:
            return models[name]
        known = ", ".join(f"`{self.name}.{one}`" for one in models)
        if name is None:
            raise UsageError(f"`{self.key}` holds {len(models)} models", hint=f"name one of them: {known}")
        raise NotDeployedError(f"`{self.key}` has no model `{name}`", hint=f"there is {known}")

    def versions_of(self, model: str | None = None) -> list[int]:
        """Numbers of the versions that hold a model, or only one model where no name is given."""
        held = ((version.number, {one.name for one in version.models}) for version in self.versions)
        return [number for number, names in held if (len(names) == 1 if model is None else model in names)]

    def address(self, model: str) -> str:
        """How requests name a model of it: `app`, or `app.bert` among several, and the stage if it is not `dev`."""
        name = self.name if len(self.version.models) == 1 else f"{self.name}.{model}"
        return name if self.stage == DEFAULT_STAGE else key_of(name, self.stage)


def key_of(name: str, stage: str) -> str:
    """Name and stage in one word: `bert@dev`."""
    return f"{name}@{stage}"


@dataclass(frozen=True)
class Change:
    """What applying would do to one function.

    Attributes:
        action: What happens to it.
        function: Its name.
        reason: What is new, for people; empty where it is kept.
    """

    action: Literal["create", "update", "keep", "delete"]
    function: str
    reason: str = ""


@dataclass(frozen=True)
class LogLine:
    """One line of a function's log.

    Attributes:
        slice: The function's slice; -1 for a door.
        function: The function.
        text: The line.
        time_ms: When it was written, in milliseconds since 1970; None where nobody knows.
    """

    slice: int
    function: str
    text: str
    time_ms: int | None = None


class NotDeployedError(UsageError):
    """Nothing is deployed under a name and stage."""


class Target(Protocol):
    """Somewhere to deploy to. Thread-safe.

    Every method that takes a name raises `NotDeployedError` if nothing is deployed under it.
    """

    def diff(self, wanted: Wanted) -> list[Change]:
        """What `apply` would change. Builds the packages, and changes nothing else."""
        ...

    def apply(self, wanted: Wanted) -> Deployment:
        """Deploy a new version of all functions, and let it answer as soon as all of them are there."""
        ...

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

        A version is asked by its number or its alias.
        """
        ...

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed, by name and stage."""
        ...

    def logs(
        self,
        name: str,
        *,
        stage: str = DEFAULT_STAGE,
        model: str | None = None,
        slice: int | None = None,
        follow: bool = False,
    ) -> Iterator[LogLine]:
        """What the functions of all models, or of one, have logged; with `follow`, what comes as well, without end."""
        ...

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
        """What the logs say that the functions of all models, or of one, did in a span of time: ms since 1970."""
        ...

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE, to: int | None = None) -> Deployment:
        """Let the version before the live one, or a given one that is kept, answer; all models change together."""
        ...

    def set_alias(self, name: str, alias: str, *, to: int | str | None, stage: str = DEFAULT_STAGE) -> Deployment:
        """Let a name stand for a version, which is kept as long as it does; with `to=None`, no longer."""
        ...

    def delete(self, name: str, *, stage: str = DEFAULT_STAGE) -> None:
        """End it, and leave nothing behind."""
        ...
