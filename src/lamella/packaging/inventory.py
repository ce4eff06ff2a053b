"""What lies in the cache: how large it is, and when it was last asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamella.errors import SlicesError
from lamella.packaging import deflated, layers, package
from lamella.packaging.cache import STAGING, cache_folder
from lamella.runtime.function import read_function

Kind = Literal["package", "closure", "deflated", "unfinished"]
"""A function's package, what packages share, the same as zip files hold it, or what an interrupted build left."""

_FOLDERS: tuple[tuple[Kind, str], ...] = (
    ("package", package.FOLDER),
    ("closure", layers.FOLDER),
    ("deflated", deflated.FOLDER),
)


@dataclass(frozen=True)
class Kept:
    """A folder in the cache.

    Attributes:
        kind: What it is.
        folder: Where it lies; its name is its digest.
        what: For people: a function's name, or distributions with their versions.
        size: Bytes of its files, whoever shares them.
        used: When it was last asked for, in seconds since 1970.
    """

    kind: Kind
    folder: Path
    what: str
    size: int
    used: float


def inventory(cache: Path | None = None) -> list[Kept]:
    """Everything in the cache, what was used last first. Looks at each file's size, and reads none but listings.

    Args:
        cache: The cache's root; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
    """
    found = [kept for kind, name in _FOLDERS for kept in _in(kind, cache_folder(cache) / name)]
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
            yield Kept("unfinished", place, "left by what was interrupted, or under way", size, used)
        elif not entry.name.startswith("."):
            yield Kept(kind, place, _described(kind, place), size, used)


def _described(kind: Kind, place: Path) -> str:
    if kind == "package":
        try:
            function = read_function(place)
        except SlicesError:
            return "damaged"
        return f"{function.name}, delivered by `{function.delivery}`"
    if kind == "closure":
        names = sorted(path.name.removesuffix(".dist-info") for path in place.glob("files/*.dist-info"))
        return ", ".join(name.replace("-", " ") for name in names) or "Lamella's function side"
    return "a closure's files, compressed for zip files"


def _files(kept: Iterable[Kept]) -> list[tuple[os.stat_result, int]]:
    """Status of each file in folders, and how many names it has there."""
    found: dict[tuple[int, int], tuple[os.stat_result, int]] = {}
    for one in kept:
        for status in _statuses(one.folder):
            key = (status.st_dev, status.st_ino)
            found[key] = (status, found[key][1] + 1 if key in found else 1)
    return list(found.values())


def _statuses(folder: Path) -> Iterator[os.stat_result]:
    for place, _, files in os.walk(folder):
        for name in files:
            yield os.stat(os.path.join(place, name), follow_symlinks=False)
