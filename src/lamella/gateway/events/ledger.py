"""Which objects are done, kept in a file, so that a restart neither loses one nor begins all of them again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from threading import Lock
from time import time

from lamella.errors import LamellaError, UsageError

_TABLE = """
CREATE TABLE IF NOT EXISTS objects (
    key TEXT PRIMARY KEY, etag TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, error TEXT NOT NULL,
    changed REAL NOT NULL
) WITHOUT ROWID
"""
_SCHEMA_VERSION = 1
_BEGUN, _DONE, _DEAD = "begun", "done", "dead"


class Ledger:
    """One record an object, by its key: of which content it is, how often it was tried, and how that ended.

    It outlives the process, however that ends. A power cut may lose the last records, whose objects are answered again.
    Thread-safe.

    Args:
        path: The file; made if it is missing.

    Raises:
        UsageError: Another process has it open.
        LamellaError: It is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._lock = Lock()
        self._settled: dict[str, str] = {}
        self._begun: dict[str, tuple[str, int, str]] = {}
        self._counts = {_DONE: 0, _DEAD: 0}
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._connection = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            self._open(path)
        except BaseException:
            self._connection.close()
            raise

    def _open(self, path: Path) -> None:
        try:
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
                self._connection.execute(f"PRAGMA {setting}").fetchall()
            self._connection.execute("BEGIN IMMEDIATE")  # takes the lock that is kept from now on
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version not in (0, _SCHEMA_VERSION):
                raise LamellaError(f"`{path}` is of another version of Lamella", hint="remove the trigger, and add it")
            self._connection.execute(_TABLE)
            self._connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._connection.execute("COMMIT")
            self._load()
        except sqlite3.OperationalError as error:
            raise UsageError(
                f"`{path}` is in use by another watcher, or cannot be written: {error}",
                hint="one process at a time watches for a trigger",
            ) from error
        except sqlite3.DatabaseError as error:
            raise LamellaError(
                f"`{path}` is damaged: {error}", hint="remove it: every object in the input is then answered once more"
            ) from error

    def _load(self) -> None:
        with closing(self._connection.execute("SELECT key, etag, state, attempts, error FROM objects")) as rows:
            for key, etag, state, attempts, error in rows:
                if state == _BEGUN:
                    self._begun[key] = (etag, attempts, error)
                else:
                    self._settled[key] = etag
                    self._counts[state] += 1

    def is_settled(self, key: str, etag: str) -> bool:
        """Whether nothing is to be done any more about an object with this content."""
        return self._settled.get(key) == etag

    def attempts(self, key: str, etag: str) -> tuple[int, str]:
        """How often it was tried, and what the last error was; no error where the process ended meanwhile."""
        with self._lock:
            found, attempts, error = self._begun.get(key, ("", 0, ""))
            return (attempts, error) if found == etag else (0, "")

    def begin(self, key: str, etag: str, attempt: int) -> None:
        """An attempt begins. Recorded first, so that an object that kills the process is given up at last."""
        self._note(key, etag, attempt, "")

    def failed(self, key: str, etag: str, attempt: int, error: str) -> None:
        """An attempt has failed."""
        self._note(key, etag, attempt, error)

    def _note(self, key: str, etag: str, attempt: int, error: str) -> None:
        with self._lock:
            self._begun[key] = (etag, attempt, error)
            self._write(key, etag, _BEGUN, attempt, error)

    def settle(self, key: str, etag: str, *, error: str | None = None) -> None:
        """It is done; with an error, it is given up."""
        state = _DONE if error is None else _DEAD
        with self._lock:
            _, attempts, _ = self._begun.pop(key, ("", 0, ""))
            self._settled[key] = etag
            self._counts[state] += 1
            self._write(key, etag, state, attempts, error or "")

    def forget(self, keys: Iterable[str]) -> None:
        """Drop the records of objects that are no more."""
        with self._lock:
            for key in keys:
                self._begun.pop(key, None)
                self._settled.pop(key, None)
                self._connection.execute("DELETE FROM objects WHERE key = ?", (key,))

    def reopen(self, key: str) -> None:
        """Let an object that was given up be new again."""
        with self._lock:
            self._settled.pop(key, None)
            given_up = self._connection.execute("DELETE FROM objects WHERE key = ? AND state = ?", (key, _DEAD))
            self._counts[_DEAD] -= given_up.rowcount
            self._connection.execute("DELETE FROM objects WHERE key = ? AND state = ?", (key, _DONE))

    def keys(self) -> set[str]:
        """The keys of all records."""
        with self._lock:
            return {*self._settled, *self._begun}

    def counts(self) -> tuple[int, int]:
        """How many were answered, and how many given up, of those that are on record or were since it was opened."""
        with self._lock:
            return self._counts[_DONE], self._counts[_DEAD]

    def _write(self, key: str, etag: str, state: str, attempts: int, error: str) -> None:
        self._connection.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", (key, etag, state, attempts, error, time())
        )

    def close(self) -> None:
        """Close the file; another may open it then."""
        with self._lock:
            self._connection.close()
