"""A folder that one platform at a time uses, whichever process it is in."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from lamella.errors import UsageError

LOGS = "logs"
_LOCK = "lock"


class Claim:
    """Keeps others out of a folder, from its making until `release`, or until the process ends.

    The folder is made if it is missing, and cleared of what a platform has left in it that is no more.

    Args:
        folder: An absolute path.

    Raises:
        UsageError: Another platform uses it, or it cannot be written to.

    Attributes:
        temporary: A new folder in it for temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            while (lock := _locked(folder)) is None:
                pass
            self._lock = lock
            self.temporary = self._prepared()
        except OSError as error:
            raise UsageError(
                f"the platform cannot use `{folder}`: {error.strerror}", hint="give a folder that can be written to"
            ) from error

    def _prepared(self) -> Path:
        try:
            (self._folder / LOGS).mkdir(exist_ok=True, mode=0o700)
            for left in self._folder.glob("run-*"):
                shutil.rmtree(left, ignore_errors=True)
            return Path(tempfile.mkdtemp(prefix="run-", dir=self._folder))
        except BaseException:
            os.close(self._lock)
            raise

    def release(self, *, remove: bool = False) -> None:
        """Let others use it.

        Args:
            remove: Whether the logs and the folder go. Only its owner may remove them: as soon as the lock's file is
                gone, the folder is that of the next one.
        """
        shutil.rmtree(self.temporary, ignore_errors=True)
        if remove:
            shutil.rmtree(self._folder / LOGS, ignore_errors=True)
            (self._folder / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # the next one is there already
                self._folder.rmdir()
        # Closing it would not be enough where a process forked from this one still has it.
        fcntl.flock(self._lock, fcntl.LOCK_UN)
        os.close(self._lock)


def _locked(folder: Path) -> int | None:
    """The lock of a folder; None if its owner has removed it meanwhile, so that others would not see it."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (FileNotFoundError, FileExistsError):  # the latter if the folder goes while `mkdir` looks what it is
        if os.path.lexists(folder) and not folder.is_dir():
            raise
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UsageError(f"another platform uses `{folder}`", hint="close it, or give another folder") from None
    if os.fstat(lock).st_nlink:
        return lock
    os.close(lock)
    return None
