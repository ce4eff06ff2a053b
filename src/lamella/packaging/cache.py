"""Folders that are there whole or not at all: packages and what they share, kept for the next time.

A folder is filled under a temporary name beside its place, flushed to the disk, made read-only, and renamed. What a
killed process leaves behind is never found under a folder's name, and is removed later. When a folder was last asked
for is its time of modification.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from time import time

from lamella.errors import PackageError
from lamella.packaging.flushing import flush
from lamella.packaging.locking import is_locked, locked
from lamella.slicing.placement import copy

FILE_MODE, FOLDER_MODE = 0o444, 0o555

STAGING = ".building-"
"""What names begin with of folders that are being built, or removed."""

_ABANDONED_AFTER_S = 3600.0
_ATTEMPTS = 10  # to put a folder into its place; where folders can be locked, the second succeeds


def cache_folder(folder: Path | None = None) -> Path:
    """Where packages are kept: `folder`, else `$LAMELLA_HOME`, else `~/.cache/lamella` (`XDG_CACHE_HOME`)."""
    if folder is not None:
        return folder.absolute()
    home = os.environ.get("LAMELLA_HOME")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(home) if home else Path(base) / "lamella").absolute()


@contextmanager
def in_use(cache: Path | None = None) -> Iterator[None]:
    """Keep what is in the cache there: nobody prunes it meanwhile.

    Whoever runs from a package's folder in the cache, or copies it, does so inside of this.

    Args:
        cache: The cache's root; `$LAMELLA_HOME`, else `~/.cache/lamella`, by default.
    """
    root = cache_folder(cache)
    with ExitStack() as held:
        with suppress(OSError):  # what cannot be opened is not pruned either; who writes into it says why
            root.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(root, shared=True))
        yield


def ensure(folder: Path, fill: Callable[[Path], None], is_intact: Callable[[Path], bool]) -> None:
    """Have `folder` hold what `fill` makes, read-only; nothing is done where it is there and intact.

    Several processes may do this at the same time for the same content: one of the results stays. Content reaches the
    disk before it gets its name, which takes as long as writing it there.

    Args:
        folder: Its place.
        fill: Writes the content into a new folder.
        is_intact: Whether a folder holds that content; files may have been removed from a cache since.

    Raises:
        PackageError: The folder cannot be written.
    """
    try:
        if is_intact(folder):
            with suppress(OSError):  # a cache that is read-only, or somebody else's
                os.utime(folder)
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        with _staging(folder.parent) as staging:
            fill(staging)
            flush(staging)
            _make_read_only(staging)
            _put(staging, folder, is_intact)
    except OSError as error:
        raise PackageError(
            f"`{folder}` cannot be written: {error.strerror or error}",
            hint="choose a folder that can be written and has room; `LAMELLA_HOME` says where packages are kept",
        ) from error


def has_sizes(folder: Path, sizes: Iterable[tuple[str, int]]) -> bool:
    """Whether a folder holds these files, by their sizes: what removes files from caches, or fills disks, shows.

    That their bytes are right, `lamella.packaging.pruning.verify` knows.

    Args:
        folder: The folder.
        sizes: Paths in it, and bytes.
    """
    try:
        return all(os.stat(folder / path).st_size == size for path, size in sizes)
    except OSError:
        return False


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` a second name of `source`, or a copy where that cannot be: another file system, too many names."""
    try:
        os.link(source, target)
    except OSError:
        copy(source, target)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A folder under `parent`, which is made; removed at the end, as are those that killed processes left there."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_abandoned(parent)
    with _staging(parent) as folder:
        yield folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that `ensure` made, or what is in its place; nothing happens where there is nothing."""
    if folder.is_symlink() or folder.is_file():
        folder.unlink(missing_ok=True)
        return
    for place, _, _ in os.walk(folder):
        with suppress(FileNotFoundError):  # another process may be removing it, too
            os.chmod(place, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """A folder that no other process takes for abandoned; gone at the end unless it was renamed."""
    staging = Path(mkdtemp(prefix=STAGING, dir=parent))
    try:
        with locked(staging):
            yield staging
    finally:
        remove_folder(staging)


def _put(staging: Path, folder: Path, is_intact: Callable[[Path], bool]) -> None:
    """Give a folder its name. One process does so at a time: none moves away what another has just put there."""
    damaged = [staging.with_name(f"{staging.name}-damaged-{attempt}") for attempt in range(_ATTEMPTS)]
    with locked(folder.parent):
        for place in damaged:
            try:
                staging.rename(folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR) or place == damaged[-1]:
                    raise
            if is_intact(folder):  # another process was faster
                break
            with suppress(FileNotFoundError):
                folder.rename(place)
    for place in damaged:
        remove_folder(place)


def _make_read_only(folder: Path) -> None:
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(place, name)
            if stat.S_IMODE(os.stat(path).st_mode) != FILE_MODE:
                os.chmod(path, FILE_MODE)
        os.chmod(place, FOLDER_MODE)


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes left that were killed an hour ago or earlier."""
    for folder in parent.glob(f"{STAGING}*"):
        with suppress(FileNotFoundError):
            if time() - folder.lstat().st_mtime > _ABANDONED_AFTER_S and not (folder.is_dir() and is_locked(folder)):
                remove_folder(folder)
