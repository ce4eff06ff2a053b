"""Asynchronous requests: taken at once, answered later, kept in files so that no restart loses one."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
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


class UnknownRequestError(UsageError):
    """There is no such asynchronous request, or no more."""


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
        self._lock = Lock()

    def resume(self) -> None:
        """Run what an earlier process has taken and not answered."""
        for path in sorted(self._folder.glob("*/request"), key=lambda p: p.stat().st_mtime):
            if not (path.parent / "result").exists():
                self._start(path.parent.name)

    def submit(self, request: Message) -> str:
        """Take a request; returns the id to ask for its result with.

        Raises:
            RemoteError: Too many are waiting.
        """
        with self._lock:
            if len(self._waiting) >= self._most:
                raise RemoteError(
                    f"{self._most} requests are waiting for their results already", hint="send this one again later"
                )
        job = uuid4().hex
        folder = self._folder / job
        folder.mkdir(parents=True, mode=0o700)
        _write(folder / "request", request)
        self._start(job)
        return job

    def result(self, job: str) -> Message | None:
        """The result of a request; None as long as there is none.

        Raises:
            UnknownRequestError: There is no such request.
        """
        folder = self._folder / job
        if not _ID.fullmatch(job) or not (folder / "request").exists():
            raise UnknownRequestError(
                f"there is no request `{job}`", hint=f"results are kept for {self._kept_s / 60:g} minutes"
            )
        path = folder / "result"
        return read_message(path.read_bytes()) if path.exists() else None

    @property
    def waiting(self) -> int:
        """How many requests have no result yet."""
        return len(self._waiting)

    def expire(self) -> None:
        """Remove results that have been kept for long enough."""
        before = time() - self._kept_s
        for path in self._folder.glob("*/result"):
            if path.stat().st_mtime < before:
                shutil.rmtree(path.parent, ignore_errors=True)

    def forget(self, matches: Callable[[Mapping[str, object]], bool]) -> None:
        """Remove the answered requests whose head matches, with their results."""
        for path in self._folder.glob("*/result"):
            if matches(read_message((path.parent / "request").read_bytes()).head):
                shutil.rmtree(path.parent, ignore_errors=True)

    def close(self) -> None:
        """Wait for what is under way; what has not begun stays for the next start."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _start(self, job: str) -> None:
        with self._lock:
            self._waiting.add(job)
        self._threads.submit(self._answer, job)

    def _answer(self, job: str) -> None:
        folder = self._folder / job
        try:
            _write(folder / "result", self._run(read_message((folder / "request").read_bytes())))
        finally:
            with self._lock:
                self._waiting.discard(job)


def _write(path: Path, message: Message) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(message.to_bytes())
    partial.replace(path)
