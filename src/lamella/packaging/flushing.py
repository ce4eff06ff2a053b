"""Content that reaches the disk before its name does, so that a power cut leaves no file of the right size wrong."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_AT_ONCE = 16  # a journal commits for all that wait


def flush(folder: Path) -> None:
    """Have the disk hold the content of all files in a folder.

    Files with several names were flushed under their first one. Folders are not flushed: a file that is missing is
    noticed, one of the right size that holds other bytes is not.

    Raises:
        OSError: The disk failed, or is full.
    """
    found = (os.path.join(place, name) for place, _, files in os.walk(folder) for name in files)
    paths = [path for path in found if os.stat(path).st_nlink == 1]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="lamella-flush") as pool:
        list(pool.map(_flush_file, paths))


def _flush_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
