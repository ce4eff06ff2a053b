"""`lamella serve`: over HTTP as any client asks, under load, and at its end."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests import models, task_models
from tests.functional.serving import Running, binary, serving

import lamella
from lamella.errors import LamellaError
from lamella.gateway.serving.server import Listening

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def mlp(folder: Path) -> Path:
    return models.mlp(folder / "mlp.onnx")


@pytest.fixture(scope="module")
def server(folder: Path, mlp: Path) -> Iterator[Running]:
    sliced = lamella.slice(lamella.load(mlp), folder / "mlp.slices", slices=3)
    lookup = models.lookup(folder / "lookup.onnx")
    strings = models.strings(folder / "strings.onnx")
    sequence = models.sequence(folder / "sequence.onnx")
    with serving(mlp, f"sliced={sliced.directory}", lookup, strings, sequence) as running:
        yield running


def expected(model: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with lamella.Pipeline(model) as pipeline:
        return pipeline.infer(inputs)


def test_models_and_slices_answer_alike(server: Running, mlp: Path) -> None:
    wanted = expected(mlp, x=X)
    for name in ("mlp", "sliced"):
        found = server.infer(name, x=X)
        assert found.keys() == wanted.keys()
        for output, array in wanted.items():
            np.testing.assert_allclose(found[output], array, rtol=1e-5, atol=1e-6)


def test_json_is_answered_with_json(server: Running) -> None:
    body = {"id": "mine", "inputs": [{"name": "x", "shape": [2, 32], "datatype": "FP32", "data": X.tolist()}]}
    answer = server.ask("POST", "/v2/models/mlp/infer", json.dumps(body).encode())
    assert answer.status == 200
    assert (answer.json["id"], answer.json["model_name"], answer.json["model_version"]) == ("mine", "mlp", "1")
    assert answer.json["outputs"][0]["datatype"] == "FP32"


def test_the_server_tells_of_itself_and_of_its_models(server: Running) -> None:
    assert server.ask("GET", "/v2").json["extensions"]
    assert server.ask("GET", "/v2/health/live").json == {"live": True}
    assert server.ask("GET", "/v2/health/ready").json == {"ready": True}
    metadata = server.ask("GET", "/v2/models/mlp").json
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 32]}]
    assert server.ask("GET", "/v2/models/mlp/versions/1/ready").status == 200
    config = server.ask("GET", "/v2/models/mlp/config").json
    assert config["max_batch_size"] == 64
    assert config["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [32]}]
    index = server.ask("POST", "/v2/repository/index", b'{"ready": true}').json
    assert {entry["name"] for entry in index} == {"mlp", "sliced", "lookup", "strings", "sequence"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "said"),
    [
        ("GET", "/v2/models/mpl", None, 404, "there is no model `mpl`"),
        ("GET", "/v2/models/mlp/versions/7", None, 404, "`mlp` has no version `7`"),
        ("POST", "/v2/models/mlp/infer", b"{", 400, "the header is no JSON"),
        ("POST", "/v2/models/mlp/infer", b'{"inputs": []}', 400, "input `x` is missing"),
        ("POST", "/v2/models/mlp/infer", b"", 400, "the header is no JSON"),
        ("POST", "/v2/repository/models/mlp/load", b"[1]", 400, "the body is no JSON object"),
        ("POST", "/v2/repository/models/mpl/load", b"", 404, "there is no model `mpl`"),
        ("DELETE", "/v2/models/mlp", None, 405, "method not allowed"),
        ("GET", "/v3", None, 404, "not found"),
    ],
)
def test_what_is_wrong_is_said(
    server: Running, method: str, path: str, body: bytes | None, status: int, said: str
) -> None:
    answer = server.ask(method, path, body)
    assert answer.status == status
    assert said in answer.json["error"]
    assert answer.json["hint"]


def test_requests_at_the_same_time_are_computed_together_and_answered_apart(server: Running, mlp: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((200, 1, 32)).astype(np.float32)
    wanted = [expected(mlp, x=row) for row in rows[:20]]
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda row: server.infer("mlp", x=row), rows))
    for one, other in zip(wanted, found, strict=False):
        for name, array in one.items():
            np.testing.assert_allclose(other[name], array, rtol=1e-5, atol=1e-6)
    stats = server.ask("GET", "/v2/models/mlp/stats").json["model_stats"][0]
    assert stats["inference_count"] > stats["execution_count"]
    assert max(batch["batch_size"] for batch in stats["batch_stats"]) > 1


def test_a_request_that_is_wrong_fails_alone(server: Running, folder: Path) -> None:
    good = {"ids": np.array([[1, 2, 49]]), "mask": np.ones((1, 3), np.float32)}
    bad = {**good, "ids": np.array([[1, 2, 5000]])}  # past the table's end
    wanted = expected(folder / "lookup.onnx", **good)

    def ask(number: int) -> tuple[int, int]:
        inputs = bad if number % 4 == 0 else good
        return number, server.ask("POST", "/v2/models/lookup/infer", *binary(inputs)).status

    with ThreadPoolExecutor(12) as threads:
        statuses = dict(threads.map(ask, range(60)))
    assert {statuses[number] for number in range(0, 60, 4)} == {500}
    assert {status for number, status in statuses.items() if number % 4} == {200}
    for name, array in wanted.items():
        np.testing.assert_allclose(server.infer("lookup", **good)[name], array, rtol=1e-5)


@pytest.mark.parametrize("name", ["priority", "timeout"])
@pytest.mark.parametrize("value", [10**400, 1 << 64, -1, 1e400, True])
def test_numbers_that_are_too_large_are_refused_and_take_no_place_in_the_queue(
    server: Running, name: str, value: float
) -> None:
    entry = {"name": "x", "shape": [2, 32], "datatype": "FP32", "data": X.tolist()}
    body = json.dumps({"inputs": [entry], "parameters": {name: value}}).encode()
    answer = server.ask("POST", "/v2/models/mlp/infer", body)
    assert answer.status == 400, answer.body
    assert f"the parameter `{name}` is no count" in answer.json["error"]
    waiting = server.ask("GET", "/metrics").body.decode()
    assert 'lamella_waiting_requests{model="mlp",version="1"} 0.0' in waiting


def test_a_sequence_is_no_tensor_and_a_request_answered_later_says_so_too(server: Running) -> None:
    body, headers = binary({"x": np.ones((2, 3), np.float32)})
    answer = server.ask("POST", "/v2/models/sequence/infer", body, headers)
    assert answer.status == 400, answer.body
    assert "which is no tensor" in answer.json["error"]
    taken = server.ask("POST", "/v2/models/sequence/infer", body, {**headers, "Prefer": "respond-async"})
    until = time.monotonic() + 20
    while (found := server.ask("GET", taken.headers["Location"])).status == 202 and time.monotonic() < until:
        time.sleep(0.01)
    assert found.status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Host": "evil.example"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
    ],
)
def test_a_page_of_somebody_else_may_not_use_the_server(server: Running, headers: dict[str, str]) -> None:
    refused = server.ask("POST", "/v2/repository/models/mlp/unload", b"", headers)
    assert refused.status == 403
    assert "--token-file" in refused.json["hint"]
    assert server.ask("GET", "/v2/models/mlp").status == 200


def test_a_page_of_the_server_itself_may(server: Running) -> None:
    asked = server.ask("POST", "/v2/repository/index", b"", {"Origin": server.url})
    assert asked.status == 200
    port = urlsplit(server.url).port
    host = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
    assert server.ask("POST", "/v2/repository/index", b"", host).status == 200


def test_a_body_that_is_packed_small_is_bounded_unpacked(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "m.onnx"), "--max-body", "1MB") as server:
        packed = gzip.compress(b" " * (64 << 20))
        answer = server.ask("POST", "/v2/models/m/infer", packed, {"Content-Encoding": "gzip"})
        assert answer.status == 413, answer.body
        broken = server.ask("POST", "/v2/models/m/infer", b"no gzip", {"Content-Encoding": "gzip"})
        assert broken.status == 400
        assert server.infer("m", x=X)


def test_prometheus_reads_what_was_done(server: Running) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    server.infer("mlp", x=X)
    answer = server.ask("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(answer.body.decode())}
    answered = {sample.labels["model"]: sample.value for sample in families["lamella_requests_answered"].samples}
    assert answered["mlp"] >= 1
    counts = [s for s in families["lamella_request_seconds"].samples if s.labels["model"] == "mlp"]
    assert next(s.value for s in counts if s.name.endswith("_count")) == answered["mlp"]
    assert next(s.value for s in counts if s.name.endswith("_sum")) > 0


def test_text_goes_in_and_out(server: Running) -> None:
    specs = server.ask("GET", "/v2/models/strings").json
    name = specs["inputs"][0]["name"]
    shape = [1 if size < 0 else size for size in specs["inputs"][0]["shape"]]
    text = np.full(shape, "größer", object)
    found = server.infer("strings", **{name: text})
    assert found


def test_a_new_version_takes_over_without_a_lost_request(tmp_path: Path) -> None:
    """Its files are replaced under load, and it is loaded again; every answer is of one version or the other."""
    path = models.mlp(tmp_path / "m.onnx", layers=2)
    other = models.mlp(tmp_path / "other.onnx", layers=3)
    row = X[:1]
    before, after = expected(path, x=row), expected(other, x=row)
    output = next(iter(before))
    with serving(path) as server:
        stop, failed, seen = threading.Event(), list[str](), {"1": 0, "2": 0}

        def ask() -> None:
            while not stop.is_set():
                answer = server.ask("POST", "/v2/models/m/infer", *_json_of(row))
                if answer.status != 200:
                    failed.append(answer.body.decode())
                    return
                version = answer.json["model_version"]
                wanted = before if version == "1" else after
                found = np.array(answer.json["outputs"][0]["data"], np.float32)
                if not np.allclose(found, wanted[output].ravel(), rtol=1e-4, atol=1e-5):
                    failed.append(f"version {version} answered {found}")
                seen[version] += 1

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        while not seen["1"] and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        os.replace(other, path)
        assert server.ask("POST", "/v2/repository/models/m/load", b"").status == 200
        while not seen["2"] and any(thread.is_alive() for thread in threads):
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert min(seen.values()) > 0


def _json_of(row: np.ndarray) -> tuple[bytes]:
    entry = {"name": "x", "shape": list(row.shape), "datatype": "FP32", "data": row.ravel().tolist()}
    return (json.dumps({"inputs": [entry]}).encode(),)


def test_a_version_that_cannot_be_loaded_leaves_the_one_before(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "m.onnx")
    with serving(path) as server:
        content = path.read_bytes()
        path.with_suffix(".new").write_bytes(content[: len(content) // 2])
        os.replace(path.with_suffix(".new"), path)
        refused = server.ask("POST", "/v2/repository/models/m/load", b"")
        assert refused.status == 400, refused.body
        assert server.infer("m", x=X)
        assert server.ask("GET", "/v2/models/m").json["versions"] == ["1"]


def test_unload_and_load(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "m.onnx")) as server:
        assert server.ask("POST", "/v2/repository/models/m/unload", b"{}").status == 200
        gone = server.ask("POST", "/v2/models/m/infer", *binary({"x": X}))
        assert gone.status == 404
        assert "not loaded" in gone.json["error"]
        assert server.ask("POST", "/v2/repository/index", b'{"ready": true}').json == []
        assert server.ask("POST", "/v2/repository/models/m/load", b"").status == 200
        assert server.infer("m", x=X)


def test_a_server_that_is_told_to_end_answers_what_it_has_taken(tmp_path: Path) -> None:
    path = models.mlp(tmp_path / "m.onnx", layers=8, width=256)
    rows = np.ones((512, 256), np.float32)
    with serving(path, "--max-batch-size", "1") as server, ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(server.ask, "POST", "/v2/models/m/infer", *_pair(rows)) for _ in range(8)]
        while not any(one.done() for one in asked):
            time.sleep(0.005)
        server.stop()
        statuses = [one.result().status for one in asked if one.exception() is None]
        assert 200 in statuses
        assert set(statuses) <= {200, 503}


def _pair(rows: np.ndarray) -> tuple[bytes, None]:
    entry = {"name": "x", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    return json.dumps({"inputs": [entry]}).encode(), None


def test_a_body_that_does_not_come_does_not_keep_the_server_from_its_end(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "m.onnx")) as server:
        place = urlsplit(server.url)
        with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
            head = "POST /v2/models/m/infer HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n"
            connection.sendall(f"{head}Content-Length: 100\r\n\r\n".encode())
            assert connection.recv(1000).startswith(b"HTTP/1.1 100")  # the server waits for the body
            connection.sendall(b"{")
            began_s = time.monotonic()
            server.stop()
            assert time.monotonic() - began_s < 15
            assert connection.recv(1000).startswith(b"HTTP/1.1 503")


def test_a_request_may_be_answered_later_and_a_restart_loses_none(tmp_path: Path) -> None:
    path, results = models.mlp(tmp_path / "m.onnx"), tmp_path / "results"
    body, headers = binary({"x": X})
    with serving(path, "--results", results) as server:
        taken = server.ask("POST", "/v2/models/m/infer", body, {**headers, "Prefer": "respond-async"})
        assert taken.status == 202
        place = taken.headers["Location"]
        while (found := server.ask("GET", place)).status == 202:
            time.sleep(0.01)
        assert found.status == 200
        wrong = server.ask("POST", "/v2/models/m/infer", b'{"inputs": []}', {"Prefer": "respond-async"})
        while (refused := server.ask("GET", wrong.headers["Location"])).status == 202:
            time.sleep(0.01)
        assert refused.status == 400
        assert "missing" in refused.json["error"]
        assert server.ask("GET", f"/v2/requests/{'0' * 32}").status == 404
        assert server.ask("POST", "/v2/models/n/infer", body, {"Prefer": "respond-async"}).status == 404
        server.stop()
    with serving(path, "--results", results) as server:
        again = server.ask("GET", place)
        assert again.status == 200
        assert again.body == found.body


def test_a_body_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "m.onnx"), "--max-body", "1KB") as server:
        answer = server.ask("POST", "/v2/models/m/infer", b" " * 2000)
        assert answer.status == 413
        assert "1000 bytes" in answer.json["error"]


def test_only_who_has_a_token_may_ask(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("one\n\ntwo\n")
    with serving(models.mlp(tmp_path / "m.onnx"), "--token-file", tokens) as server:
        refused = server.ask("GET", "/v2/models/m")
        assert refused.status == 401
        assert refused.headers["WWW-Authenticate"] == "Bearer"
        assert server.ask("GET", "/v2/models/m", headers={"Authorization": "Bearer three"}).status == 401
        assert server.ask("GET", "/v2/models/m", headers={"Authorization": "Bearer two"}).status == 200
        assert server.ask("GET", "/v2/health/ready").status == 200


def test_https(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    with serving(models.mlp(tmp_path / "m.onnx"), "--tls-certificate", certificate, "--tls-key", key) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(certificate))
        assert server.ask("GET", "/v2/health/ready", context=trusted).status == 200


def test_a_client_that_goes_away_leaves_the_queue(server: Running) -> None:
    body, headers = binary({"x": X})
    place = urlsplit(server.url)
    head = f"POST /v2/models/mlp/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for cut in (0, 10, len(body)):
        with socket.create_connection((place.hostname, place.port)) as connection:
            connection.sendall(head.encode() + b"\r\n" + body[:cut])
    assert server.infer("mlp", x=X)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.onnx"], "`nothing.onnx` does not exist"),
        (["{m}", "{m}"], "two models are called `m`"),
        (["a/b={m}"], "`a/b` is no name for a model"),
        (["{m}", "--tls-key", "k.pem"], "a TLS key without its certificate"),
        (["{m}", "--tls-certificate", "{m}"], "cannot be used"),
        (["{m}", "--token-file", "nothing"], "`nothing` cannot be read"),
        (["{m}", "--host", "203.0.113.1"], "the server cannot listen on 203.0.113.1"),
        (["{m}", "--max-body", "12"], "12"),
    ],
)
def test_what_cannot_be_served_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    model = models.mlp(tmp_path / "m.onnx")
    given = [argument.format(m=model) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "lamella", "serve", *given, "--port", "0"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_said(tmp_path: Path, server: Running) -> None:
    port = urlsplit(server.url).port
    command = [sys.executable, "-m", "lamella", "serve", str(models.mlp(tmp_path / "m.onnx")), "--port", str(port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert f"port {port}" in done.stderr


def test_ctrl_c_ends_it_quietly(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "m.onnx")) as server:
        server.process.send_signal(signal.SIGINT)
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode == 0
        assert "Traceback" not in said


def test_images_and_texts_are_answered_as_they_are(tmp_path: Path) -> None:
    """As the pipeline answers them in this process; and those of several callers are computed together."""
    path = task_models.classifier(tmp_path / "m.onnx")
    images = [task_models.png(task_models.picture(40 + number, 50, seed=number)) for number in range(24)]
    with lamella.Pipeline(path, task="image-classification") as pipeline:
        wanted = [pipeline.answer([image])[0] for image in images]
    with serving(path, "--task", "image-classification") as server, ThreadPoolExecutor(12) as threads:
        kind = {"Content-Type": "image/png"}
        asked = threads.map(lambda image: server.ask("POST", "/v2/models/m/answer", image, kind), images)
        for expected_answer, found in zip(wanted, asked, strict=True):
            assert found.status == 200, found.body
            (answered,) = found.json["answers"]
            assert answered.keys() == expected_answer.keys()
        refused = server.ask("POST", "/v2/models/m/answer", b"no image", kind)
        assert refused.status == 400
        assert "is no image" in refused.json["error"]
        assert (
            server.ask("GET", "/v2/models/m/config").json["parameters"]["task"]["string_value"]
            == "image-classification"
        )


def test_questions_come_as_json(tmp_path: Path) -> None:
    path = task_models.reader(task_models.tokenizer_beside(tmp_path) / "model.onnx")
    items = [{"question": "How tall is it?", "context": context} for context in task_models.CONTEXTS]
    with lamella.Pipeline(path, task="question-answering") as pipeline:
        wanted = pipeline.answer(items)
    with serving(f"m={path}", "--task", "question-answering") as server:
        kind = {"Content-Type": "application/json"}
        found = server.ask("POST", "/v2/models/m/answer", json.dumps({"items": items}).encode(), kind)
        assert found.status == 200, found.body
        assert [one["answer"] for one in found.json["answers"]] == [one["answer"] for one in wanted]
        one = server.ask("POST", "/v2/models/m/answer", json.dumps(items[0]).encode(), kind)
        assert one.json["answers"][0]["answer"] == wanted[0]["answer"]
        for body in (b"", b"{", b'{"items": []}', b'{"items": [1]}', b'{"question": 1}'):
            assert server.ask("POST", "/v2/models/m/answer", body, kind).status == 400


def test_a_model_without_a_task_says_so(server: Running) -> None:
    answer = server.ask("POST", "/v2/models/mlp/answer", b"a text", {"Content-Type": "text/plain"})
    assert answer.status == 400
    assert "takes only tensors" in answer.json["error"]


@pytest.mark.parametrize("engine", ["openvino", "opencv"])
def test_other_engines_serve(tmp_path: Path, engine: str) -> None:
    path = models.mlp(tmp_path / "m.onnx")
    with serving(path, "--engine", engine) as server:
        found = server.infer("m", x=X)
    for name, array in expected(path, x=X).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_from_python(tmp_path: Path, mlp: Path) -> None:
    with lamella.serve(mlp) as server:
        asked = Running(subprocess.Popen("true", text=True), server.url)
        asked.process.wait()
        found = asked.infer("mlp", x=X)
    for name, array in expected(mlp, x=X).items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)
    with pytest.raises(LamellaError, match="does not exist"):
        lamella.serve(tmp_path / "nothing.onnx")
    with pytest.raises(LamellaError, match="cannot listen"):
        lamella.serve(mlp, listening=Listening(host="203.0.113.1"))
