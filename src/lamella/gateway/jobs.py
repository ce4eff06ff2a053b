"""Asynchronous requests: taken at once, answered later, kept in files so that no restart loses one."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import time
from uuid import uuid4

from lamella.errors import RemoteError, UsageError
from lamella.runtime.message import Message, read_message

KEPT_S = 3600.0
MOST_WAITING = 1000
_ID = re.compile(r"[0-9a-f]{32}")
_AT_THE_SAME_TIME = 16
_log = logging.getLogger("lamella.service")


class UnknownRequestError(UsageError):
    """There is no such asynchronous request, or no more."""


class TooManyRequestsError(RemoteError):
    """No further request is taken now."""


class Jobs:
    """Requests that are answered later. Thread-safe.

    A request that was under way when the process ended runs again at the next start: slices keep no state.

    Args:
        folder: Where requests and results are kept.
        run: Answers a request; its answer says in itself what went wrong.
        kept_s: Seconds for which a result is kept.
        most_waiting: Requests at most that have no result yet; further ones are refused.
    """

    def __init__(
        self,
        folder: Path,
        run: Callable[[Message], Message],
        *,
        kept_s: float = KEPT_S,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._folder, self._run, self._kept_s, self._most = folder, run, kept_s, most_waiting
        self._threads = ThreadPoolExecutor(_AT_THE_SAME_TIME, thread_name_prefix="lamella-job")
        self._waiting: set[str] = set()
        self._lost: dict[str, str] = {}  # what was answered for nothing, and why
        self._lock = Lock()

    def resume(self) -> None:
        """Run what an earlier process has taken and not answered."""
        for path in sorted(self._folder.glob("*/request"), key=lambda p: p.stat().st_mtime):
            job = path.parent.name
            with self._lock:
                if job in self._waiting or (path.parent / "result").exists():
                    continue  # taken by this process
                self._waiting.add(job)
            self._threads.submit(self._answer, job)

    def submit(self, request: Message) -> str:
        """Take a request; returns the id to ask for its result with.

        Raises:
            TooManyRequestsError: Too many are waiting.
            OSError: It cannot be kept.
        """
        job = uuid4().hex
        with self._lock:
            if len(self._waiting) >= self._most:
                raise TooManyRequestsError(
                    f"{self._most} requests are waiting for their results already", hint="send this one again later"
                )
            self._waiting.add(job)
        folder = self._folder / job
        try:
            folder.mkdir(parents=True, mode=0o700)
            _write(folder / "request", request)
            self._threads.submit(self._answer, job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            self._ended(job)
            raise
        return job

    def result(self, job: str) -> Message | None:
        """The result of a request; None as long as there is none.

        Raises:
            UnknownRequestError: There is no such request.
            RemoteError: It has been answered, and the answer could not be kept.
        """
        folder = self._folder / job
        if not _ID.fullmatch(job) or not (folder / "request").exists():
            raise UnknownRequestError(
                f"there is no request `{job}`", hint=f"results are kept for {self._kept_s / 60:g} minutes"
            )
        with suppress(FileNotFoundError):
            return read_message((folder / "result").read_bytes())
        if job in self._lost:
            raise RemoteError(
                f"`{job}` was answered, and the answer could not be kept: {self._lost[job]}",
                hint="the request runs again when the service starts again",
            )
        return None

    @property
    def waiting(self) -> int:
        """How many requests have no result yet."""
        return len(self._waiting)

    def expire(self) -> None:
        """Remove results that have been kept for long enough."""
        before = time() - self._kept_s
        for path in self._folder.glob("*/result"):
            with suppress(FileNotFoundError):  # forgotten meanwhile
                if path.stat().st_mtime < before:
                    shutil.rmtree(path.parent, ignore_errors=True)

    def forget(self, matches: Callable[[Mapping[str, object]], bool]) -> None:
        """Remove the answered requests whose head matches, with their results."""
        for path in self._folder.glob("*/result"):
            with suppress(FileNotFoundError):  # expired meanwhile
                if matches(_head(path.parent / "request")):
                    shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Wait for what is under way; what has not begun stays for the next start."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _answer(self, job: str) -> None:
        folder = self._folder / job
        try:
            _write(folder / "result", self._run(read_message((folder / "request").read_bytes())))
        except OSError as error:
            _log.exception("the answer to `%s` cannot be kept", job)
            self._lost[job] = (error.strerror or str(error)).lower()
        finally:
            self._ended(job)

    def _ended(self, job: str) -> None:
        with self._lock:
            self._waiting.discard(job)


def _head(path: Path) -> Mapping[str, object]:
    """The head of a message in a file; its body, which may be large, is not read."""
    with path.open("rb") as file:
        head: Mapping[str, object] = json.loads(file.readline())
    return head


def _write(path: Path, message: Message) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(message.to_bytes())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)  # what a full disk has taken of it
        raise
