"""Results as rows of a table, in PostgreSQL, MySQL or MariaDB, with SQLAlchemy."""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

from lamella.errors import MissingDependencyError, RemoteError, UsageError
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import FinalError, Result
from lamella.gateway.events.sinks.rows import COLUMNS_HINT, row_of, table_of

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine, Table
    from sqlalchemy.exc import SQLAlchemyError

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
"""What speaks to each kind of database."""

_CONNECT_S = 10
_EXAMPLE = "give one such as `postgresql://user@host/database?table=results&password_env=NAME`"


class SqlSink:
    """Writes a row for each result; a repeated one takes the place of the first. The table is made if it is missing.

    Each row is written in a transaction and a connection of its own, so that none is held while nothing comes.

    Args:
        engine: The database, whose connections are not kept.
        table: The table.
        place: Both, as they may be shown.
    """

    def __init__(self, engine: Engine, table: str, place: str) -> None:
        self._engine, self._table, self._place = engine, _described(table), place
        self._lock, self._is_ready = Lock(), False

    def deliver(self, result: Result) -> None:
        """Write a row."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            connection = self._engine.connect()
        except SQLAlchemyError as error:
            raise RemoteError(
                f"`{self._place}` cannot be reached: {_reason(error)}",
                hint="see to the server, its address, the account and the password",
            ) from error
        with connection:
            try:
                self._prepare(connection)
                _write(connection, self._table, row_of(result))
            except SQLAlchemyError as error:
                self._is_ready = False  # somebody may have dropped the table
                raise self._explained(error) from error

    def _prepare(self, connection: Connection) -> None:
        """Make the table, or see that a repeated row would be told from a new one in that which is there."""
        from sqlalchemy import inspect
        from sqlalchemy.exc import SQLAlchemyError

        with self._lock:
            if self._is_ready:
                return
            try:
                with connection.begin():
                    self._table.create(connection, checkfirst=True)
            except SQLAlchemyError:  # also where another process has just made it
                with connection.begin():
                    if not inspect(connection).has_table(self._table.name):
                        raise
            with connection.begin():
                self._check_shape(connection)
            self._is_ready = True

    def _check_shape(self, connection: Connection) -> None:
        from sqlalchemy import inspect

        found, name = inspect(connection), self._table.name
        lacking = {column.name for column in self._table.columns} - {entry["name"] for entry in found.get_columns(name)}
        if lacking:
            raise FinalError(f"`{self._place}` has no column {', '.join(sorted(lacking))}", hint=COLUMNS_HINT)
        unique = [entry["column_names"] for entry in found.get_unique_constraints(name)]
        if ["request_id"] not in (found.get_pk_constraint(name)["constrained_columns"], *unique):
            raise FinalError(
                f"`{self._place}` would keep a repeated result twice: its key is not `request_id`",
                hint="make `request_id` its primary key, or give another table",
            )

    def _explained(self, error: SQLAlchemyError) -> FinalError | RemoteError:
        from sqlalchemy.exc import DataError, IntegrityError

        message = f"no row can be written to `{self._place}`: {_reason(error)}"
        if isinstance(error, (DataError, IntegrityError)):
            return FinalError(message, hint="the table refuses the values; give another, which is then made as needed")
        return RemoteError(
            message, hint="the account needs SELECT, INSERT and UPDATE, and CREATE where the table is missing"
        )


def _write(connection: Connection, table: Table, row: dict[str, object]) -> None:
    """In standard SQL: databases differ in how they say both at once."""
    from sqlalchemy.exc import IntegrityError

    try:
        with connection.begin():
            connection.execute(table.insert().values(row))
    except IntegrityError:
        with connection.begin():
            same = table.columns["request_id"] == row["request_id"]
            if not connection.execute(table.update().where(same).values(row)).rowcount:
                raise


def _described(name: str) -> Table:
    """The table as it is made. A primary key of MySQL has a length; the id of a request is 32 digits."""
    from sqlalchemy import JSON, Column, DateTime, MetaData, String, Table, Text

    return Table(
        name,
        MetaData(),
        Column("request_id", String(64), primary_key=True),
        *(Column(column, Text, nullable=False) for column in ("deployment", "source", "key", "etag")),
        Column("written", DateTime(timezone=True), nullable=False),
        Column("outputs", JSON, nullable=False),
        mysql_charset="utf8mb4",
        mariadb_charset="utf8mb4",
    )


def _reason(error: SQLAlchemyError) -> str:
    """What the database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or error).strip()


def open_sql(uri: str) -> SqlSink:
    """The sink of a `postgresql://`, `mysql://` or `mariadb://` URL, with `table` and `password_env` in its query.

    Whatever else is in the query goes to the driver, such as `sslmode=require`.

    Raises:
        UsageError: It is none, or the variable is not set that is to hold the password.
        MissingDependencyError: What speaks to the database is not installed.
    """
    try:
        from sqlalchemy import create_engine, make_url
        from sqlalchemy.exc import ArgumentError
        from sqlalchemy.pool import NullPool
    except ImportError as error:
        raise _missing("sqlalchemy") from error
    scheme, _, rest = uri.partition("://")
    kind, _, driver = scheme.partition("+")
    if driver not in ("", DRIVERS[kind]):
        raise UsageError(f"`{scheme}` is not spoken here", hint=f"give `{kind}://`, which uses {DRIVERS[kind]}")
    try:
        url = make_url(f"{kind}+{DRIVERS[kind]}://{rest}")
    except (ArgumentError, ValueError) as error:
        raise UsageError(f"`{shown(uri)}` is no URL of a database", hint=_EXAMPLE) from error
    if not url.database:
        raise UsageError(f"`{shown(uri)}` names no database", hint=_EXAMPLE)
    table = table_of(url.query, uri)
    try:
        engine = create_engine(_completed(url), poolclass=NullPool, hide_parameters=True)
    except ImportError as error:
        raise _missing(DRIVERS[kind]) from error
    return SqlSink(engine, table, f"{shown(uri).partition('?')[0]}, table {table}")


def _completed(url: URL) -> URL:
    """The URL with its password and a bound on connecting, and without the settings that the driver does not know."""
    variable = url.query.get("password_env")
    settings = {name: value for name, value in url.query.items() if name not in ("table", "password_env")}
    url = url.set(query={"connect_timeout": str(_CONNECT_S), **settings})
    if variable is None:
        return url
    password = os.environ.get(str(variable))
    if not password:
        raise UsageError(
            f"the variable `{variable}`, which is to hold the password, is not set where results are written from",
            hint="set it, end the service with `kill`, and start it again with any command in the same shell",
        )
    return url.set(password=password)


def _missing(library: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"rows in a database need `{library}`, which is not installed", hint="pip install 'lamella[sql]'"
    )
