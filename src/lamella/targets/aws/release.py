"""What is deployed at a time: functions, and the models that they make up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from lamella.errors import LamellaError
from lamella.packaging.door import HANDLER as DOOR_HANDLER
from lamella.targets.aws.settings import Settings, WorkflowKind
from lamella.targets.aws.storage import MOUNT_PREFIX
from lamella.workflow.steps import Step, Workflow

HANDLER = "lamella.runtime.handler.handle"


@dataclass(frozen=True)
class ZipCode:
    """A package in the deployment's bucket.

    Attributes:
        key: Where: `packages/DIGEST.zip`; another package has another key, which is how CloudFormation knows.
    """

    key: str


@dataclass(frozen=True)
class ImageCode:
    """An image in the deployment's repository.

    Attributes:
        digest: Of its manifest: `sha256:...`.
    """

    digest: str


@dataclass(frozen=True, kw_only=True)
class Function:
    """One function of a release.

    Attributes:
        name: Its name on AWS.
        model: The model whose slice it runs; None: it is the door.
        slice: The slice; None: it is the door.
        code: Its package or image.
        memory_mb: Its memory.
        timeout_s: The longest that one request may take.
        temporary_mb: Its temporary storage.
        package_bytes: What is stored for it: its zip file, or of its image what those of slices before it do not have.
        weights: Keys of the weights that it fetches from the bucket, with `object-store`; with `mount`, of what it maps
            from there, which need not be in the bucket any more.
        environment: Further variables.
        handler: What is called.
        version: Logical id of its published version, once it has one; see `template.published`.
    """

    name: str
    model: str | None
    slice: int | None
    code: ZipCode | ImageCode
    memory_mb: int
    timeout_s: int
    temporary_mb: int = 512
    package_bytes: int = 0
    weights: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    handler: str = HANDLER
    version: str | None = None

    @property
    def is_door(self) -> bool:
        """Whether it runs no slice."""
        return self.slice is None

    @property
    def is_mounted(self) -> bool:
        """Whether its model lies on the file system."""
        return any(key.startswith(MOUNT_PREFIX) for key in self.weights)

    @property
    def mounted_folders(self) -> frozenset[str]:
        """The folders of the file system that it maps files from."""
        found = (key.removeprefix(MOUNT_PREFIX) for key in self.weights if key.startswith(MOUNT_PREFIX))
        return frozenset(path.partition("/")[0] for path in found)

    @property
    def version_id(self) -> str:
        """Logical id of its version.

        Raises:
            LamellaError: It was never published.
        """
        if self.version is None:
            raise LamellaError(f"`{self.name}` has no version", hint="deploy it again")
        return self.version


@dataclass(frozen=True)
class Model:
    """One model of a release.

    Attributes:
        name: Its name in the deployment.
        workflow: Its slices, with the values that they exchange.
    """

    name: str
    workflow: Workflow

    def kind(self, settings: Settings) -> WorkflowKind:
        """How its slices are joined: a single one needs nothing."""
        return "single" if len(self.workflow.steps) == 1 else settings.workflow

    @cached_property
    def levels(self) -> tuple[tuple[Step, ...], ...]:
        """Its slices in the order in which they can run; those of one level do not wait for each other.

        Raises:
            LamellaError: A slice takes a value that nobody gives.
        """
        here = {spec.name for spec in (*self.workflow.inputs, *self.workflow.optional_inputs)}
        waiting, levels = list(self.workflow.steps), []
        while waiting:
            ready = tuple(step for step in waiting if here.issuperset(step.needs))
            if not ready:
                raise LamellaError(f"slice {waiting[0].slice} takes values that no slice makes", hint="slice it again")
            levels.append(ready)
            waiting = [step for step in waiting if step not in ready]
            here.update(name for step in ready for name in step.makes)
        return tuple(levels)

    @property
    def is_chain(self) -> bool:
        """Whether its slices run one after the other."""
        return all(len(level) == 1 for level in self.levels)


@dataclass(frozen=True)
class Release:
    """One state of a deployment: what a `Version` of it is made of.

    Attributes:
        number: From 1 on.
        models: Its models.
        functions: One for each slice of each model, and the door, if there is one.
    """

    number: int
    models: tuple[Model, ...]
    functions: tuple[Function, ...]

    def function(self, model: str, slice: int) -> Function:
        """The function of a slice.

        Raises:
            LamellaError: There is none.
        """
        for function in self.functions:
            if (function.model, function.slice) == (model, slice):
                return function
        raise LamellaError(f"slice {slice} of `{model}` has no function", hint="deploy it again")

    def is_alone(self, function: Function) -> bool:
        """Whether a function runs the only slice of its model."""
        return any(model.name == function.model and len(model.workflow.steps) == 1 for model in self.models)

    def first(self, model: Model) -> Function:
        """The function of a model's first slice."""
        return self.function(model.name, model.levels[0][0].slice)

    @property
    def door(self) -> Function | None:
        """The function that answers the world: one of its own, or the only slice's; None: none was made for that."""
        return next((each for each in self.functions if each.is_door or each.handler == DOOR_HANDLER), None)

    def with_function(self, changed: Function) -> Release:
        """The same with another function of that name."""
        functions = tuple(changed if function.name == changed.name else function for function in self.functions)
        return replace(self, functions=functions)


def needs_door(settings: Settings, models: tuple[Model, ...]) -> bool:
    """Whether a release must have a function that is only the door.

    A single slice is the door itself, unless it is on a mount: then it is in a network of its own, from which it cannot
    invoke anything.
    """
    if not settings.has_front_door:
        return False
    return len(models) > 1 or settings.delivery == "mount" or any(model.kind(settings) != "single" for model in models)
