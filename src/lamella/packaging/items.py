"""The parts of a package: files with their digests, known before the package is written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lamella.packaging.cache import FILE_MODE, ensure, has_sizes

FOLDER = "packages"
"""Where packages lie in the cache."""


@dataclass(frozen=True)
class Item:
    """One file of a package.

    Attributes:
        path: In the package, with slashes.
        size: In bytes.
        sha256: Its digest.
        write: Makes the file at a path that is free, in a folder that exists.
    """

    path: str
    size: int
    sha256: str
    write: Callable[[Path], object]


def item_of(path: str, data: bytes) -> Item:
    """A file from bytes."""
    return Item(path, len(data), hashlib.sha256(data).hexdigest(), lambda target: target.write_bytes(data))


def digest_of(items: Sequence[Item]) -> str:
    """SHA-256 over the paths, modes and digests of files, whatever their order."""
    return digest_of_digests((item.path, item.sha256) for item in items)


def digest_of_digests(found: Iterable[tuple[str, str]]) -> str:
    """The same from the files' paths and digests."""
    lines = sorted(f"{path}\0{FILE_MODE:o}\0{sha256}\n" for path, sha256 in found)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def write_items(folder: Path, items: Sequence[Item]) -> None:
    """Write files into a folder."""
    made: set[Path] = set()
    for item in items:
        target = folder / item.path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        item.write(target)


def are_intact(folder: Path, items: Sequence[Item]) -> bool:
    """Whether a folder holds these files, by their sizes."""
    return has_sizes(folder, ((item.path, item.size) for item in items))


def ensure_package(cache: Path, items: Sequence[Item]) -> Path:
    """The folder of a package, which is called by its digest; written once, and then found again.

    Args:
        cache: The cache's root.
        items: All that the package holds.

    Raises:
        PackageError: The cache cannot be written.
    """
    folder = cache / FOLDER / digest_of(items)
    ensure(folder, partial(write_items, items=items), partial(are_intact, items=items))
    return folder


def heaviest(sizes: Iterable[tuple[str, int]], *, shown: int = 8) -> tuple[tuple[str, int], ...]:
    """Of files with their bytes, the folders or files that take the most, in descending order."""
    places: Counter[str] = Counter()
    for path, size in sizes:
        places[_place(path)] += size
    return tuple(places.most_common(shown))


def _place(file: str) -> str:
    """The folder under which a file is added up; large libraries and the model's files stand alone."""
    parts = file.split("/")
    if ".so" in parts[-1] or parts[0] == "model":
        return file
    return "/".join(parts[: min(2, len(parts) - 1)]) or file
