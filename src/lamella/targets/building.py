"""The models of a deployment as packages, and the functions that these become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lamella.errors import PlanError, UsageError
from lamella.stores.base import Store
from lamella.targets.base import LEAST_MEMORY_MB, DeployedFunction, DeployedModel, Wanted
from lamella.workflow.manifest import Manifest, read_manifest
from lamella.workflow.steps import check_travels, workflow_of

if TYPE_CHECKING:
    from lamella.packaging.images.building import Image
    from lamella.packaging.package import Package


@dataclass(frozen=True)
class BuiltModel:
    """A model of a deployment, packaged.

    Attributes:
        name: Its name in the deployment.
        manifest: Its slices.
        packages: One a slice.
        images: The image of each package, where a target makes some of them.
    """

    name: str
    manifest: Manifest
    packages: tuple[Package, ...]
    images: tuple[Image, ...] = ()

    def deployed(self) -> DeployedModel:
        """It, as it is deployed."""
        workflow = workflow_of(self.manifest, [package.function for package in self.packages])
        return DeployedModel(self.name, self.manifest.model, workflow)


def build_models(
    wanted: Wanted,
    *,
    store: str,
    architecture: str | None = None,
    python: str | None = None,
    door: bool = False,
    weights: Store | None = None,
    bring: bool = True,
    mounted_at: str | None = None,
) -> list[BuiltModel]:
    """Package every model, or find packages again that were built before.

    Functions are called `NAME-STAGE-slice-INDEX`, and `NAME-STAGE-MODEL-slice-INDEX` where there are several models.

    Args:
        wanted: What is to be deployed.
        store: URI of the deployment's own store.
        architecture: Of the functions; this machine's by default.
        python: Of the functions; this process's minor version by default.
        door: Whether the only function of a deployment is its door as well.
        weights: Where weights are put instead of the store.
        bring: Whether what lies outside of packages is put there at all.
        mounted_at: Where functions see a mount that is not reached from here.

    Raises:
        UsageError: A name is too long for a function.
        LamellaError: A model cannot be packaged.
    """
    from lamella.packaging.package import build_packages

    manifests = {name: read_manifest(directory) for name, directory in wanted.models.items()}
    for manifest in manifests.values():  # before anything takes its time
        check_travels(manifest)
    built = []
    for name, manifest in manifests.items():
        packages = build_packages(
            wanted.models[name],
            name="-".join((wanted.name, wanted.stage, *([name] if len(manifests) > 1 else ()))),
            platform=wanted.platform,
            architecture=architecture,
            python=python,
            delivery=wanted.delivery,
            store=store,
            mount=wanted.mount,
            mounted_at=mounted_at,
            door=name if door and len(manifests) == len(manifest.slices) == 1 else None,
            weights=weights,
            bring=bring,
        )
        built.append(BuiltModel(name, manifest, tuple(packages)))
    return built


def functions_of(wanted: Wanted, built: Sequence[BuiltModel]) -> tuple[DeployedFunction, ...]:
    """The functions that are wanted, without a version yet. A slice that gives nothing needs none.

    Args:
        wanted: What is to be deployed.
        built: Its models.

    Raises:
        UsageError: The memory is no number that makes sense.
        PlanError: The platform does not allow what is wanted.
    """
    if wanted.memory_mb is not None and (type(wanted.memory_mb) is not int or wanted.memory_mb < 1):
        raise UsageError(f"functions cannot have {wanted.memory_mb} MB of memory", hint="give a whole number above 0")
    return tuple(
        _function(wanted, model, package) for model in built for package in model.packages if package.function.outputs
    )


def default_memory_mb(manifest: Manifest, index: int, most_mb: int) -> int:
    """Memory for a slice's function, as planned for a platform, else what it needs, and `LEAST_MEMORY_MB` at least.

    Args:
        manifest: The slices.
        index: Of the slice.
        most_mb: The largest function of the platform, where that is smaller than the floor.
    """
    planned_mb = next(part.memory_mb for part in manifest.slices if part.index == index)
    return planned_mb if manifest.platform is not None else max(planned_mb, min(LEAST_MEMORY_MB, most_mb))


def _function(wanted: Wanted, model: BuiltModel, package: Package) -> DeployedFunction:
    limits, name, index = wanted.platform.limits, package.function.name, package.function.slice
    needed_mb = wanted.memory_mb or default_memory_mb(model.manifest, index, limits.memory_max_mb)
    sizes = limits.memory_sizes(needed_mb)
    if not sizes:
        raise PlanError(
            f"`{name}` needs {needed_mb} MB of memory, and {wanted.platform.name} offers {limits.memory_max_mb} MB",
            hint="ask for less" if wanted.memory_mb else "cut the model into more slices",
        )
    if limits.timeout_s is not None and wanted.timeout_s > limits.timeout_s:
        raise PlanError(
            f"a timeout of {wanted.timeout_s:g} s is above the {limits.timeout_s:g} s of {wanted.platform.name}",
            hint="ask for less, or cut the model into more slices",
        )
    return DeployedFunction(
        name=name,
        model=model.name,
        slice=index,
        version="",
        memory_mb=sizes[0],
        timeout_s=wanted.timeout_s,
        temporary_mb=wanted.temporary_mb,
        sha256=package.sha256,
        unzipped_bytes=package.unzipped_bytes,
        folder=str(package.folder),
    )
