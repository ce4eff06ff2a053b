"""Locks on folders: they end with the process that holds them, and leave no file behind."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
    """Hold a folder's lock: alone, or together with all others that share it.

    Some network file systems lock no folders; nothing is held there.

    Raises:
        BlockingIOError: Somebody else holds it, and `wait` is False.
        OSError: The folder cannot be opened.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except OSError as error:
            if error.errno == errno.EWOULDBLOCK:
                raise
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether somebody holds a folder's lock.

    Raises:
        OSError: The folder cannot be opened.
    """
    try:
        with locked(folder, wait=False):
            return False
    except BlockingIOError:
        return True
