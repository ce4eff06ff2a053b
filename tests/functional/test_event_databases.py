"""Results as rows in real databases."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests import sql_servers

from lamella.errors import MissingDependencyError, RemoteError, UsageError
from lamella.gateway.events.deployed import Deployed
from lamella.gateway.events.shown import shown
from lamella.gateway.events.sinks.base import FinalError, Result, Sink
from lamella.gateway.events.sinks.opening import open_sink
from lamella.targets.base import NotDeployedError

sqlalchemy = pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")

KEY = "größe 😀/a%20b+c.npy"
RESULT = Result("a@dev", "file:///in", KEY, "e-1", "r1", {"y": np.array([[0.5, np.nan]], np.float32)})


def nobody(key: str) -> Deployed:
    raise NotDeployedError(f"nothing is deployed as `{key}`")


def opened(uri: str) -> Sink:
    return open_sink(uri, "json", nobody)


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a database on a server of its own."""
    if package := sql_servers.lacking(request.param):
        pytest.skip(f"not installed: {package}")
    with sql_servers.sql_server(request.param) as url:
        yield url


@contextmanager
def connected(server: str) -> Iterator[Any]:
    """A connection that is not the product's."""
    kind, _, rest = server.partition("://")
    driver = {"postgresql": "psycopg", "mariadb": "pymysql"}[kind]
    engine = sqlalchemy.create_engine(f"{kind}+{driver}://{rest}", poolclass=sqlalchemy.NullPool)
    with engine.begin() as connection:
        yield connection


def execute(server: str, *statements: str) -> None:
    with connected(server) as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))


def rows(server: str, table: str) -> list[Any]:
    with connected(server) as connection:
        described = sqlalchemy.Table(table, sqlalchemy.MetaData(), autoload_with=connection)
        return list(connection.execute(described.select().order_by(described.c.request_id)).mappings())


def test_a_row_for_each_result_and_one_for_a_repeated_one(server: str) -> None:
    sink = opened(f"{server}?table=scores")
    for result in (RESULT, replace(RESULT, request_id="r2", key="z"), replace(RESULT, outputs={"y": np.array([7])})):
        sink.deliver(result)
    opened(f"{server}?table=scores").deliver(replace(RESULT, request_id="r2", key="z"))  # after a restart
    first, second = rows(server, "scores")
    assert [
        (row["request_id"], row["deployment"], row["source"], row["key"], row["etag"]) for row in (first, second)
    ] == [
        ("r1", "a@dev", "file:///in", KEY, "e-1"),
        ("r2", "a@dev", "file:///in", "z", "e-1"),
    ]
    age = datetime.now(UTC) - first["written"].replace(tzinfo=first["written"].tzinfo or UTC)
    assert timedelta(0) - timedelta(seconds=1) <= age < timedelta(minutes=5)
    query = "outputs->0->'data'->>1" if server.startswith("postgresql") else "JSON_VALUE(outputs, '$[0].data[1]')"
    with connected(server) as connection:  # as SQL reaches into it
        found = connection.execute(sqlalchemy.text(f"SELECT {query} FROM scores WHERE request_id = 'r2'")).scalar()
    assert found == "NaN"


def test_many_at_once_make_the_table_once(server: str) -> None:
    sinks = [opened(f"{server}?table=crowd") for _ in range(8)]
    results = [replace(RESULT, request_id=f"r{n % 20}") for n in range(80)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: sinks[n % 8].deliver(results[n]), range(80)))
    assert len(rows(server, "crowd")) == 20


def test_a_table_that_is_dropped_is_made_again(server: str) -> None:
    sink = opened(f"{server}?table=dropped")
    sink.deliver(RESULT)
    execute(server, "DROP TABLE dropped")
    with pytest.raises(RemoteError, match="no row can be written"):
        sink.deliver(RESULT)
    sink.deliver(RESULT)
    assert len(rows(server, "dropped")) == 1


def test_a_table_of_another_shape_is_a_final_failure(server: str) -> None:
    types = dict.fromkeys(("request_id", "deployment", "source", "etag", "written", "outputs"), "varchar(100)")
    quote = '"' if server.startswith("postgresql") else "`"
    columns = ", ".join(f"{name} {kind}" for name, kind in {**types, f"{quote}key{quote}": "varchar(100)"}.items())
    execute(server, "CREATE TABLE other (request_id varchar(100))", f"CREATE TABLE keyless ({columns})")
    execute(
        server, f"CREATE TABLE narrow ({columns.replace('100', '30')}, more integer NOT NULL, PRIMARY KEY (request_id))"
    )
    for table, match in (("other", "no column deployment"), ("keyless", "twice"), ("narrow", "no row can be written")):
        with pytest.raises((FinalError, RemoteError), match=match) as caught:
            opened(f"{server}?table={table}").deliver(RESULT)
        assert caught.value.hint
        if table != "narrow":
            assert isinstance(caught.value, FinalError)
    execute(server, "ALTER TABLE keyless ADD UNIQUE (request_id)")
    if server.startswith("mariadb"):
        opened(f"{server}?table=keyless").deliver(replace(RESULT, key="a"))  # a character set that lacks KEY's
        assert len(rows(server, "keyless")) == 1


def test_an_account_without_rights_is_told_which(server: str) -> None:
    host = "@'127.0.0.1'" if server.startswith("mariadb") else ""
    login = f"IDENTIFIED BY '{sql_servers.PASSWORD}'" if host else f"LOGIN PASSWORD '{sql_servers.PASSWORD}'"
    execute(server, f"CREATE USER reader{host} {login}")
    opened(f"{server}?table=guarded").deliver(RESULT)
    execute(server, f"GRANT SELECT ON guarded TO reader{host}")
    reader = server.replace(f"//{sql_servers.USER}:", "//reader:")
    with pytest.raises(RemoteError, match=r"(?i)denied") as caught:
        opened(f"{reader}?table=guarded").deliver(replace(RESULT, request_id="r2"))
    assert "INSERT" in str(caught.value.hint)
    with pytest.raises(RemoteError, match=r"(?i)denied") as caught:
        opened(f"{reader}?table=unmade").deliver(RESULT)
    assert "CREATE" in str(caught.value.hint)


def test_a_password_comes_from_a_variable_and_is_never_shown(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = server.replace(f":{sql_servers.QUOTED}@", "@")
    monkeypatch.setenv("RESULTS_PASSWORD", sql_servers.PASSWORD)
    opened(f"{bare}?table=variable&password_env=RESULTS_PASSWORD").deliver(RESULT)
    assert len(rows(server, "variable")) == 1
    monkeypatch.setenv("RESULTS_PASSWORD", "wrong-secret")
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        opened(f"{bare}?password_env=RESULTS_PASSWORD").deliver(RESULT)
    assert "wrong-secret" not in caught.value.message
    with pytest.raises(RemoteError) as caught:
        opened(server.replace(sql_servers.QUOTED, "wrong-secret")).deliver(RESULT)
    assert "wrong-secret" not in caught.value.message
    assert "lamella:***@127.0.0.1" in caught.value.message
    monkeypatch.delenv("RESULTS_PASSWORD")
    with pytest.raises(UsageError, match="RESULTS_PASSWORD"):
        opened(f"{bare}?password_env=RESULTS_PASSWORD")


@pytest.mark.parametrize("kind", ["postgresql", "mysql", "mariadb"])
def test_a_server_that_is_not_there_may_be_so_later(kind: str) -> None:
    sink = opened(f"{kind}://me:secret@127.0.0.1:1/database")
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        sink.deliver(RESULT)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("library", "uri"), [("psycopg", "postgresql://h/d"), ("pymysql", "mysql://h/d"), ("sqlalchemy", "mariadb://h/d")]
)
def test_a_missing_library_says_what_to_install(library: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=library) as caught:
        opened(uri)
    assert caught.value.hint == "pip install 'lamella[sql]'"


@pytest.mark.parametrize(
    ("uri", "match"),
    [
        ("postgresql://host", "no database"),
        ("postgresql://me:secret@host/", "no database"),
        ("postgresql://me:secret@host:port/db", "no URL"),
        ("postgresql+psycopg2://me:secret@host/db", "psycopg2"),
        ("mysql://me:secret@host/db?table=a;b", "a;b"),
        ("mysql://me:secret@host/db?table=a&table=b", "no name"),
        ("oracle://me:secret@host/db", "oracle"),
    ],
)
def test_databases_that_make_no_sense_are_refused(uri: str, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        opened(uri)
    assert caught.value.hint
    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    ("uri", "wanted"),
    [
        ("postgresql://me:a:b/c@d@host:5432/db?table=t", "postgresql://me:***@host:5432/db?table=t"),
        (
            "postgresql://host/db?user=me&password=x&sslmode=require",
            "postgresql://host/db?user=me&password=***&sslmode=require",
        ),
        ("deployment://b@prod?output=mysql://me:x@host/db", "deployment://b@prod?output=mysql://me:***@host/db"),
        ("deployment://b?output=https://host/hook?token=x", "deployment://b?output=https://host/hook?***"),
        ("https://host:8080/hook?token=x#y", "https://host:8080/hook?***"),
        (
            "s3://b/in?endpoint_url=http%3A%2F%2F127.0.0.1%3A9000&region=x",
            "s3://b/in?endpoint_url=http%3A%2F%2F127.0.0.1%3A9000&region=x",
        ),
        ("file:///a@b/c:d", "file:///a@b/c:d"),
    ],
)
def test_secrets_are_not_shown(uri: str, wanted: str) -> None:
    assert shown(uri) == wanted
