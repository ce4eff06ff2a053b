"""What a target is: where a deployment goes. Nothing above it knows which one is at work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from lamella.errors import UsageError
from lamella.platforms.base import Platform
from lamella.runtime.function import Delivery
from lamella.workflow.request import Answer
from lamella.workflow.steps import Workflow

Cold = Literal["sequential", "parallel"]
"""How the first request starts the functions: each when its turn comes, or all at once."""

DEFAULT_STAGE = "dev"
DEFAULT_TIMEOUT_S = 60.0
VERSIONS_KEPT = 5
"""Versions of a deployment that can be rolled back to, the live one included."""


@dataclass(frozen=True)
class Wanted:
    """What is to be deployed.

    Attributes:
        name: The deployment's name.
        stage: The named deployment of it, such as `dev` or `prod`.
        sliced: A slices directory.
        platform: Whose limits hold.
        platform_source: How it is found again by another process: a name, or a file; None: by its name.
        memory_mb: Memory of every function; None: as each slice was planned.
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
    sliced: Path
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
    slice: int
    version: str
    memory_mb: int
    timeout_s: float
    temporary_mb: int
    sha256: str
    unzipped_bytes: int
    folder: str


@dataclass(frozen=True)
class Version:
    """One state of a deployment, to which it can be rolled back.

    Attributes:
        number: From 1 on, never used again.
        created: When it was deployed: ISO 8601, UTC.
        model: File name of the model.
        delivery: How the model reaches the functions.
        cold: How the first request starts them.
        environment: Their variables.
        mount: The shared folder that they see; None: none.
        store: Where large values go, and weights with `object-store`; the deployment's alone.
        workflow: The slices as functions.
        functions: The functions.
    """

    number: int
    created: str
    model: str
    delivery: Delivery
    cold: Cold | None
    environment: Mapping[str, str]
    mount: str | None
    store: str
    workflow: Workflow
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
    """

    name: str
    stage: str
    target: str
    platform: str
    versions: tuple[Version, ...]
    live: int

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
    """One line of a function's log."""

    slice: int
    function: str
    text: str


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
        version: int | None = None,
        slice: int | None = None,
        request_id: str | None = None,
    ) -> Answer:
        """Send one request to the live version or another, to all slices or to one of them alone."""
        ...

    def status(self) -> Sequence[Deployment]:
        """Everything that is deployed, by name and stage."""
        ...

    def logs(
        self, name: str, *, stage: str = DEFAULT_STAGE, slice: int | None = None, follow: bool = False
    ) -> Iterator[LogLine]:
        """What the functions have logged; with `follow`, what they go on to log, without end."""
        ...

    def rollback(self, name: str, *, stage: str = DEFAULT_STAGE) -> Deployment:
        """Let the version before the live one answer again."""
        ...

    def delete(self, name: str, *, stage: str = DEFAULT_STAGE) -> None:
        """End it, and leave nothing behind."""
        ...
