"""Removing from the cache: what was not used for long, and what is damaged. Whatever is needed again is built again."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import time

from lamella.errors import PackageError
from lamella.packaging.cache import STAGING, cache_folder, in_use, remove_folder
from lamella.packaging.deflated import read_deflated
from lamella.packaging.images.building import image_blobs
from lamella.packaging.images.checking import ImageCheck
from lamella.packaging.inventory import Kept, Kind, freed_bytes, inventory
from lamella.packaging.items import digest_of_digests
from lamella.packaging.layers import read_layer
from lamella.packaging.locking import is_locked, locked
from lamella.slicing.verification import sha256_of

OLDER_THAN_DAYS = 30.0
"""What was not asked for in so many days is pruned."""

_DAY_S = 86400.0


@dataclass(frozen=True)
class Pruned:
    """What was removed, or would be.

    Attributes:
        removed: The folders.
        freed_bytes: What that frees on the disk: files that a deployment shares are still there.
    """

    removed: tuple[Kept, ...]
    freed_bytes: int


@dataclass(frozen=True)
class Verified:
    """What a check by digests found.

    Attributes:
        intact: Folders that hold what they should.
        damaged: Those that did not, and were removed.
    """

    intact: tuple[Kept, ...]
    damaged: tuple[Kept, ...]


def prune(cache: Path | None = None, *, older_than_days: float = OLDER_THAN_DAYS, dry_run: bool = False) -> Pruned:
    """Remove what was not used for some days, and what interrupted builds left.

    Deployments on the local target keep copies of their own. What somebody builds or runs from meanwhile is not
    touched, where the file system can lock folders.

    Args:
        cache: The cache's root; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
        older_than_days: 0 for everything.
        dry_run: Only say what would be removed.

    Raises:
        PackageError: The cache is in use, or cannot be written.
    """
    root, before = cache_folder(cache), time() - older_than_days * _DAY_S
    if not root.is_dir():
        return Pruned((), 0)
    with nullcontext() if dry_run else _alone(root, "nothing was pruned"):
        chosen = tuple(kept for kept in inventory(root) if _is_old(kept, before) or older_than_days == 0)
        pruned = Pruned(chosen, freed_bytes(chosen))
        if not dry_run:
            _remove(chosen)
    return pruned


def verify(cache: Path | None = None) -> Verified:
    """Compare everything in the cache with its digests, and remove what differs. Reads all of it.

    Sizes alone are looked at when a package is taken from the cache; a disk that fails, or who writes into a package,
    may leave them as they were.

    Args:
        cache: The cache's root; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.

    Raises:
        PackageError: Something is damaged, and the cache is in use or cannot be written.
    """
    root = cache_folder(cache)
    if not root.is_dir():
        return Verified((), ())
    with in_use(root):
        check = _Check(root)
        finished = [kept for kept in inventory(root) if kept.kind != "unfinished"]
        intact = tuple(kept for kept in finished if check.is_right(kept))
    suspected = [kept for kept in finished if kept not in intact]
    if not suspected:
        return Verified(intact, ())
    names = ", ".join(f"`{kept.folder}`" for kept in suspected)
    with _alone(root, f"{names} cannot be removed, though damaged"):
        check = _Check(root)  # they may have been built again meanwhile
        damaged = tuple(kept for kept in suspected if kept.folder.exists() and not check.is_right(kept))
        _remove(damaged)
    return Verified(intact, damaged)


@contextmanager
def _alone(root: Path, what: str) -> Iterator[None]:
    """The cache for this process alone."""
    try:
        with locked(root, wait=False):
            yield
    except BlockingIOError as error:
        raise PackageError(
            f"{what}: packages in `{root}` are being built, or something runs from them",
            hint="try again when that has ended",
        ) from error
    except OSError as error:
        raise PackageError(
            f"{what}: `{error.filename or root}`: {error.strerror}", hint="see to the rights of the cache's folder"
        ) from error


def _is_old(kept: Kept, before: float) -> bool:
    """Who writes a file holds the cache meanwhile; who builds a folder locks that, too."""
    if kept.kind == "unfinished":
        return not kept.folder.is_dir() or not is_locked(kept.folder)
    return kept.used < before


def _remove(chosen: Iterable[Kept]) -> None:
    """Remove each at once: what is half removed has no name under which anybody would find it."""
    for kept in chosen:
        aside = kept.folder.with_name(f"{STAGING}removed-{token_hex(4)}")
        kept.folder.rename(aside)
        remove_folder(aside)
        for note in kept.notes:
            note.unlink(missing_ok=True)


class _Check:
    """Compares what is kept with its digests. Each file is read once, however many names it has."""

    def __init__(self, root: Path) -> None:
        self._known: dict[tuple[int, int], str] = {}
        self._images = ImageCheck(image_blobs(root), self._digest)

    def is_right(self, kept: Kept) -> bool:
        checks: dict[Kind, Callable[[Path], bool]] = {
            "package": self._is_package_right,
            "closure": self._is_closure_right,
            "deflated": self._is_deflated_right,
            "blob": self._images.is_blob_right,
            "unpacked": self._images.is_unpacked_right,
            "function": self._images.is_function_right,
        }
        try:
            return checks[kept.kind](kept.folder)
        except OSError:  # it cannot be read, or is no file
            return False

    def _is_package_right(self, folder: Path) -> bool:
        return digest_of_digests((path, self._digest(folder / path)) for path in _paths(folder)) == folder.name

    def _is_closure_right(self, folder: Path) -> bool:
        layer = read_layer(folder)
        return layer is not None and {file.path: file.sha256 for file in layer.files} == {
            path: self._digest(layer.folder / path) for path in _paths(layer.folder)
        }

    def _is_deflated_right(self, folder: Path) -> bool:
        streams = read_deflated(folder)
        return streams is not None and self._digest(streams.data) == streams.sha256

    def _digest(self, path: Path) -> str:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key not in self._known:
            self._known[key] = sha256_of(path)
        return self._known[key]


def _paths(folder: Path) -> Iterator[str]:
    """The files in a folder, with slashes."""
    for place, _, files in os.walk(folder):
        for name in files:
            yield (Path(place) / name).relative_to(folder).as_posix()
