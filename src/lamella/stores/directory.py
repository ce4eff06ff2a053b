"""A folder as a store: an object is a file, and appears under its name when all of it is written.

What is to last is flushed to the disk before it appears, so that no power cut leaves an object of the right size with
other bytes. Unlike S3, a folder cannot hold `a` and `a/b` at once; the second is refused with a `StoreError`. Symbolic
links are no objects.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from time import time
from urllib.parse import quote, unquote

from lamella.errors import StoreError, UsageError
from lamella.stores.base import Buffer, Entry, check_key, may_begin_a_key, missing, too_short
from lamella.stores.paths import TEMPORARY, key_of, names_of

_SCHEME = "file://"
_MOST_BUFFERS = 512  # in one `writev`; POSIX promises 16, Linux and macOS take 1,024
_ATTEMPTS = 100  # to write into a folder that others remove as soon as it is empty


class DirectoryStore:
    """Objects in a folder, which is made when the first is written.

    Args:
        folder: An absolute path.

    Raises:
        UsageError: The path is not absolute.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_absolute() or ".." in folder.parts:
            raise UsageError(f"`{folder}` is no absolute path", hint="give the folder of a store from the root on")
        self._folder = folder

    @property
    def uri(self) -> str:
        """`file://` and the folder."""
        return _uri(self._folder)

    def put(self, key: str, *buffers: Buffer, lasting: bool = True) -> str:
        """Write a file beside its place, flush it, and move it there; return its URI."""
        path = self._path(key)
        with _errors(_uri(path)), _written(path, buffers, lasting=lasting) as temporary:
            os.replace(temporary, path)
        return _uri(path)

    def create(self, key: str, *buffers: Buffer) -> bool:
        """Write it unless another is there."""
        path = self._path(key)
        with _errors(_uri(path)), _written(path, buffers, lasting=True) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                if path.is_dir():
                    raise IsADirectoryError from None
                return path.read_bytes() == b"".join(buffers)
            os.unlink(temporary)
        return True

    def get(self, key: str) -> bytes:
        """The whole file."""
        path = self._path(key)
        with _errors(_uri(path)), _opened(path) as file:
            return file.read()

    def read_into(self, key: str, buffer: memoryview, *, offset: int = 0) -> None:
        """Fill `buffer` from the file; the kernel copies into it."""
        path, view = self._path(key), buffer.cast("B")
        with _errors(_uri(path)), _opened(path) as file:
            file.seek(offset)
            filled = 0
            while filled < len(view):
                count = file.readinto(view[filled:])
                if not count:
                    raise too_short(_uri(path), offset, len(view))
                filled += count

    def size(self, key: str) -> int:
        """The file's size in bytes."""
        path = self._path(key)
        with _errors(_uri(path)):
            found = path.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            raise missing(_uri(path))
        return found.st_size

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`; reads the folder that `prefix` leads to, and those below."""
        if not may_begin_a_key(prefix):
            return
        *segments, _ = prefix.split("/")
        above = names_of("/".join(segments)) if segments else []
        found = []
        with _errors(self.uri):
            for names, status in _files(self._folder.joinpath(*above), tuple(above)):
                key = key_of(names)
                if key is not None and key.startswith(prefix):
                    found.append(Entry(key, status.st_size, status.st_mtime, _etag(status)))
        yield from sorted(found, key=lambda entry: entry.key)

    def delete(self, key: str) -> None:
        """Remove a file, and the folders that this leaves empty."""
        path = self._path(key)
        with _errors(_uri(path)), suppress(FileNotFoundError, NotADirectoryError):
            if not path.is_dir():
                path.unlink()
        self._remove_empty(path)

    def _remove_empty(self, path: Path) -> None:
        """Remove the folders of a file that was removed, as far as they are empty."""
        for folder in path.parents:
            if folder == self._folder:
                return
            try:
                folder.rmdir()
            except FileNotFoundError:
                continue
            except OSError:  # it holds something
                return

    def delete_all(self, prefix: str, *, older_than_s: float | None = None) -> int:
        """Remove every object whose key begins with `prefix`; return how many there were.

        What a process was writing in a folder below `prefix` when it was killed is removed as well, and not counted.
        """
        before = None if older_than_s is None else time() - older_than_s
        keys = [entry.key for entry in self.list(prefix) if before is None or entry.modified < before]
        for key in keys:
            self.delete(key)
        if may_begin_a_key(prefix):
            self._delete_abandoned(prefix, before)
        return len(keys)

    def _delete_abandoned(self, prefix: str, before: float | None) -> None:
        *segments, _ = prefix.split("/")
        above = names_of("/".join(segments)) if segments else []
        for names, status in _files(self._folder.joinpath(*above), tuple(above)):
            below = "".join(f"{segment}/" for segment in (key_of(names[:-1]) or "").split("/") if segment)
            if names[-1].startswith(TEMPORARY) and below.startswith(prefix):
                path = self._folder.joinpath(*names)
                if before is None or status.st_mtime < before:
                    _remove_abandoned(path, is_old=before is not None)
                    self._remove_empty(path)

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*names_of(check_key(key)))


def open_directory(uri: str) -> DirectoryStore:
    """The store of a `file://` URI."""
    return DirectoryStore(path_of(uri))


def path_of(uri: str) -> Path:
    """The path of a `file://` URI.

    Raises:
        UsageError: It is none of this machine.
    """
    path = unquote(uri.removeprefix(_SCHEME))
    if not path.startswith("/"):
        raise UsageError(f"`{uri}` names another machine", hint="give `file://` and an absolute path")
    return Path(path)


def split_file(uri: str) -> tuple[str, str]:
    """URI of the folder, and key, of a file."""
    path = path_of(uri)
    for folder in path.parents:
        key = key_of(path.relative_to(folder).parts)
        if key:
            return _uri(folder), key
    raise StoreError(f"`{uri}` is no object", hint="give the URI that writing it returned")


def key_in_folder(folder_uri: str, uri: str) -> str | None:
    """The key of a file in a folder, or None where it is not there."""
    path, folder = path_of(uri), path_of(folder_uri)
    if not path.is_relative_to(folder) or ".." in path.parts:
        return None
    return key_of(path.relative_to(folder).parts) or None


def _uri(path: Path) -> str:
    return _SCHEME + quote(str(path))


def _etag(status: os.stat_result) -> str:
    """Differs from that of whatever was or will be there: every object is a file of its own."""
    return f"{status.st_mtime_ns:x}-{status.st_ino:x}-{status.st_size:x}"


def _files(folder: Path, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], os.stat_result]]:
    """Names, from the store's folder on, and status of each file below `folder`, finished or not."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):  # never made, or removed by somebody else in the meantime
        return
    for entry in entries:
        below = (*names, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(folder / entry.name, below)
        elif entry.is_file(follow_symlinks=False):
            with suppress(FileNotFoundError):
                yield below, entry.stat(follow_symlinks=False)


def _opened(path: Path) -> FileIO:
    try:
        return FileIO(str(path), opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW))
    except (IsADirectoryError, NotADirectoryError) as error:
        raise missing(_uri(path)) from error


@contextmanager
def _written(path: Path, buffers: tuple[Buffer, ...], *, lasting: bool) -> Iterator[Path]:
    """A file beside `path` that holds the buffers; it is removed at the end if it is still there."""
    temporary = path.parent / f"{TEMPORARY}{secrets.token_hex(8)}"
    descriptor = _made(temporary)
    try:
        _write_all(descriptor, buffers)
        if lasting:
            os.fsync(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _made(temporary: Path) -> int:
    """Make the file and the folders above it, which another thread's or process's `delete` may remove in between.

    It is locked for as long as it is open, by which others can tell it from one whose process was killed.
    """
    for attempt in range(_ATTEMPTS):
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except (FileNotFoundError, FileExistsError):  # the latter if the folder goes while `mkdir` looks what it is
            if attempt == _ATTEMPTS - 1 or (temporary.parent.exists() and not temporary.parent.is_dir()):
                raise
            continue
        with suppress(OSError):  # some file systems lock nothing; then nobody takes it for abandoned
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # somebody was faster than the lock
    raise AssertionError("unreachable")


def _remove_abandoned(temporary: Path, *, is_old: bool) -> None:
    """Remove a file that was to become an object, unless somebody writes it.

    Where the file system locks nothing, nobody can tell, and only one that is too old for that is removed.
    """
    try:
        descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK or not is_old:
                return
        temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, buffers: tuple[Buffer, ...]) -> None:
    waiting = [view for buffer in buffers if len(view := memoryview(buffer).cast("B"))]
    while waiting:
        written = os.writev(descriptor, waiting[:_MOST_BUFFERS])
        while waiting and written >= len(waiting[0]):
            written -= len(waiting.pop(0))
        if written:
            waiting[0] = waiting[0][written:]


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise missing(uri) from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise StoreError(
            f"`{uri}` is no object: a folder is in its place, or an object in place of its folder",
            hint="a directory cannot hold `a` and `a/b` at once; choose another key",
        ) from error
    except OSError as error:
        raise StoreError(
            f"`{uri}` cannot be read or written: {error.strerror}", hint="see to the folder's rights and space"
        ) from error
