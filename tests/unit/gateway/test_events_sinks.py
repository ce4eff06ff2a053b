"""Every kind of place that results go to."""

import json
import socket
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.receiver import Receiver

from lamella.errors import InputError, LamellaError, RemoteError, UsageError
from lamella.gateway.events.deployed import Deployed
from lamella.gateway.events.sinks.base import FinalError, Result, Sink
from lamella.gateway.events.sinks.opening import open_sink
from lamella.gateway.events.sinks.rows import COLUMNS
from lamella.gateway.events.sinks.webhook import WebhookSink
from lamella.runtime.forms import Form, key_with
from lamella.stores.base import MAX_KEY_BYTES
from lamella.stores.opening import open_store
from lamella.targets.base import NotDeployedError
from lamella.tensors import Array, TensorSpec

KEY = "größe 1/a%20b+c.npy"
RESULT = Result("a@dev", "file:///in", KEY, "e-1", "r1", {"y": np.array([[0.5, 2]], np.float32)})


def nobody(key: str) -> Deployed:
    raise NotDeployedError(f"nothing is deployed as `{key}`")


def opened(uri: str, form: Form = "json") -> Sink:
    return open_sink(uri, form, nobody)


def rows(path: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(f"SELECT * FROM {table} ORDER BY key").fetchall()


@pytest.mark.parametrize(("form", "suffix"), [("json", ".json"), ("text", ".txt"), ("tensors", ".npz")])
def test_an_object_has_the_key_and_an_ending(form: Form, suffix: str, tmp_path: Path) -> None:
    sink = opened(tmp_path.as_uri(), form)
    sink.deliver(RESULT)
    sink.deliver(RESULT)
    store = open_store(tmp_path.as_uri())
    assert [entry.key for entry in store.list()] == [KEY + suffix]
    assert (tmp_path / f"{KEY}{suffix}").is_file()
    if form == "json":
        found = json.loads(store.get(KEY + suffix))
        assert found["id"] == "r1"
        assert found["parameters"] == {"deployment": "a@dev", "source": "file:///in", "key": KEY, "etag": "e-1"}
        assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2.0]}]


def test_a_key_that_has_no_room_for_an_ending_is_shortened() -> None:
    longest = "ü" * (MAX_KEY_BYTES // 2)
    other = f"{longest[:-1]}ö"
    keys = {key_with(key, ".json") for key in (longest, other)}
    assert len(keys) == 2
    assert all(len(key.encode()) <= MAX_KEY_BYTES and key.endswith(".json") for key in keys)
    assert key_with("a" * (MAX_KEY_BYTES - 5), ".json") == "a" * (MAX_KEY_BYTES - 5) + ".json"


def test_a_row_for_each_result_and_one_for_a_repeated_one(tmp_path: Path) -> None:
    path = tmp_path / "our results.db"
    sink = opened(f"sqlite://{tmp_path.as_posix()}/our%20results.db?table=scores")
    for result in (RESULT, replace(RESULT, request_id="r2", key="z"), RESULT):
        sink.deliver(result)
    found = rows(path, "scores")
    assert [(row["request_id"], row["deployment"], row["key"], row["etag"]) for row in found] == [
        ("r1", "a@dev", KEY, "e-1"),
        ("r2", "a@dev", "z", "e-1"),
    ]
    assert json.loads(found[0]["outputs"])[0]["data"] == [0.5, 2.0]
    with closing(sqlite3.connect(path)) as connection:  # as SQL reaches into it
        query = "SELECT json_extract(outputs, '$[0].data[1]') FROM scores WHERE request_id = 'r1'"
        assert connection.execute(query).fetchone() == (2.0,)


def test_a_table_with_other_columns_is_a_final_failure(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE results (id)")
    with pytest.raises(FinalError, match="columns"):
        opened(f"sqlite://{path}").deliver(RESULT)


def test_a_repeated_row_takes_the_place_of_the_first_in_a_table_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "results.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TABLE results ({', '.join(COLUMNS)})")
    for _ in range(2):
        opened(f"sqlite://{path}").deliver(RESULT)
    assert len(rows(path, "results")) == 1


def test_a_database_that_cannot_be_written_may_be_so_later(tmp_path: Path) -> None:
    (tmp_path / "results.db").write_bytes(b"something else, and long enough to see that" * 100)
    with pytest.raises(RemoteError):
        opened(f"sqlite://{tmp_path}/results.db").deliver(RESULT)


def test_a_webhook_gets_the_result_and_a_key_for_repetitions() -> None:
    with Receiver() as receiver:
        sink = opened(f"{receiver.url}/hook?token=1")
        sink.deliver(RESULT)
        sink.deliver(replace(RESULT, request_id="r2"))
    (path, headers, body), (_, other, _) = receiver.calls
    assert path == "/hook?token=1"
    assert headers["Content-Type"] == "application/json"
    assert (headers["Idempotency-Key"], other["Idempotency-Key"]) == ("r1", "r2")
    assert body == {
        "schema": "lamella.event/1",
        "deployment": "a@dev",
        "request_id": "r1",
        "source": "file:///in",
        "key": KEY,
        "etag": "e-1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [0.5, 2.0]}],
    }


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (500, RemoteError),
        (503, RemoteError),
        (429, RemoteError),
        (408, RemoteError),
        (400, FinalError),
        (404, FinalError),
    ],
)
def test_an_answer_says_whether_to_try_again(status: int, kind: type[LamellaError]) -> None:
    with Receiver(lambda _: (status, {})) as receiver, pytest.raises(kind, match=str(status)) as caught:
        opened(f"{receiver.url}/hook?token=secret").deliver(RESULT)
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("location", ["/elsewhere", "file:///etc/passwd", "https://127.0.0.1/?token=secret"])
def test_redirects_are_not_followed(location: str) -> None:
    with Receiver(lambda _: (307, {"Location": location})) as receiver:
        with pytest.raises(FinalError, match="redirects") as caught:
            opened(receiver.url).deliver(RESULT)
        assert "secret" not in caught.value.message
        assert len(receiver.calls) == 1


def test_a_receiver_that_is_not_there_or_silent_may_be_so_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(RemoteError, match="timed out"):
            WebhookSink(f"http://127.0.0.1:{port}", timeout_s=0.1).deliver(RESULT)
    with pytest.raises(RemoteError, match="cannot be reached"):
        opened(f"http://127.0.0.1:{port}").deliver(RESULT)


def test_another_deployment_takes_the_outputs_and_its_own_go_on(tmp_path: Path) -> None:
    asked = []

    def infer(inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        asked.append(request_id)
        return {"doubled": inputs["x"] * 2}  # type: ignore[operator]

    known = {"b@prod": Deployed(lambda: [TensorSpec("x", "FP32", None)], infer)}
    sink = open_sink(f"deployment://b@prod?output={tmp_path.as_uri()}", "json", known.__getitem__)
    sink.deliver(RESULT)
    found = json.loads((tmp_path / f"{KEY}.json").read_text())
    assert (asked, found["model_name"], found["outputs"][0]["data"]) == (["r1"], "b", [1.0, 4.0])
    with pytest.raises(InputError, match="`x`"):
        sink.deliver(replace(RESULT, outputs={"y": RESULT.outputs["y"], "z": RESULT.outputs["y"]}))
    with pytest.raises(NotDeployedError):
        opened(f"deployment://c?output={tmp_path.as_uri()}").deliver(RESULT)


@pytest.mark.parametrize(
    ("uri", "form", "match"),
    [
        ("ftp://host/out", "json", "ftp"),
        ("postgresql://host/db", "text", "postgresql"),
        ("oracle://me:secret@host/db", "json", "oracle"),
        ("sqlite:///tmp/a.db", "text", "text"),
        ("https://example.org", "tensors", "tensors"),
        ("sqlite:///tmp/a.db?table=a;b", "json", "a;b"),
        ("sqlite:///tmp/a.db?table=", "json", "table"),
        ("sqlite:///tmp/a.db?colour=red", "json", "colour"),
        ("sqlite:///no/such/folder/a.db", "json", "folder"),
        ("sqlite:///tmp", "json", "folder"),
        ("sqlite://relative.db", "json", "another machine"),
        ("deployment://b", "json", "results of `b`"),
        ("deployment://B?output=file:///out", "json", "`B`"),
        ("deployment://b?output=ftp://x", "json", "ftp"),
        ("http://", "json", "webhook"),
        ("http://host:port/", "json", "webhook"),
        ("http://host/a b", "json", "webhook"),
        ("http://host/a\r\nX: y", "json", "webhook"),
        ("https://user:secret@host/", "json", "credentials"),
        ("https://user:secret@host:port/", "json", "webhook"),
        ("https://host:port/hook?key=secret", "json", "webhook"),
    ],
)
def test_places_that_make_no_sense_are_refused(uri: str, form: Form, match: str) -> None:
    with pytest.raises(UsageError, match=match) as caught:
        opened(uri, form)
    assert caught.value.hint
    assert "secret" not in caught.value.message
