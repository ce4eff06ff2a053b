"""One object at a time: from its bytes to where its result goes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from threading import Lock

from lamella.errors import InputError, LamellaError, RemoteError, StoreError, one_line
from lamella.gateway.events.dead_letters import DeadLetter, DeadLetters
from lamella.gateway.events.deployed import Deployed
from lamella.gateway.events.ledger import Ledger
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import FinalError, Result, Sink
from lamella.gateway.events.trigger import Trigger
from lamella.runtime.inputs import MOST_BYTES, read_inputs
from lamella.stores.base import Entry, Store
from lamella.targets.base import NotDeployedError
from lamella.tensors import TensorSpec

_MOST_KEPT = 64  # results that wait for a sink that fails; others are made again
_log = logging.getLogger("lamella.events")


@dataclass(frozen=True)
class Parts:
    """What an object meets on its way.

    Attributes:
        source: Where it lies.
        deployed: What answers.
        sink: Where the result goes.
        dead_letters: Where it goes itself if nothing helps.
        ledger: What is known of it.
    """

    source: Store
    deployed: Deployed
    sink: Sink
    dead_letters: DeadLetters
    ledger: Ledger

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """What lies in the source, each with a tag that tells it from whatever was there under its key.

        A bucket's own tag is the same for the same bytes.
        """
        for entry in self.source.list(prefix):
            is_file = self.source.uri.startswith("file:")
            yield entry if is_file else replace(entry, etag=f"{entry.etag}-{entry.modified:.3f}")

    def find(self, key: str) -> Entry | None:
        """One object; None if it is not there."""
        return next((entry for entry in self.entries(key) if entry.key == key), None)


class Answering:
    """Answers objects, each once where nothing fails. Thread-safe.

    Args:
        trigger: What is wanted.
        parts: What is needed for it.
    """

    def __init__(self, trigger: Trigger, parts: Parts) -> None:
        self._trigger, self._parts = trigger, parts
        self._kept: dict[str, Result] = {}
        self._lock = Lock()
        self._giving_up = Lock()  # nobody puts an object back between its dead letter and its record

    def failed(self) -> list[DeadLetter]:
        """What was given up and not put back, by key.

        Raises:
            StoreError: The dead-letter place cannot be read.
        """
        return self._parts.dead_letters.of(self._parts.source)

    def put_back(self, letter: DeadLetter) -> str | None:
        """Let an object be answered as if it were new; its dead letter goes when that is sure to happen.

        Whenever the process ends, the object has its dead letter still, or is about to be answered, or both.

        Returns:
            None; or why nothing was done.

        Raises:
            StoreError: A place cannot be read or written.
        """
        source, dead_letters, key = self._parts.source, self._parts.dead_letters, letter.key
        with self._giving_up:
            there = self._parts.find(key)
            if there is None and letter.copy is None:
                return "it is no more in the input, and has no copy"
            is_back = self._is_same(there, letter) if there else source.create(key, dead_letters.content(letter))
            if not is_back:
                return "another object has its key in the input; remove one of the two"
            self._parts.ledger.reopen(key)
            dead_letters.remove(letter)
        return None

    def _is_same(self, there: Entry, letter: DeadLetter) -> bool:
        """Also where it was put back already, by a process that ended before the dead letter was removed."""
        if there.etag == letter.etag:
            return True
        if letter.copy is None or there.size != letter.size:
            return False
        return self._parts.source.get(there.key) == self._parts.dead_letters.content(letter)

    def attempt(self, entry: Entry) -> LamellaError | None:
        """Try an object once, or give it up where it was tried often enough.

        That the deployment or the whole input is out of reach says nothing about an object, and counts for none.

        Returns:
            None when nothing is to be done about it any more; else why it is to be tried again.
        """
        ledger = self._parts.ledger
        attempts, last_error = ledger.attempts(entry.key, entry.etag)
        if attempts >= self._trigger.attempts:
            return self._given_up(entry, RemoteError(last_error or _ENDED, hint=_ENDED_HINT), attempts)
        try:
            specs = self._parts.deployed.inputs()
        except LamellaError as error:
            return error
        ledger.begin(entry.key, entry.etag, attempts + 1)
        try:
            self._answer(entry, specs)
        except LamellaError as error:
            return self._failed(entry, error, attempts + 1)
        except Exception as error:  # noqa: BLE001  # a defect must not end the watching of all other objects
            _log.exception("a defect while `%s` was answered", one_line(entry.key))
            return self._failed(entry, RemoteError(f"a defect: {error!r}", hint="see the log"), attempts + 1)
        ledger.settle(entry.key, entry.etag)
        return None

    def _answer(self, entry: Entry, specs: Sequence[TensorSpec]) -> None:
        request_id = self._request_id(entry)
        with self._lock:
            result = self._kept.pop(request_id, None)
        if result is None:
            inputs = read_inputs(entry.key, self._content(entry), specs)
            outputs = self._parts.deployed.infer(inputs, request_id)
            source = self._parts.source.uri
            result = Result(self._trigger.deployment, source, entry.key, entry.etag, request_id, outputs)
        try:
            self._parts.sink.deliver(result)
        except FinalError:
            raise
        except LamellaError:
            with self._lock:
                if len(self._kept) < _MOST_KEPT:
                    self._kept[request_id] = result
            raise

    def _content(self, entry: Entry) -> bytes:
        if entry.size > MOST_BYTES:
            raise InputError(
                f"`{entry.key}` is {entry.size:,} bytes long, above the limit of {MOST_BYTES:,}", hint="give less"
            )
        return self._parts.source.get(entry.key)

    def _request_id(self, entry: Entry) -> str:
        """Of the object, its content and its way: the same for a repetition, also after a restart, and for no other."""
        trigger = self._trigger
        parts = (trigger.deployment, trigger.input, shown(trigger.output), entry.key, entry.etag)
        return sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _failed(self, entry: Entry, error: LamellaError, attempts: int) -> LamellaError | None:
        ledger, key, etag = self._parts.ledger, entry.key, entry.etag
        if isinstance(error, StoreError):
            there = self._is_there(entry)
            if there is None:
                ledger.failed(key, etag, attempts - 1, error.message)
                return error
            if not there:
                self._forget(entry)
                return None
        if isinstance(error, NotDeployedError):  # the next one of a chain: its objects wait until it is there again
            ledger.failed(key, etag, attempts - 1, error.message)
            return error
        ledger.failed(key, etag, attempts, error.message)
        if attempts >= self._trigger.attempts or isinstance(error, (InputError, FinalError)):
            return self._given_up(entry, error, attempts)
        _log.warning("`%s`, attempt %d of %d: %s", one_line(key), attempts, self._trigger.attempts, error.message)
        return error

    def _given_up(self, entry: Entry, error: LamellaError, attempts: int) -> LamellaError | None:
        with self._giving_up:
            try:
                self._parts.dead_letters.put(entry, self._parts.source, error, attempts)
            except LamellaError as other:
                if self._is_there(entry) is False:
                    self._forget(entry)
                    return None
                _log.warning("`%s` cannot be given up, and is kept: %s", one_line(entry.key), other.message)
                return other
            self._parts.ledger.settle(entry.key, entry.etag, error=error.message)
        _log.error("`%s` is given up after %d attempts: %s", one_line(entry.key), attempts, error.message)
        with self._lock:
            self._kept.pop(self._request_id(entry), None)
        return None

    def _forget(self, entry: Entry) -> None:
        _log.info("`%s` was deleted before it was answered", one_line(entry.key))
        self._parts.ledger.forget([entry.key])

    def _is_there(self, entry: Entry) -> bool | None:
        """Whether the object is there still; None where nobody can say, since its store does not answer."""
        try:
            return self._parts.find(entry.key) is not None
        except StoreError:
            return None


_ENDED = "the process ended each time that it was answered"
_ENDED_HINT = "see the logs of the functions and of the service"
