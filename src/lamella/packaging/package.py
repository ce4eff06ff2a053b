"""Packages: what one function runs from, an unpacked folder that is the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lamella.packaging.cache import cache_folder, in_use
from lamella.packaging.delivery import (
    Delivered,
    MountedFile,
    in_package,
    on_mount,
    on_mount_elsewhere,
    through_store,
)
from lamella.packaging.door import models_item
from lamella.packaging.interpreter import Interpreter, interpreter_for
from lamella.packaging.items import Item, ensure_package, heaviest
from lamella.packaging.layers import Layer, LayerFile
from lamella.packaging.own import speaks_s3
from lamella.packaging.refusals import check_request, check_size, check_values, function_name
from lamella.packaging.shared import engine_layer, extra_distributions, own_layer
from lamella.packaging.slice_files import SliceFiles, read_slice
from lamella.platforms.base import Architecture, Platform
from lamella.runtime.cpu import thread_count
from lamella.runtime.function import Delivery, FunctionConfig
from lamella.slicing.verification import check_digests
from lamella.stores.base import Store
from lamella.stores.opening import open_store
from lamella.workflow.manifest import Manifest, read_manifest
from lamella.workflow.steps import workflow_of


@dataclass(frozen=True)
class Package:
    """A function's package.

    Attributes:
        function: What the function is told, as in its `function.json`.
        folder: Where the package lies unpacked, read-only, under its digest.
        sha256: Digest of all paths, modes and contents in it.
        unzipped_bytes: Bytes of its files.
        heaviest: Folders or files in it that take the most, with their bytes, in descending order.
        files: What it holds, sorted by path.
        architecture: The processors that it is for.
        python: Minor version of the Python that it is for.
        closures: Where in the cache that lies which it shares with others.
        mounted: What must be put on the function's mount, where that is not reached from here.
    """

    function: FunctionConfig
    folder: Path
    sha256: str
    unzipped_bytes: int
    heaviest: tuple[tuple[str, int], ...]
    files: tuple[LayerFile, ...]
    architecture: Architecture
    python: str
    closures: tuple[Path, ...] = ()
    mounted: tuple[MountedFile, ...] = field(default=(), compare=False, repr=False)


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
    mounted_at: str | None = None,
    cache: str | Path | None = None,
    door: str | None = None,
    weights: Store | None = None,
    bring: bool = True,
) -> list[Package]:
    """Build a package for every slice, or find those again that were built before.

    Each holds the engine and what it imports, Lamella's function side, `function.json`, and, unless it is delivered
    otherwise, one slice with just its own weights. The weights are read once to know their digests, and copied by the
    kernel where there is no such package yet. What all packages share is stored once and costs no further disk. Whoever
    goes on to use a package's folder does both inside of `lamella.packaging.cache.in_use`, lest it be pruned.

    Args:
        sliced: A slices directory, whether it refers to the model's weights or holds copies.
        name: Of the deployment; functions are called `NAME-slice-INDEX`.
        platform: Its limits hold.
        architecture: `x86_64` or `arm64`; this machine's by default.
        python: A minor version; this process's by default.
        delivery: How the model reaches the function.
        store: URI of the store that the functions use; with `object-store`, weights are put into it once.
        mount: The mounted folder that slices are put into once, for `mount`; functions find it at the same path.
        mounted_at: Instead of `mount`: where functions see a mount that is not reached from here; nothing is put there,
            and `Package.mounted` says what must be.
        cache: Where packages are kept; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
        door: The model's name in URLs, where the function of the only slice is the door as well, with
            `lamella.packaging.door.HANDLER`.
        weights: Where weights are put instead of `store`: the same one as somebody else, or one from which somebody
            brings them there.
        bring: Whether what lies outside of packages is put there at all.

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
    check_request(name, manifest, delivery, store=store, mount=mount or mounted_at)
    interpreter = interpreter_for(platform, architecture=architecture, python=python)
    place = weights
    if delivery == "object-store" and store is not None and place is None and bring:
        place = open_store(store)
        store = place.uri
    deliver = _deliverer(delivery, place, store, mount, mounted_at)
    with in_use(root), ThreadPoolExecutor(thread_count()) as pool:
        parts = list(pool.map(partial(read_slice, directory), manifest.slices))
        check_values(parts)
        check_digests(manifest, directory)
        shared = _shared(interpreter, parts, root, s3=speaks_s3(store))
        functions = [_function(name, part, manifest, delivery) for part in parts]
        front = [] if door is None else [models_item({door: workflow_of(manifest, functions)})]
        common = (*_items(shared), *front)
        for part, function in zip(parts, functions, strict=True):  # before the weights are read
            own = deliver(part.unread(), function).own_items
            check_size(platform, delivery, part.entry.index, (*common, *own))
        delivered = list(pool.map(deliver, parts, functions))  # reads the weights
        if bring:
            list(pool.map(lambda found: found.bring(), delivered))
        return list(pool.map(partial(_build, root, interpreter, shared, common), delivered))


def _deliverer(
    delivery: Delivery, place: Store | None, store: str | None, mount: str | Path | None, mounted_at: str | None
) -> Callable[[SliceFiles, FunctionConfig], Delivered]:
    if delivery == "object-store" and store is not None:
        return lambda part, function: through_store(part, function, place, store)
    if delivery == "mount" and mount is not None:
        folder = Path(mount).absolute()
        return lambda part, function: on_mount(part, function, folder)
    if delivery == "mount" and mounted_at is not None:
        return lambda part, function: on_mount_elsewhere(part, function, mounted_at)
    return in_package


def _shared(interpreter: Interpreter, parts: Sequence[SliceFiles], root: Path, *, s3: bool) -> list[Layer]:
    """What every package of the deployment holds."""
    extra = extra_distributions(spec for part in parts for spec in part.specs)
    return [engine_layer(interpreter, cache=root, extra=extra), own_layer(interpreter, cache=root, s3=s3)]


def _items(layers: Sequence[Layer]) -> list[Item]:
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


def _build(
    root: Path, interpreter: Interpreter, shared: Sequence[Layer], common: Sequence[Item], delivered: Delivered
) -> Package:
    items = (*common, *delivered.own_items)
    place = ensure_package(root, items)
    size, most = sum(item.size for item in items), heaviest((item.path, item.size) for item in items)
    return Package(
        delivered.function,
        place,
        place.name,
        size,
        most,
        files=tuple(sorted((LayerFile(i.path, i.size, i.sha256) for i in items), key=lambda file: file.path)),
        architecture=interpreter.architecture,
        python=interpreter.python,
        closures=tuple(layer.place for layer in shared),
        mounted=delivered.files,
    )
