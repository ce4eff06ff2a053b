"""How a slice reaches its function: in its package, with its weights in an object store, or on a mount."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lamella.packaging.cache import ensure
from lamella.packaging.items import Item, are_intact, digest_of, item_of, write_items
from lamella.packaging.slice_files import SliceFiles
from lamella.runtime.function import FILE_NAME, FunctionConfig, ObjectFile
from lamella.stores.base import Store

MODEL_FOLDER = "model"
"""Where the model lies in a package."""

_OBJECTS = "weights"  # the prefix of weights in a store; behind it comes their digest


@dataclass(frozen=True)
class MountedFile:
    """A file that functions find on their mount.

    Attributes:
        path: Below the mount: the digest of all files of its slice, and its name.
        size: In bytes.
        sha256: Its digest.
        buffers: Its bytes in a row, of which none is read before it is used.
    """

    path: str
    size: int
    sha256: str
    buffers: Callable[[], Sequence[bytes | memoryview]]


@dataclass(frozen=True)
class Delivered:
    """What delivering a slice means.

    Attributes:
        function: What the function is told.
        items: The model's files in the package.
        bring: Puts what lies outside of the package into its place, unless it is there.
        files: What somebody else must put on the mount.
    """

    function: FunctionConfig
    items: tuple[Item, ...]
    bring: Callable[[], None]
    files: tuple[MountedFile, ...] = ()

    @property
    def own_items(self) -> tuple[Item, ...]:
        """What the package holds of its own: the model's files in it, and `function.json`."""
        return (*self.items, item_of(FILE_NAME, self.function.encoded()))


def in_package(part: SliceFiles, function: FunctionConfig) -> Delivered:
    """The slice file and its weights lie in the package, or in the image that is made of it."""
    items = tuple(replace(item, path=f"{MODEL_FOLDER}/{item.path}") for item in _items(part))
    return Delivered(replace(function, model_folder=MODEL_FOLDER), items, _nothing)


def through_store(part: SliceFiles, function: FunctionConfig, store: Store | None, uri: str) -> Delivered:
    """The slice file lies in the package, its weights in a store, under their digest; they are put there once.

    Args:
        part: The slice.
        function: What its function is told.
        store: Where weights are put; None: nowhere.
        uri: What the function knows the store by: another one, where somebody brings them there.
    """
    function = replace(function, model_folder=MODEL_FOLDER)
    items = (item_of(f"{MODEL_FOLDER}/{part.name}", part.data),)
    weights = part.weights
    if weights is None:
        return Delivered(function, items, _nothing)
    key = f"{_OBJECTS}/{weights.sha256}"
    objects = (ObjectFile(weights.name, _object_uri(uri, key), weights.size, weights.sha256),)

    def bring() -> None:
        if store is not None and not any(entry.key == key and entry.size == weights.size for entry in store.list(key)):
            store.put(key, *weights.buffers())

    return Delivered(replace(function, objects=objects, weights=part.tensors), items, bring)


def on_mount(part: SliceFiles, function: FunctionConfig, mount: Path) -> Delivered:
    """Slice file and weights lie in a folder of the mount that is called by their digest; the engine maps them there.

    They lie together, since engines refuse weights outside of the model file's own folder.
    """
    items = _items(part)
    folder = mount / digest_of(items)
    bring = partial(ensure, folder, partial(_write, items), partial(_is_there, items))
    return Delivered(replace(function, model_folder=str(folder)), (), bring)


def on_mount_elsewhere(part: SliceFiles, function: FunctionConfig, mount: str) -> Delivered:
    """The same where the mount cannot be reached from here: somebody else puts `files` there.

    Args:
        part: The slice.
        function: What its function is told.
        mount: Where the function sees the mount.
    """
    digest, weights = digest_of(_items(part)), part.weights
    own = item_of(part.name, part.data)
    files = [MountedFile(f"{digest}/{own.path}", own.size, own.sha256, lambda: [part.data])]
    if weights is not None:
        files.append(MountedFile(f"{digest}/{weights.name}", weights.size, weights.sha256, weights.buffers))
    return Delivered(replace(function, model_folder=f"{mount}/{digest}"), (), _nothing, tuple(files))


def _items(part: SliceFiles) -> tuple[Item, ...]:
    items = [item_of(part.name, part.data)]
    if part.weights is not None:
        items.append(Item(part.weights.name, part.weights.size, part.weights.sha256, part.weights.write))
    return tuple(items)


def _write(items: tuple[Item, ...], folder: Path) -> None:
    write_items(folder, items)


def _is_there(items: tuple[Item, ...], folder: Path) -> bool:
    return are_intact(folder, items)


def _object_uri(store_uri: str, key: str) -> str:
    """The URI that writing an object gives; `key` has nothing in it that must be escaped."""
    place, mark, options = store_uri.partition("?")
    slash = "" if place.endswith("/") else "/"
    return f"{place}{slash}{key}{mark}{options}"


def _nothing() -> None:
    """The package holds everything."""
