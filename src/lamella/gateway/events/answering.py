"""One object at a time: from its bytes to where its result goes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from threading import Lock

from lamella.errors import InputError, LamellaError, RemoteError, StoreError, one_line
from lamella.gateway.events.dead_letters import DeadLetters
from lamella.gateway.events.deployed import Deployed
from lamella.gateway.events.ledger import Ledger
from lamella.gateway.events.sinks.base import FinalError, Result, Sink
from lamella.gateway.events.trigger import Trigger
from lamella.runtime.inputs import MOST_BYTES, read_inputs
from lamella.stores.base import Entry, Store
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
        """Of where the object lies, its key and its content: the same for a repetition, also after a restart."""
        parts = (self._trigger.deployment, self._trigger.input, entry.key, entry.etag)
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
        ledger.failed(key, etag, attempts, error.message)
        if attempts >= self._trigger.attempts or isinstance(error, (InputError, FinalError)):
            return self._given_up(entry, error, attempts)
        _log.warning("`%s`, attempt %d of %d: %s", one_line(key), attempts, self._trigger.attempts, error.message)
        return error

    def _given_up(self, entry: Entry, error: LamellaError, attempts: int) -> LamellaError | None:
        try:
            self._parts.dead_letters.put(entry, self._parts.source, error, attempts)
        except LamellaError as other:
            if self._is_there(entry) is False:
                self._forget(entry)
                return None
            _log.warning("`%s` cannot be given up, and is kept: %s", one_line(entry.key), other.message)
            return other
        _log.error("`%s` is given up after %d attempts: %s", one_line(entry.key), attempts, error.message)
        self._parts.ledger.settle(entry.key, entry.etag, error=error.message)
        with self._lock:
            self._kept.pop(self._request_id(entry), None)
        return None

    def _forget(self, entry: Entry) -> None:
        _log.info("`%s` was deleted before it was answered", one_line(entry.key))
        self._parts.ledger.forget([entry.key])

    def _is_there(self, entry: Entry) -> bool | None:
        """Whether the object is there still; None where nobody can say, since its store does not answer."""
        try:
            return any(found.key == entry.key for found in self._parts.source.list(entry.key))
        except StoreError:
            return None


_ENDED = "the process ended each time that it was answered"
_ENDED_HINT = "see the logs of the functions and of the service"
