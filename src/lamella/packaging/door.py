"""The package of a door: what it needs to answer for models that run elsewhere. It holds no engine and no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lamella.errors import PackageError
from lamella.packaging.cache import cache_folder, ensure, in_use
from lamella.packaging.closure import S3_DISTRIBUTIONS
from lamella.packaging.interpreter import interpreter_for
from lamella.packaging.items import Item, are_intact, digest_of, heaviest, item_of, write_items
from lamella.packaging.layers import Layer
from lamella.packaging.shared import libraries_layer, own_layer
from lamella.platforms.base import Platform
from lamella.runtime.models import FILE_NAME, write_models
from lamella.tensors import datatype
from lamella.workflow.steps import Workflow

HANDLER = "lamella.runtime.door.handler.handle"
"""What a platform calls for a door, also where it is the function of the only slice as well."""

_FIRST_FOREIGN = 16  # from this datatype on, NumPy needs `ml_dtypes`


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
    root, s3 = cache_folder(None if cache is None else Path(cache)), store is not None and store.startswith("s3:")
    interpreter = interpreter_for(platform, architecture=architecture, python=python)
    names = ("numpy", *(("ml_dtypes",) if _has_foreign(workflows) else ()), *(S3_DISTRIBUTIONS if s3 else ()))
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
    digest = digest_of(items)
    folder = root / "packages" / digest
    ensure(folder, partial(write_items, items=items), partial(are_intact, items=items))
    most = heaviest((item.path, item.size) for item in items)
    return DoorPackage(folder, digest, size, most, tuple(layer.place for layer in layers))


def _has_foreign(workflows: Mapping[str, Workflow]) -> bool:
    specs = (
        spec
        for workflow in workflows.values()
        for spec in (*workflow.inputs, *workflow.optional_inputs, *workflow.outputs)
    )
    return any(datatype(spec.datatype).onnx >= _FIRST_FOREIGN for spec in specs)
