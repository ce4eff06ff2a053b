"""Packages: what one function runs from, an unpacked folder that is the same everywhere."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lamella.packaging.cache import cache_folder, ensure
from lamella.packaging.closure import S3_DISTRIBUTIONS
from lamella.packaging.delivery import Delivered, in_package, on_mount, through_store
from lamella.packaging.door import models_item
from lamella.packaging.interpreter import Interpreter, interpreter_for
from lamella.packaging.items import Item, are_intact, digest_of, heaviest, item_of, write_items
from lamella.packaging.refusals import check_request, check_size, check_values, function_name
from lamella.packaging.shared import engine_layer, own_layer
from lamella.packaging.slice_files import SliceFiles, read_slice
from lamella.platforms.base import Platform
from lamella.runtime.cpu import thread_count
from lamella.runtime.function import FILE_NAME, Delivery, FunctionConfig
from lamella.slicing.verification import check_digests
from lamella.stores.opening import open_store
from lamella.tensors import datatype
from lamella.workflow.manifest import Manifest, read_manifest
from lamella.workflow.steps import workflow_of

_FIRST_FOREIGN = 16  # from this datatype on, NumPy needs `ml_dtypes`


@dataclass(frozen=True)
class Package:
    """A function's package.

    Attributes:
        function: What the function is told, as in its `function.json`.
        folder: Where the package lies unpacked, read-only, under its digest.
        sha256: Digest of all paths, modes and contents in it.
        unzipped_bytes: Bytes of its files.
        heaviest: Folders or files in it that take the most, with their bytes, in descending order.
    """

    function: FunctionConfig
    folder: Path
    sha256: str
    unzipped_bytes: int
    heaviest: tuple[tuple[str, int], ...]


def build_packages(  # noqa: PLR0913 - one argument a flag of `lamella deploy`
    sliced: str | Path,
    *,
    name: str,
    platform: Platform,
    architecture: str | None = None,
    python: str | None = None,
    delivery: Delivery = "package",
    store: str | None = None,
    mount: str | Path | None = None,
    cache: str | Path | None = None,
    door: str | None = None,
) -> list[Package]:
    """Build a package for every slice, or find those again that were built before.

    Each holds the engine and what it imports, Lamella's function side, `function.json`, and, unless it is delivered
    otherwise, one slice with just its own weights. The weights are read once to know their digests, and copied by the
    kernel where there is no such package yet. What all packages share is stored once and costs no further disk.

    Args:
        sliced: A slices directory, whether it refers to the model's weights or holds copies.
        name: Of the deployment; functions are called `NAME-slice-INDEX`.
        platform: Its limits hold.
        architecture: `x86_64` or `arm64`; this machine's by default.
        python: A minor version; this process's by default.
        delivery: How the model reaches the function.
        store: URI of the store that the functions use; with `object-store`, weights are put into it once.
        mount: The mounted folder that slices are put into once, for `mount`; functions find it at the same path.
        cache: Where packages are kept; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
        door: The model's name in URLs, where the function of the only slice is the door as well, with
            `lamella.packaging.door.HANDLER`.

    Returns:
        One package a slice, in their order.

    Raises:
        UsageError: The arguments contradict each other, or the platform does not offer what is asked for.
        SlicesError: The slices directory is incomplete or damaged.
        PackageError: A package is too large for the platform, a distribution is missing, or a folder cannot be written.
        StoreError: The store is unreachable, or refuses.
    """
    directory, root = Path(sliced), cache_folder(None if cache is None else Path(cache))
    manifest = read_manifest(directory)
    check_request(name, manifest, delivery, store=store, mount=mount)
    interpreter = interpreter_for(platform, architecture=architecture, python=python)
    deliver = _deliverer(delivery, store, mount)
    with ThreadPoolExecutor(thread_count()) as pool:
        parts = list(pool.map(partial(read_slice, directory), manifest.slices))
        check_values(parts)
        check_digests(manifest, directory)
        shared = _shared(interpreter, parts, root, s3=store is not None and store.startswith("s3:"))
        for part in parts:
            check_size(platform, delivery, part, shared)
        functions = [_function(name, part, manifest, delivery) for part in parts]
        if door is not None:
            shared = [*shared, models_item({door: workflow_of(manifest, functions)})]
        delivered = list(pool.map(deliver, parts, functions))  # reads the weights
        list(pool.map(lambda found: found.bring(), delivered))
        return list(pool.map(partial(_build, root, shared), delivered))


def _deliverer(
    delivery: Delivery, store: str | None, mount: str | Path | None
) -> Callable[[SliceFiles, FunctionConfig], Delivered]:
    if delivery == "object-store" and store is not None:
        opened = open_store(store)
        return lambda part, function: through_store(part, function, opened)
    if delivery == "mount" and mount is not None:
        folder = Path(mount).absolute()
        return lambda part, function: on_mount(part, function, folder)
    return in_package


def _shared(interpreter: Interpreter, parts: Sequence[SliceFiles], root: Path, *, s3: bool) -> list[Item]:
    """What every package of the deployment holds."""
    kinds = {spec.datatype for part in parts for spec in part.specs if spec.datatype.isupper()}
    foreign = any(datatype(kind).onnx >= _FIRST_FOREIGN for kind in kinds)
    extra = (*(("ml_dtypes",) if foreign else ()), *(S3_DISTRIBUTIONS if s3 else ()))
    layers = (engine_layer(interpreter, cache=root, extra=extra), own_layer(interpreter, cache=root, s3=s3))
    return [item for layer in layers for item in layer.items()]


def _function(name: str, part: SliceFiles, manifest: Manifest, delivery: Delivery) -> FunctionConfig:
    return FunctionConfig(
        name=function_name(name, part.entry.index),
        slice=part.entry.index,
        file=part.name,
        inputs=part.inputs,
        outputs=part.outputs,
        optional_inputs=part.optional_inputs,
        delivery=delivery,
        optimized=manifest.optimized,
    )


def _build(root: Path, shared: Sequence[Item], delivered: Delivered) -> Package:
    with tempfile.TemporaryDirectory(prefix="lamella-function-") as folder:
        delivered.function.write(Path(folder))
        described = item_of(FILE_NAME, (Path(folder) / FILE_NAME).read_bytes())
    items = (*shared, *delivered.items, described)
    digest = digest_of(items)
    place = root / "packages" / digest
    ensure(place, partial(write_items, items=items), partial(are_intact, items=items))
    size, most = sum(item.size for item in items), heaviest((item.path, item.size) for item in items)
    return Package(delivered.function, place, digest, size, most)
