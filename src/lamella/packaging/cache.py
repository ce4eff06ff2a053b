"""Folders that are there whole or not at all: packages and what they share, kept for the next time.

A folder is filled under a temporary name beside its place, made read-only, and renamed. What a killed process leaves
behind is never found under a folder's name, and is removed later.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from time import time

from lamella.errors import PackageError
from lamella.slicing.placement import copy

FILE_MODE, FOLDER_MODE = 0o444, 0o555

_STAGING = ".building-"
_ABANDONED_AFTER_S = 3600.0


def cache_folder(folder: Path | None = None) -> Path:
    """Where packages are kept: `folder`, else `$LAMELLA_HOME`, else `~/.cache/lamella` (`XDG_CACHE_HOME`)."""
    if folder is not None:
        return folder.absolute()
    home = os.environ.get("LAMELLA_HOME")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(home) if home else Path(base) / "lamella").absolute()


def ensure(folder: Path, fill: Callable[[Path], None], is_intact: Callable[[Path], bool]) -> None:
    """Have `folder` hold what `fill` makes, read-only; nothing is done where it is there and intact.

    Several processes may do this at the same time for the same content: one of the results stays.

    Args:
        folder: Its place.
        fill: Writes the content into a new folder.
        is_intact: Whether a folder holds that content; files may have been removed from a cache since.

    Raises:
        PackageError: The folder cannot be written.
    """
    try:
        if is_intact(folder):
            return
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(folder.parent)
        with _staging(folder.parent) as staging:
            fill(staging)
            _make_read_only(staging)
            _rename(staging, folder, is_intact)
    except OSError as error:
        raise PackageError(
            f"`{folder}` cannot be written: {error.strerror or error}",
            hint="choose a folder that can be written and has room; `LAMELLA_HOME` says where packages are kept",
        ) from error


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
    """Remove a folder that `ensure` made; nothing happens where there is none."""
    for place, _, _ in os.walk(folder):
        with suppress(FileNotFoundError):  # another process may be removing it, too
            os.chmod(place, 0o755)
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    """A folder that no other process takes for abandoned; gone at the end unless it was renamed."""
    staging = Path(mkdtemp(prefix=_STAGING, dir=parent))
    descriptor = os.open(staging, os.O_RDONLY)
    try:
        with suppress(OSError):  # network file systems lock no folders; then only their age counts
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield staging
    finally:
        os.close(descriptor)
        remove_folder(staging)


def _rename(staging: Path, folder: Path, is_intact: Callable[[Path], bool]) -> None:
    try:
        staging.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if is_intact(folder):  # another process was faster
            return
        damaged = staging.with_name(f"{staging.name}-damaged")
        folder.rename(damaged)
        staging.rename(folder)
        remove_folder(damaged)


def _make_read_only(folder: Path) -> None:
    for place, _, files in os.walk(folder, topdown=False):
        for name in files:
            path = os.path.join(place, name)
            if stat.S_IMODE(os.stat(path).st_mode) != FILE_MODE:
                os.chmod(path, FILE_MODE)
        os.chmod(place, FOLDER_MODE)


def _remove_abandoned(parent: Path) -> None:
    """Remove what processes left that were killed an hour ago or earlier."""
    for folder in parent.glob(f"{_STAGING}*"):
        with suppress(FileNotFoundError):
            if time() - folder.stat().st_mtime > _ABANDONED_AFTER_S and not _is_locked(folder):
                remove_folder(folder)


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # where no folder can be locked, only its age counts
        return error.errno == errno.EWOULDBLOCK
    finally:
        os.close(descriptor)
    return False
