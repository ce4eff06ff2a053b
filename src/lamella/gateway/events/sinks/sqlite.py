"""Results as rows of a table, in an SQLite file."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl

from lamella.errors import RemoteError, UsageError
from lamella.gateway.events.sinks.base import FinalError, Result
from lamella.gateway.events.sinks.rows import COLUMNS, COLUMNS_HINT, row_of, table_of
from lamella.stores.directory import path_of

SCHEME = "sqlite://"
_BUSY_S = 10.0  # as long as others may keep the file locked


class SqliteSink:
    """Writes a row for each result; a repeated one takes the place of the first. The table is made if it is missing.

    Each row is written in a transaction of its own, and the file is closed after it, so that others can use it.

    Args:
        path: The file; made if it is missing.
        table: The table.
    """

    def __init__(self, path: Path, table: str) -> None:
        self._path, self._table = path, table

    def deliver(self, result: Result) -> None:
        """Write a row."""
        row = {name: _stored(value) for name, value in row_of(result).items()}
        columns = ", ".join(f"{column} TEXT NOT NULL" for column in COLUMNS)
        marks = ", ".join(f":{column}" for column in COLUMNS)
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S)) as connection, connection:
                connection.execute(f'CREATE TABLE IF NOT EXISTS "{self._table}" ({columns}, PRIMARY KEY (request_id))')
                # Not `INSERT OR REPLACE`: a table that was there may have no primary key.
                connection.execute(f'DELETE FROM "{self._table}" WHERE request_id = :request_id', row)
                connection.execute(f'INSERT INTO "{self._table}" ({", ".join(COLUMNS)}) VALUES ({marks})', row)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> FinalError | RemoteError:
        if "column" in str(error):
            return FinalError(
                f"the table `{self._table}` in `{self._path}` has other columns: {error}",
                hint=COLUMNS_HINT,
            )
        return RemoteError(f"no row can be written to `{self._path}`: {error}", hint="see to its rights and space")


def _stored(value: object) -> str:
    """A value as text, the only type that is used here."""
    if isinstance(value, str):
        return value
    return (
        value.isoformat(timespec="milliseconds") if isinstance(value, datetime) else json.dumps(value, allow_nan=False)
    )


def open_sqlite(uri: str) -> SqliteSink:
    """The sink of a `sqlite:///absolute/path.db?table=NAME` URI.

    Raises:
        UsageError: It is none, or there is no such folder.
    """
    place, _, query = uri.partition("?")
    settings = dict(parse_qsl(query, keep_blank_values=True))
    table = table_of(settings, uri)
    if unknown := settings.keys() - {"table"}:
        raise UsageError(
            f"`{uri}` cannot be opened: `{min(unknown)}` is no setting",
            hint="give `sqlite:///path/file.db?table=results`",
        )
    path = file_of(place)
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(
            f"`{uri}` cannot be opened: {f'`{path}` is a folder' if path.is_dir() else f'no folder `{path.parent}`'}",
            hint="give the absolute path of a file in a folder that is there",
        )
    return SqliteSink(path, table)


def file_of(uri: str) -> Path:
    """The file of a `sqlite://` URI. A fourth slash, which others need for an absolute path, changes nothing.

    Raises:
        UsageError: The path is not absolute.
    """
    place = uri.partition("?")[0].replace(SCHEME, "file://", 1)
    return Path("/", str(path_of(place)).lstrip("/"))
