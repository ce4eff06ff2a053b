"""The package of a door: what it needs to answer for models that run elsewhere. It holds no engine and no model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.cache import cache_folder, in_use
from lamella.packaging.interpreter import interpreter_for
from lamella.packaging.items import Item, ensure_package, heaviest, item_of
from lamella.packaging.layers import Layer
from lamella.packaging.own import speaks_s3
from lamella.packaging.shared import extra_distributions, libraries_layer, own_layer
from lamella.platforms.base import Platform
from lamella.runtime.models import FILE_NAME, write_models
from lamella.tensors import TensorSpec
from lamella.workflow.steps import Workflow

HANDLER = "lamella.runtime.door.handler.handle"
"""What a platform calls for a door, also where it is the function of the only slice as well."""


@dataclass(frozen=True)
class DoorPackage:
    """A door's package.

    Attributes:
        folder: Where it lies unpacked, read-only, under its digest.
        sha256: Digest of all paths, modes and contents in it.
        unzipped_bytes: Bytes of its files.
        heaviest: Folders or files in it that take the most, with their bytes, in descending order.
        closures: Where in the cache that lies which it shares with others.
    """

    folder: Path
    sha256: str
    unzipped_bytes: int
    heaviest: tuple[tuple[str, int], ...]
    closures: tuple[Path, ...] = ()


def build_door(
    workflows: Mapping[str, Workflow],
    *,
    platform: Platform,
    architecture: str | None = None,
    python: str | None = None,
    store: str | None = None,
    cache: str | Path | None = None,
) -> DoorPackage:
    """Build the package of a door, or find it again.

    Args:
        workflows: By name in URLs: the models that it answers for. Functions are called there as the platform calls
            them: that is how they are kept warm, and named in errors.
        platform: Its limits hold.
        architecture: As for `build_packages`.
        python: As for `build_packages`.
        store: URI of the store that the door uses.
        cache: Where packages are kept; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.

    Raises:
        UsageError: The platform does not offer what is asked for.
        PackageError: A distribution is missing, a folder cannot be written, or the package is too large.
    """
    root, s3 = cache_folder(None if cache is None else Path(cache)), speaks_s3(store)
    interpreter = interpreter_for(platform, architecture=architecture, python=python)
    names = ("numpy", *extra_distributions(_specs(workflows)))
    with in_use(root):
        layers = (
            libraries_layer(interpreter, names, cache=root),
            own_layer(interpreter, cache=root, s3=s3, engine=False),
        )
        return _build(root, platform, layers, models_item(workflows))


def models_item(workflows: Mapping[str, Workflow]) -> Item:
    """The file of a package that says which models a door answers for."""
    return item_of(FILE_NAME, write_models({name: workflow.to_json() for name, workflow in workflows.items()}))


def _build(root: Path, platform: Platform, layers: Sequence[Layer], described: Item) -> DoorPackage:
    items = (*(item for layer in layers for item in layer.items()), described)
    size, limit = sum(item.size for item in items), platform.limits.package_unzipped_bytes
    if limit is not None and size > limit:
        raise PackageError(
            f"the door's package would have {size:,} bytes, above the {limit:,} of {platform.title}",
            hint="choose a platform with larger packages",
        )
    folder = ensure_package(root, items)
    most = heaviest((item.path, item.size) for item in items)
    return DoorPackage(folder, folder.name, size, most, tuple(layer.place for layer in layers))


def _specs(workflows: Mapping[str, Workflow]) -> Iterator[TensorSpec]:
    for workflow in workflows.values():
        yield from (*workflow.inputs, *workflow.optional_inputs, *workflow.outputs)
