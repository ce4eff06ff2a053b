"""Files that functions map from a file system: through the bucket, and with EFS from there by the loader function."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from lamella.errors import RemoteError, StoreError
from lamella.packaging.delivery import MountedFile
from lamella.runtime.answered import Answered
from lamella.stores.base import Store
from lamella.targets.aws.account import Account
from lamella.targets.aws.invoking import AccountCaller
from lamella.targets.aws.stacks import Progress
from lamella.targets.aws.storage import MOUNT_PREFIX

COPYING_S = 60
"""How long one invocation copies: progress is told so often. Checking a whole file then has the rest of 900 s."""

_WAITS = (1, 2, 5, 10, 20, 30)
"""How long an invocation that failed is waited for before the next, in multiples of the shortest wait."""

_BUSY = "BlockingIOError"  # another invocation copies this file: of a run that was killed, it ends within a minute
_DAMAGED = ("DamagedError", "TooShortError")
_FULL = ("[Errno 28]", "[Errno 122]")  # ENOSPC, EDQUOT
_AGAIN = "deploy again, which goes on with what is there, or `lamella delete` it"
_GB = 1e9


class LoadingError(RemoteError):
    """The model did not come to the file system. What there is of it is kept: the next run goes on with it."""


class Loading:
    """The files of a deployment's file system.

    Args:
        account: Whose it is.
        store: The deployment's bucket.
        loader: Name of the function that copies from there; None: the bucket itself is the file system.
        told: Called with what happens.
        poll_s: The shortest wait before something is tried again.
    """

    def __init__(
        self,
        account: Account,
        store: Store,
        loader: str | None,
        *,
        told: Callable[[Progress], None] | None = None,
        poll_s: float = 2.0,
    ) -> None:
        self._caller, self._store, self._loader = AccountCaller(account), store, loader
        self._told, self._poll_s = told or (lambda _: None), poll_s

    def bring(self, files: Sequence[MountedFile]) -> None:
        """Have files on the file system; what is there is neither uploaded nor copied again.

        Raises:
            LoadingError: The file system is full, what was uploaded is damaged, or loader or bucket go on failing.
            StoreError: The bucket does not say what it has.
        """
        wanted = list({file.path: file for file in files}.values())
        if self._loader is None:
            self._upload(wanted)
            return
        missing = set(self._asked(wanted, 0)["missing"])
        lacking = [file for file in wanted if file.path in missing]
        self._upload(lacking)
        self._copy(lacking)

    def clean(self, folders: Collection[str]) -> None:
        """Remove all but these folders; with a loader, also all that was only uploaded to be copied.

        Raises:
            LoadingError: The loader fails again and again.
            StoreError: The bucket refuses, or cannot be reached.
        """
        if self._loader is not None:
            self._answer({"keep": sorted(folders)})
            self._store.delete_all(MOUNT_PREFIX)
            return
        for entry in self._store.list(MOUNT_PREFIX):
            if entry.key.removeprefix(MOUNT_PREFIX).partition("/")[0] not in folders:
                self._store.delete(entry.key)

    def _upload(self, files: Sequence[MountedFile]) -> None:
        """Put files into the bucket, unless they are there: an object is written whole or not at all."""
        there = {entry.key: entry.size for entry in self._store.list(MOUNT_PREFIX)}
        lacking = [file for file in files if there.get(f"{MOUNT_PREFIX}{file.path}") != file.size]
        total, done = sum(file.size for file in lacking), 0
        for file in lacking:
            try:
                self._store.put(f"{MOUNT_PREFIX}{file.path}", *file.buffers())
            except StoreError as error:
                raise LoadingError(f"the model cannot be uploaded: {error}", hint=_AGAIN) from error
            done += file.size
            self._tell("UPLOADED", done, total)

    def _copy(self, files: Sequence[MountedFile]) -> None:
        """Invoke the loader until everything is there: each invocation goes on where the one before has ended."""
        total, before = sum(file.size for file in files), -1
        while files:
            found = self._asked(files, COPYING_S)
            self._tell("COPIED", int(found["bytes"]), total)
            if not found["missing"]:
                return
            if int(found["bytes"]) <= before:
                raise LoadingError(f"`{self._loader}` copies nothing more", hint=f"its log may say more; {_AGAIN}")
            before = int(found["bytes"])

    def _asked(self, files: Sequence[MountedFile], seconds: int) -> dict[str, Any]:
        listed = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in files]
        return self._answer({"files": listed, "seconds": seconds})

    def _answer(self, event: dict[str, object]) -> dict[str, Any]:
        """What the loader answers; a failure that may pass is waited for."""
        assert self._loader is not None
        for wait in (*_WAITS, None):
            answered = self._caller.invoke(self._loader, json.dumps(event).encode())
            if answered.error_type is None:
                break
            self._check_passing(answered, is_last=wait is None)
            time.sleep((wait or 0) * self._poll_s)
        found: dict[str, Any] = json.loads(answered.payload)
        return found

    def _check_passing(self, answered: Answered, *, is_last: bool) -> None:
        """Go on after a failure that may pass.

        Raises:
            LoadingError: It will not, or has not.
        """
        kind, said = str(answered.error_type), answered.error_message or ""
        what = f"`{self._loader}` cannot bring the model to the file system: {kind}: {said}"
        if kind in _DAMAGED:
            self._store.delete_all(MOUNT_PREFIX)
            raise LoadingError(what, hint="what was uploaded is removed: deploy again, which uploads it anew")
        if any(code in said for code in _FULL):
            raise LoadingError(what, hint=f"the file system is full: make room, and {_AGAIN}")
        if is_last or not (answered.retriable or kind == _BUSY):
            raise LoadingError(what, hint=f"its log says more; {_AGAIN}")

    def _tell(self, status: str, done: int, total: int) -> None:
        said = f"{done / _GB:.2f} of {total / _GB:.2f} GB"
        self._told(Progress("model", "AWS::EFS::FileSystem" if self._loader else "AWS::S3::Bucket", status, said))
