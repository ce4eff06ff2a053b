"""Watches a place, and lets each new object be answered."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType

from lamella.errors import LamellaError, RemoteError, UsageError
from lamella.gateway.events.answering import Answering, Parts
from lamella.gateway.events.dead_letters import DeadLetter, DeadLetters
from lamella.gateway.events.deployed import Deployed, Find
from lamella.gateway.events.ledger import Ledger
from lamella.gateway.events.loops import check_loops
from lamella.gateway.events.sinks.opening import open_sink
from lamella.gateway.events.trigger import Trigger
from lamella.stores.base import Entry
from lamella.stores.opening import open_store
from lamella.targets.base import NotDeployedError

_MOST_WAITING = 10_000  # of more objects, the others wait for the next look
_FORGOTTEN_AFTER_S = 86_400.0
"""An object that is not there for so long is forgotten; it may only be out of reach, as in a folder not mounted."""

_LEDGER = "record.db"
DEAD_LETTERS = "dead-letters"
"""The folder for what is given up without another place, in the trigger's own."""

_STOP_S = 30.0
_PAUSE = 4.0  # times what a look took, at least, before the next: many objects do not keep a processor busy
_LONGEST_PAUSE_S = 60.0
_log = logging.getLogger("lamella.events")


@dataclass(frozen=True)
class Watched:
    """How watching goes.

    Attributes:
        done: Objects that were answered.
        given_up: Objects that went to the dead-letter place.
        waiting: Objects that are seen and not done: new, under way, or to be tried again.
        last_error: What went wrong last, and has not gone well since; None: nothing.
    """

    done: int
    given_up: int
    waiting: int
    last_error: str | None


class Watcher:
    """Makes a request of each new object, in threads of its own, from `start` until `stop`.

    An object is new if nothing is on record about its key with its content: also those that are there at the start. In
    a folder it is taken when two looks find the same size and time, since it may still be written; in a bucket at
    once. Names that begin with a dot, and folders' own objects (`name/`), are left alone.

    At least once: an object is on record as done after its result has arrived, so that one which is under way when the
    process ends is answered again at the next start.

    Args:
        trigger: What is wanted.
        deployed: What answers.
        folder: Of this trigger alone, for its record, and for what is given up without another place.
        find: Finds the deployments that the output names; None: there are none.
        others: Triggers that are active, none of which may bring back what this one gives.
        pause_s: Seconds before an object is tried a second time; each further time takes twice as long.

    Raises:
        UsageError: A place makes no sense, results could start it again, or another process watches for it.
        MissingDependencyError: A place needs a library that is not installed.

    Example:
        ```python
        trigger = Trigger("bert@dev", input="in", output="out")
        with lamella.deploy("bert.slices") as bert, Watcher(trigger, on_endpoint(bert), Path("state")):
            input("answering what comes into `in/`; Enter ends it ")
        ```
    """

    def __init__(
        self,
        trigger: Trigger,
        deployed: Deployed,
        folder: Path,
        *,
        find: Find | None = None,
        others: Sequence[Trigger] = (),
        pause_s: float = 1.0,
    ) -> None:
        check_loops(trigger, others, state=folder)
        self.trigger = trigger
        self._pause_s = pause_s
        source = open_store(trigger.input)
        self._appears_whole = trigger.input.startswith("s3:")
        sink = open_sink(trigger.output, trigger.form, find or _find_nothing)
        given_up = open_store(trigger.dead_letter or (folder.absolute() / DEAD_LETTERS).as_uri())
        self._ledger = Ledger(folder / _LEDGER)
        self._parts = Parts(source, deployed, sink, DeadLetters(given_up, trigger), self._ledger)
        self._answering = Answering(trigger, self._parts)
        self._seen: dict[str, str] = {}
        self._absent: dict[str, float] = {}
        self._retries: dict[str, _Retry] = {}
        self._under_way: dict[str, Future[None]] = {}
        self._look_error: str | None = None
        self._last_error: str | None = None
        self._lock, self._stopping = Lock(), Event()
        self._pool = ThreadPoolExecutor(trigger.parallel, thread_name_prefix=f"lamella-event-{trigger.id}")
        self._thread = Thread(target=self._run, name=f"lamella-watch-{trigger.id}", daemon=True)

    def start(self) -> None:
        """Begin to watch. Once only: a watcher that was stopped is not started again."""
        self._thread.start()

    def stop(self, *, timeout_s: float = _STOP_S) -> None:
        """End it: what has not begun stays for the next start, what is under way comes to its end.

        Args:
            timeout_s: Seconds to wait for that; what takes longer is answered again at the next start.
        """
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            running = [future for future in self._under_way.values() if not future.cancelled()]
        wait(running, timeout_s)
        self._ledger.close()

    def status(self) -> Watched:
        """How it goes."""
        done, given_up = self._ledger.counts()
        with self._lock:
            waiting = sum(not self._ledger.is_settled(key, etag) for key, etag in self._seen.items())
            return Watched(done, given_up, waiting, self._look_error or self._last_error)

    def failed(self) -> list[DeadLetter]:
        """The objects that were given up and not put back, by key. Reads a report for each.

        Raises:
            StoreError: The dead-letter place cannot be read.
        """
        return self._answering.failed()

    def retry(self, keys: Collection[str] | None = None) -> dict[str, str | None]:
        """Put objects back that were given up: they are answered as if they were new, and their dead letters go.

        Nothing is lost when the process ends meanwhile: what was not put back has its dead letter still.

        Args:
            keys: Which; None: all.

        Returns:
            The keys, each with why it was not put back, or None.

        Raises:
            UsageError: There is no dead letter of such a key; nothing was put back then.
            StoreError: A place cannot be read or written.
        """
        letters = {letter.key: letter for letter in self.failed()}
        wanted = sorted(letters if keys is None else set(keys))
        for key in wanted:
            if key not in letters:
                raise UsageError(f"`{key}` is not among what was given up", hint="give keys as `failed` lists them")
        return {key: self._answering.put_back(letters[key]) for key in wanted}

    def _run(self) -> None:
        while not self._stopping.is_set():
            begun_s = monotonic()
            try:
                self._look()
                self._look_error = None
            except LamellaError as error:
                _log.warning("`%s` cannot be watched: %s", self.trigger.input, error.message)
                self._look_error = error.message
            except Exception as error:  # noqa: BLE001  # a defect must not end it silently
                _log.exception("a defect while `%s` was watched", self.trigger.input)
                self._look_error = repr(error)
            self._stopping.wait(max(self.trigger.poll_s, _PAUSE * (monotonic() - begun_s)))

    def _look(self) -> None:
        """Look once, and let everything be answered that is new and complete."""
        entries = list(self._parts.entries())
        new = {
            entry.key: entry
            for entry in entries
            if _is_wanted(entry.key, self.trigger.suffix) and not self._ledger.is_settled(entry.key, entry.etag)
        }
        complete = [e for e in new.values() if self._appears_whole or self._seen.get(e.key) == e.etag]
        with self._lock:
            self._seen = {entry.key: entry.etag for entry in new.values()}
            due = [entry for entry in complete if self._is_due(entry)]
            due.sort(key=lambda entry: (entry.modified, entry.key))
            for entry in due[: _MOST_WAITING - len(self._under_way)]:
                self._under_way[entry.key] = self._pool.submit(self._answer, entry)
            for key in self._retries.keys() - new.keys():
                del self._retries[key]
        self._forget_absent({entry.key for entry in entries})

    def _is_due(self, entry: Entry) -> bool:
        if entry.key in self._under_way or self._ledger.is_settled(entry.key, entry.etag):  # while the look went on
            return False
        retry = self._retries.get(entry.key)
        return retry is None or retry.etag != entry.etag or retry.due_s <= monotonic()

    def _answer(self, entry: Entry) -> None:
        if self._stopping.is_set():
            return
        error: LamellaError | None = None
        try:
            error = self._answering.attempt(entry)
        except Exception as defect:  # noqa: BLE001  # its record cannot be written: it is tried again
            if self._stopping.is_set():
                return
            _log.exception("a defect while `%s` was answered", entry.key)
            error = RemoteError(f"a defect: {defect!r}")
        with self._lock:
            self._last_error = None if error is None else error.message
            if error is None:
                self._retries.pop(entry.key, None)
            else:
                self._retries[entry.key] = self._next_retry(entry)
            self._under_way.pop(entry.key, None)

    def _next_retry(self, entry: Entry) -> _Retry:
        last = self._retries.get(entry.key)
        count = last.count + 1 if last is not None and last.etag == entry.etag else 0
        pause_s = min(_LONGEST_PAUSE_S, self._pause_s * 2.0 ** min(count, 16))
        return _Retry(entry.etag, count, monotonic() + pause_s)

    def _forget_absent(self, present: set[str]) -> None:
        now = monotonic()
        absent = self._ledger.keys() - present
        self._absent = {key: self._absent.get(key, now) for key in absent}
        old = [key for key, since in self._absent.items() if now - since > _FORGOTTEN_AFTER_S]
        if old:
            self._ledger.forget(old)

    def __enter__(self) -> Watcher:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


@dataclass(frozen=True)
class _Retry:
    """When an object is tried again, and how often it was already."""

    etag: str
    count: int
    due_s: float


def _is_wanted(key: str, suffix: str) -> bool:
    names = key.split("/")
    return bool(names[-1]) and key.endswith(suffix) and not any(name.startswith(".") for name in names)


def _find_nothing(key: str) -> Deployed:
    raise NotDeployedError(f"nothing is known here as `{key}`", hint="give the watcher a way to find other deployments")
