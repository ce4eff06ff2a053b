"""Copies bytes between open files inside the kernel, past Python's memory wherever the system allows it."""

from __future__ import annotations

import errno
import os

_UNSUPPORTED = {errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF}
_BLOCK_BYTES = 4 << 20


def copy_range(source: int, target: int, source_offset: int, target_offset: int, length: int) -> None:
    """Copy `length` bytes between two file descriptors; a reflink where both files allow it.

    Raises:
        OSError: Reading or writing failed, or `source` ended early.
    """
    done = _in_kernel(source, target, source_offset, target_offset, length)
    while done < length:
        block = os.pread(source, min(_BLOCK_BYTES, length - done), source_offset + done)
        if not block:
            raise OSError(errno.EIO, "the file ended while it was copied")
        written = os.pwrite(target, block, target_offset + done)
        done += written


def _in_kernel(source: int, target: int, source_offset: int, target_offset: int, length: int) -> int:
    """Bytes that `copy_file_range` copied: all of them, or none where the kernel cannot."""
    done = 0
    if not hasattr(os, "copy_file_range"):
        return done
    while done < length:
        try:
            copied = os.copy_file_range(source, target, length - done, source_offset + done, target_offset + done)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return done
            raise
        if copied == 0:
            return done
        done += copied
    return done
