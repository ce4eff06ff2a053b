"""`lamella.deploy`: an endpoint. Here it answers as long as this process lives, on AWS until it is deleted."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from lamella.errors import LamellaError, UsageError
from lamella.platforms import Platform, load_platform
from lamella.runtime.function import Delivery
from lamella.targets.base import (
    DEFAULT_STAGE,
    DEFAULT_TIMEOUT_S,
    Cold,
    DeployedFunction,
    DeployedModel,
    Deployment,
    LogLine,
    Target,
    Wanted,
)
from lamella.targets.sources import check_named, models_of
from lamella.targets.state import check_name, remove_tree
from lamella.tensors import Array, TensorSpec
from lamella.workflow.request import Answer

if TYPE_CHECKING:
    from lamella.targets.aws.settings import Settings
    from lamella.targets.local.target import LocalTarget
    from lamella.targets.reports import Reports
    from lamella.targets.sources import Source


class Endpoint:
    """A deployment, and what answers for it. Thread-safe.

    On this machine, closing it, or the end of its process, ends the deployment. On AWS it stays when the endpoint is
    closed: `delete` ends it.

    Attributes:
        deployment: What is deployed.
        url: Where its functions can be invoked with the AWS Lambda API, for instance by `boto3`; None on AWS, which has
            its own.
    """

    def __init__(
        self, target: Target, deployment: Deployment, *, url: str | None = None, end: Callable[[], None] | None = None
    ) -> None:
        self.deployment, self.url = deployment, url
        self._target = target
        self._finalizer = weakref.finalize(self, end or _nothing)

    @property
    def name(self) -> str:
        """The deployment's name."""
        return self.deployment.name

    @property
    def functions(self) -> tuple[DeployedFunction, ...]:
        """One function a slice, of all models."""
        return self.deployment.version.functions

    @property
    def models(self) -> dict[str, DeployedModel]:
        """The models by their names, each with its `inputs` and `outputs`."""
        return {model.name: model for model in self.deployment.version.models}

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What a request must give.

        Raises:
            UsageError: There are several models: see `models`.
        """
        return self.deployment.model().inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gets.

        Raises:
            UsageError: There are several models: see `models`.
        """
        return self.deployment.model().outputs

    def infer(self, inputs: Mapping[str, object], *, model: str | None = None) -> dict[str, Array]:
        """Send a request through all slices of a model.

        Args:
            inputs: An array for each of `inputs`, by name.
            model: The model's name; not needed where there is one.

        Args:
            inputs: An array for each of `inputs`, by name.

        Returns:
            An array for each of `outputs`, by name.

        Raises:
            NotDeployedError: There is no such model.
            UsageError: There are several models, and none is named; or the endpoint is closed.
            InputError: An input is missing, unknown, or of another datatype or shape.
            RemoteError: A slice failed for good.
        """
        return self.infer_with_timeline(inputs, model=model).outputs

    def infer_with_timeline(
        self, inputs: Mapping[str, object], *, model: str | None = None, request_id: str | None = None
    ) -> Answer:
        """As `infer`, with what each slice did and how long that took."""
        stage = self.deployment.stage
        return self._open().infer(self.name, inputs, stage=stage, model=model, request_id=request_id)

    def infer_slice(self, index: int, inputs: Mapping[str, object], *, model: str | None = None) -> Answer:
        """Run one slice alone, on the values that it takes."""
        return self._open().infer(self.name, inputs, stage=self.deployment.stage, model=model, slice=index)

    def logs(self, *, model: str | None = None, slice: int | None = None) -> Iterator[LogLine]:
        """What the functions of all models, of one, or of one of its slices have logged so far."""
        return self._open().logs(self.name, stage=self.deployment.stage, model=model, slice=slice)

    def reports(
        self, *, model: str | None = None, slice: int | None = None, since_ms: int = 0, until_ms: int | None = None
    ) -> Reports:
        """What the logs say that each function did in a span of time, in milliseconds since 1970.

        `lamella.metrics` makes figures of it.
        """
        target, stage = self._open(), self.deployment.stage
        return target.reports(self.name, stage=stage, model=model, slice=slice, since_ms=since_ms, until_ms=until_ms)

    def _open(self) -> Target:
        if not self._finalizer.alive:
            raise UsageError(f"the endpoint `{self.name}` is closed", hint="deploy it again: `lamella.deploy`")
        return self._target

    def close(self) -> None:
        """End the deployment, with all of its processes and files; on AWS it stays."""
        self._finalizer()

    def delete(self) -> None:
        """End the deployment, wherever it is, and leave nothing of it.

        Raises:
            UsageError: The endpoint is closed.
            RemoteError: AWS cannot delete something.
        """
        self._open().delete(self.name, stage=self.deployment.stage)
        self.close()

    def __enter__(self) -> Endpoint:
        """The endpoint itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _nothing() -> None:
    """The end of an endpoint whose deployment stays."""


def _close(target: LocalTarget, folder: Path) -> None:
    try:
        for deployment in target.status():
            with suppress(LamellaError):  # a store that cannot be reached any more
                target.delete(deployment.name, stage=deployment.stage)
        target.close()
    finally:
        remove_tree(folder)


def deploy(  # noqa: PLR0913  # one argument a flag of `lamella deploy`
    source: Source | Mapping[str, Source],
    *,
    target: Literal["local", "aws"] = "local",
    settings: Settings | None = None,
    name: str | None = None,
    stage: str = DEFAULT_STAGE,
    platform: str | Platform = "aws-lambda",
    slices: int | Literal["max"] | None = None,
    memory_mb: int | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    delivery: Delivery = "package",
    store: str | None = None,
    mount: str | Path | None = None,
    cold: Cold | None = None,
    environment: Mapping[str, str] | None = None,
    verify: bool = True,
    keep_alive_s: float = 600.0,
) -> Endpoint:
    """Deploy slices, each in a function of its own, and get an endpoint that runs them.

    The target `local` is a serverless platform inside this process: every instance of a function is a process with the
    platform's limits on it, started from the package that goes to the cloud. Nothing outlives the endpoint. For a
    deployment on this machine that does, use `lamella deploy` on the command line.

    The target `aws` is the user's own account, where this costs money: nobody is asked. The deployment outlives the
    endpoint; `endpoint.delete()` ends it, or `lamella delete`.

    Args:
        source: A slices directory, what `lamella.slice` returned, or a plan or model (or its file), which is sliced
            first, as is best for the platform. Or several of these by the names of their models, such as
            `{"bert": "bert.slices", "ner": "ner.onnx"}`: one deployment, in which each request names its model.
        target: Where to deploy.
        settings: On AWS: region, profile, doors, and all else (`lamella.targets.aws.settings.Settings`).
        name: The deployment's name; by default from the model's file. Several models need one.
        stage: The named deployment, such as `dev` or `prod`.
        platform: Whose limits hold: a name from `lamella platforms`, a `.toml` file, or a `Platform`.
        slices: How many slices, for a model; by default what is best.
        memory_mb: Memory of every function; by default as the slices were planned for a platform, else what they need,
            and 512 MB at least.
        timeout_s: The longest that one slice may take.
        delivery: How the model reaches the functions: in the `package` or the `image`, fetched from an `object-store`,
            or on a `mount`.
        store: Where values go that are too large for a request: `file:///folder` or `s3://bucket/prefix`; a folder of
            the deployment's own by default.
        mount: On this machine: the shared folder of the delivery `mount`. On AWS a file system is made for it, of the
            kind that `settings.mount` says.
        cold: `"parallel"` starts every function with the first request, instead of each when its turn comes.
        environment: Variables of every function.
        verify: Compare new slices with the whole model.
        keep_alive_s: On this machine: seconds after which an instance that is not used is stopped.

    Raises:
        UsageError: An argument makes no sense.
        MissingDependencyError: The extra of the target is not installed.
        LamellaError: The source cannot be read, planned, sliced or packaged, or does not fit the platform.

    Example:
        ```python
        with lamella.deploy("bert.onnx", slices=2) as endpoint:
            outputs = endpoint.infer({"input_ids": ids, "attention_mask": mask})

        with lamella.deploy({"bert": "bert.slices", "ner": "ner.onnx"}, name="app") as endpoint:
            outputs = endpoint.infer({"tokens": tokens}, model="ner")
        ```
    """
    if target not in ("local", "aws"):
        raise UsageError(f"there is no target `{target}`", hint="there is `local` and `aws`")
    if (target == "aws") != (settings is not None):
        raise UsageError("settings are for the target `aws`, and it needs some", hint='`Settings(region="...")`')
    if isinstance(source, Mapping):
        check_named(source, name, 'give one: `name="app"`')
    chosen = platform if isinstance(platform, Platform) else load_platform(platform)
    folder = Path(tempfile.mkdtemp(prefix="lamella-"))

    def wanted() -> Wanted:
        models = models_of(source, folder / "slices", platform=chosen, slices=slices, cold=cold, verify=verify)
        return Wanted(
            name=check_name(name or next(iter(models)), "name"),
            stage=check_name(stage, "stage"),
            models=models,
            platform=chosen,
            memory_mb=memory_mb,
            timeout_s=timeout_s,
            temporary_mb=512 if settings is None else settings.temporary_mb,
            delivery=delivery,
            store=store,
            mount=None if mount is None else Path(mount).absolute(),
            cold=cold,
            environment=dict(environment or {}),
        )

    if settings is None:
        return _deploy_here(wanted, folder, keep_alive_s)
    try:
        return _deploy_on_aws(wanted, replace(settings, delivery=delivery))
    finally:
        remove_tree(folder)


def _deploy_here(wanted: Callable[[], Wanted], folder: Path, keep_alive_s: float) -> Endpoint:
    from lamella.targets.local.target import LocalTarget

    target = LocalTarget(folder, keeps=False, keep_alive_s=keep_alive_s)
    try:
        deployment = target.apply(wanted())
        url = target.url_of(deployment.name, stage=deployment.stage)
        return Endpoint(target, deployment, url=url, end=partial(_close, target, folder))
    except BaseException:
        _close(target, folder)
        raise


def _deploy_on_aws(wanted: Callable[[], Wanted], settings: Settings) -> Endpoint:
    from lamella.targets.aws.target import AwsTarget

    target = AwsTarget(settings)
    return Endpoint(target, target.apply(wanted()))
