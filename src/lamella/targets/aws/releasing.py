"""From what is wanted to a release: packages or images are built and brought to AWS, functions are made of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lamella.errors import UsageError
from lamella.packaging.door import HANDLER, DoorPackage, build_door
from lamella.packaging.zip import write_zip
from lamella.runtime.cpu import thread_count
from lamella.stores.base import Store
from lamella.stores.bucket import split_object
from lamella.targets.aws.images import digest_of, with_images
from lamella.targets.aws.mounts import MOUNT_PATH
from lamella.targets.aws.naming import Names
from lamella.targets.aws.release import Function, ImageCode, Model, Release, ZipCode, needs_door
from lamella.targets.aws.repository import DeploymentRepository
from lamella.targets.aws.settings import DOOR_MEMORY_MB, DOOR_TIMEOUT_S, Settings
from lamella.targets.aws.storage import MOUNT_PREFIX
from lamella.targets.base import DeployedFunction, Wanted
from lamella.targets.building import BuiltModel, build_models, functions_of
from lamella.workflow.steps import Workflow

if TYPE_CHECKING:
    from lamella.packaging.images.building import Image
    from lamella.packaging.package import Package

PACKAGES = "packages/"
"""Where packages lie in the bucket."""

RESERVED_VARIABLES = frozenset(
    {
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_DEFAULT_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_LAMBDA_RUNTIME_API",
        "AWS_REGION",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_HANDLER",
    }
)
"""What AWS Lambda sets itself. https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html"""

ANY_STORE = "s3://lamella"
"""Packages need what reads S3; which bucket it is, their environment says."""


def check_wanted(wanted: Wanted) -> None:
    """Refuse what this target does not do, before anything takes its time.

    Raises:
        UsageError: The text names it.
    """
    if wanted.store is not None:
        raise UsageError("a deployment on AWS has a bucket of its own", hint="leave the store out")
    if wanted.mount is not None:
        raise UsageError(
            "a folder of this machine cannot be mounted on AWS", hint="leave `--mount` out: a file system is made there"
        )
    if wanted.cold == "parallel":
        raise UsageError(
            "on AWS nothing starts all functions with the first request", hint="keep them warm: `--keep-warm MINUTES`"
        )
    if wanted.timeout_s <= 0:
        raise UsageError(f"a timeout of {wanted.timeout_s:g} s lets no request end", hint="give at least 1 s")
    taken = sorted(RESERVED_VARIABLES & wanted.environment.keys())
    if taken:
        raise UsageError(f"AWS Lambda sets the variable `{taken[0]}` itself", hint="use another name")


def build(wanted: Wanted, settings: Settings, store: str, *, weights: Store | None = None) -> list[BuiltModel]:
    """Package the slices of all models, or find them again; with the delivery `image`, as images.

    Args:
        wanted: What is to be deployed.
        settings: How it is set up.
        store: URI of the deployment's store.
        weights: Where those are put that functions find in the store; None: they are not put anywhere.

    Raises:
        RegistryError: The base of images cannot be fetched.
        LamellaError: A model cannot be packaged.
    """
    built = build_models(
        wanted,
        store=store,
        architecture=settings.architecture,
        python=settings.python,
        door=settings.has_front_door,
        weights=weights,
        bring=weights is not None,
        mounted_at=MOUNT_PATH if wanted.delivery == "mount" else None,
    )
    return with_images(built, settings, wanted.platform) if settings.delivery == "image" else built


class Place(Protocol):
    """Where packages go: a deployment's bucket, or a folder."""

    def size(self, key: str) -> int | None:
        """Bytes of what is there under a key; None if nothing is."""
        ...

    def upload(self, path: Path, key: str) -> None:
        """Put a file there."""
        ...


def weights_bytes(built: Sequence[BuiltModel]) -> int:
    """Bytes of all files that functions have in the bucket or on a file system, each counted once."""
    packages = [package for model in built for package in model.packages]
    objects = {entry.uri: entry.size for package in packages for entry in package.function.objects}
    return sum({**objects, **{file.path: file.size for package in packages for file in package.mounted}}.values())


class Releasing:
    """Makes the releases of a deployment.

    Args:
        names: Of the deployment.
        settings: Its settings.
        bucket: Where packages go; None: nothing is uploaded, and they count with the bytes that they unpack to.
        repository: Its repository of images; None: nothing is pushed.
    """

    def __init__(
        self,
        names: Names,
        settings: Settings,
        bucket: Place | None,
        repository: DeploymentRepository | None = None,
    ) -> None:
        self._names, self._settings, self._bucket, self._repository = names, settings, bucket, repository

    def release(self, number: int, wanted: Wanted, built: Sequence[BuiltModel]) -> Release:
        """A release; its packages are in the bucket then, and its images in the repository.

        Raises:
            PlanError: The platform does not allow what is wanted.
            RemoteError: A package cannot be uploaded.
            RegistryError: An image cannot be pushed.
        """
        deployed = {function.name: function for function in functions_of(wanted, built)}
        models = tuple(Model(model.name, model.deployed().workflow) for model in built)
        own_door = needs_door(self._settings, models)
        is_door = self._settings.has_front_door and not own_door
        packages = [each for model in built for each in model.packages if each.function.name in deployed]
        images = self._pushed([image for model in built for image in model.images if image.name in deployed])

        def made(package: Package) -> Function:
            stored = images.get(package.sha256) or self._uploaded(package)
            function = deployed[package.function.name]
            return self._slice(function, package, stored, wanted.environment, is_door=is_door)

        with ThreadPoolExecutor(thread_count()) as pool:  # packages are compressed and uploaded
            functions = list(pool.map(made, packages))
        if own_door:
            functions.append(self._door(wanted, models))
        return Release(number, models, tuple(functions))

    def _slice(
        self,
        deployed: DeployedFunction,
        package: Package,
        stored: tuple[ZipCode | ImageCode, int],
        environment: Mapping[str, str],
        *,
        is_door: bool,
    ) -> Function:
        code, size = stored
        found = Function(
            name=self._names.function(deployed.name),
            model=deployed.model,
            slice=deployed.slice,
            code=code,
            memory_mb=deployed.memory_mb,
            timeout_s=math.ceil(deployed.timeout_s),
            temporary_mb=deployed.temporary_mb,
            package_bytes=size,
            weights=_weights(package),
            environment=dict(environment),
        )
        return replace(found, handler=HANDLER) if is_door else found

    def _door(self, wanted: Wanted, models: Sequence[Model]) -> Function:
        workflows = {model.name: self._called_as_on_aws(model.workflow) for model in models}
        package = build_door(
            workflows,
            platform=wanted.platform,
            architecture=self._settings.architecture,
            python=self._settings.python,
            store=ANY_STORE,
        )
        code, size = self._uploaded(package)
        return Function(
            name=self._names.door,
            model=None,
            slice=None,
            code=code,
            memory_mb=DOOR_MEMORY_MB,
            timeout_s=DOOR_TIMEOUT_S,
            package_bytes=size,
            handler=HANDLER,
        )

    def _called_as_on_aws(self, workflow: Workflow) -> Workflow:
        steps = (replace(step, function=self._names.function(step.function)) for step in workflow.steps)
        return replace(workflow, steps=tuple(steps))

    def _pushed(self, images: Sequence[Image]) -> dict[str, tuple[ImageCode, int]]:
        """Images that are in the repository, by the digest of their package, and the bytes that each adds to it.

        One after the other: what the first has brought, those after it find there.
        """
        found: dict[str, tuple[ImageCode, int]] = {}
        stored: set[str] = set()
        for image in images:
            if self._repository is not None:
                self._repository.push(image)
            added = {blob.digest: blob.size for blob in image.descriptors if blob.digest not in stored}
            stored |= added.keys()
            found[digest_of(image)] = ImageCode(image.manifest.digest), sum(added.values())
        return found

    def _uploaded(self, package: Package | DoorPackage) -> tuple[ZipCode, int]:
        """A package that is in its place, and the bytes of its zip file."""
        key = f"{PACKAGES}{package.sha256}.zip"
        if self._bucket is None:
            return ZipCode(key), package.unzipped_bytes
        size = self._bucket.size(key)
        if size is None:
            with tempfile.TemporaryDirectory(prefix="lamella-") as folder:
                file = Path(folder) / "package.zip"
                write_zip(package, file)
                self._bucket.upload(file, key)
                size = file.stat().st_size
        return ZipCode(key), size


def _weights(package: Package) -> tuple[str, ...]:
    """Keys of what a function has in the bucket beside its package."""
    objects = (split_object(entry.uri)[1] for entry in package.function.objects)
    return (*objects, *(f"{MOUNT_PREFIX}{file.path}" for file in package.mounted))
