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
from lamella.packaging.inventory import Kept, freed_bytes, inventory
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
        digest = _once_a_file()
        finished = [kept for kept in inventory(root) if kept.kind != "unfinished"]
        intact = tuple(kept for kept in finished if _is_right(kept, digest))
    suspected = [kept for kept in finished if kept not in intact]
    if not suspected:
        return Verified(intact, ())
    names = ", ".join(f"`{kept.folder}`" for kept in suspected)
    with _alone(root, f"{names} cannot be removed, though damaged"):
        digest = _once_a_file()  # they may have been built again meanwhile
        damaged = tuple(kept for kept in suspected if kept.folder.is_dir() and not _is_right(kept, digest))
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
    return not is_locked(kept.folder) if kept.kind == "unfinished" else kept.used < before


def _remove(chosen: Iterable[Kept]) -> None:
    """Remove folders, each at once: what is half removed has no name under which anybody would find it."""
    for kept in chosen:
        aside = kept.folder.with_name(f"{STAGING}removed-{token_hex(4)}")
        kept.folder.rename(aside)
        remove_folder(aside)


def _once_a_file() -> Callable[[Path], str]:
    """The digest of a file, which is read once however many names it has."""
    known: dict[tuple[int, int], str] = {}

    def digest(path: Path) -> str:
        status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key not in known:
            known[key] = sha256_of(path)
        return known[key]

    return digest


def _is_right(kept: Kept, digest: Callable[[Path], str]) -> bool:
    try:
        if kept.kind == "package":
            return digest_of_digests((path, digest(kept.folder / path)) for path in _paths(kept.folder)) == (
                kept.folder.name
            )
        if kept.kind == "closure":
            layer = read_layer(kept.folder)
            return layer is not None and {file.path: file.sha256 for file in layer.files} == {
                path: digest(layer.folder / path) for path in _paths(layer.folder)
            }
        streams = read_deflated(kept.folder)
        return streams is not None and digest(streams.data) == streams.sha256
    except OSError:  # it cannot be read, or is no file
        return False


def _paths(folder: Path) -> Iterator[str]:
    """The files in a folder, with slashes."""
    for place, _, files in os.walk(folder):
        for name in files:
            yield (Path(place) / name).relative_to(folder).as_posix()
