"""What lies in the cache: how large it is, and when it was last asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamella.errors import SlicesError
from lamella.packaging import deflated, items, layers
from lamella.packaging.cache import STAGING, cache_folder
from lamella.packaging.images import unpacking
from lamella.packaging.images.blobs import Blobs
from lamella.packaging.images.building import FOLDER as IMAGES
from lamella.packaging.images.building import image_blobs
from lamella.packaging.images.layers import ImageLayer, all_noted
from lamella.runtime import models
from lamella.runtime.function import FILE_NAME, read_function

Kind = Literal["package", "closure", "deflated", "blob", "unpacked", "function", "unfinished"]
"""A function's package, what packages share, the same as zip files hold it; a part of an image, what images share
unpacked, what a function finds in an image; or what an interrupted build left."""

_UNFINISHED = "left by what was interrupted, or under way"

_FOLDERS: tuple[tuple[Kind, str], ...] = (
    ("package", items.FOLDER),
    ("closure", layers.FOLDER),
    ("deflated", deflated.FOLDER),
    ("unpacked", f"{IMAGES}/{unpacking.UNPACKED}"),
    ("function", f"{IMAGES}/{unpacking.FUNCTIONS}"),
)


@dataclass(frozen=True)
class Kept:
    """A folder in the cache, or a blob, which is a file.

    Attributes:
        kind: What it is.
        folder: Where it lies; its name is its digest.
        what: For people: a function's name, or distributions with their versions.
        size: Bytes of its files, whoever shares them.
        used: When it was last asked for, in seconds since 1970.
        notes: Small files that say what it was made of, and go with it.
    """

    kind: Kind
    folder: Path
    what: str
    size: int
    used: float
    notes: tuple[Path, ...] = ()


def inventory(cache: Path | None = None) -> list[Kept]:
    """Everything in the cache, what was used last first. Looks at each file's size, and reads none but listings.

    Args:
        cache: The cache's root; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
    """
    root = cache_folder(cache)
    found = [kept for kind, name in _FOLDERS for kept in _in(kind, root / name)]
    found += _blobs(image_blobs(root))
    return sorted(found, key=lambda kept: (-kept.used, kept.folder))


def disk_bytes(kept: Iterable[Kept]) -> int:
    """Bytes that folders take: a file with several names counts once."""
    return sum(status.st_size for status, _ in _files(kept))


def freed_bytes(kept: Iterable[Kept]) -> int:
    """Bytes that are free when these folders are gone: those of files that have no other name elsewhere."""
    return sum(status.st_size for status, names in _files(kept) if status.st_nlink <= names)


def _in(kind: Kind, folder: Path) -> Iterator[Kept]:
    try:
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        place = Path(entry.path)
        try:
            size, used = sum(status.st_size for status in _statuses(place)), entry.stat().st_mtime
        except FileNotFoundError:  # it was removed meanwhile, or has got its name
            continue
        if entry.name.startswith(STAGING):
            yield Kept("unfinished", place, _UNFINISHED, size, used)
        elif not entry.name.startswith("."):
            yield Kept(kind, place, _described(kind, place), size, used)


def _blobs(blobs: Blobs) -> Iterator[Kept]:
    """The blobs of images, each with its notes, and notes of blobs that are gone."""
    notes: dict[str, dict[Path, ImageLayer]] = {}
    for note, layer in all_noted(blobs).items():
        if layer is not None:
            notes.setdefault(layer.blob.digest, {})[note] = layer
            continue
        with suppress(FileNotFoundError):  # it has got its name meanwhile
            status = note.lstat()
            yield Kept("unfinished", note, "a note on a layer that is gone", status.st_size, status.st_mtime)
    for path in blobs.path("").glob("*"):
        about = notes.get(f"sha256:{path.name}", {})
        try:
            size, used = sum(status.st_size for status in _statuses(path, *about)), path.stat().st_mtime
        except FileNotFoundError:  # it was removed meanwhile, or has got its name
            continue
        if path.name.startswith(STAGING):
            yield Kept("unfinished", path, _UNFINISHED, size, used)
        else:
            yield Kept("blob", path, _blob_described(about.values()), size, used, tuple(sorted(about)))


def _blob_described(about: Iterable[ImageLayer]) -> str:
    kinds = {layer.kind for layer in about}
    if not kinds:
        return "an image's manifest or configuration"
    own = sorted(kind for kind in kinds if kind)
    return f"an image's layer: {', '.join(own)}" if own else "a base image's layer"


def _described(kind: Kind, place: Path) -> str:
    if kind in ("package", "function"):
        if not (place / FILE_NAME).exists() and (place / models.FILE_NAME).is_file():
            return "a front door"
        try:
            function = read_function(place)
        except SlicesError:
            return "damaged"
        way = "unpacked from its image" if kind == "function" else f"delivered by `{function.delivery}`"
        return f"{function.name}, {way}"
    if kind == "unpacked":
        return "an image's layer, unpacked"
    if kind == "closure":
        names = sorted(path.name.removesuffix(".dist-info") for path in place.glob("files/*.dist-info"))
        return ", ".join(name.replace("-", " ") for name in names) or "Lamella's function side"
    return "a closure's files, compressed for zip files"


def _files(kept: Iterable[Kept]) -> list[tuple[os.stat_result, int]]:
    """Status of each file in folders, and how many names it has there."""
    found: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    for one in kept:
        for status in _statuses(one.folder, *one.notes):
            key = (status.st_dev, status.st_ino)
            found[key] = (status, found[key][1] + 1 if key in found else 1)
    return list(found.values())


def _statuses(*places: Path) -> Iterator[os.stat_result]:
    """Status of each file in folders, and of files themselves."""
    for one in places:
        if one.is_file():
            yield one.stat()
        for place, _, files in os.walk(one):
            for name in files:
                yield os.stat(os.path.join(place, name), follow_symlinks=False)
