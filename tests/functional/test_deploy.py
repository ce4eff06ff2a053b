"""Deployments as users make them: from Python, on the command line, and over HTTP."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import psutil
import pytest
from tests import models
from tests.conformance import s3_servers

import lamella
from lamella.errors import InputError, LamellaError, RemoteError, UsageError
from lamella.gateway.address import ServiceFolder
from lamella.gateway.starting import running_service, stop_service
from lamella.runtime.protocol import HEADER_LENGTH
from lamella.stores.opening import open_store
from lamella.wire import decode_parts, encode

pytest_plugins = ["lamella.testing"]
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
LOOKED_UP = {"ids": np.array([[1, 2, 49]]), "mask": np.ones((1, 3), np.float32)}
FULL_SPEED_MB = 1769


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [*os.environ]:
            if name.startswith("LAMELLA_"):
                patch.delenv(name)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def expected(model: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with lamella.Pipeline(model) as pipeline:
        return pipeline.infer(inputs)


def own_processes() -> set[int]:
    return {process.pid for process in psutil.Process().children(recursive=True)}


def command_of(process: psutil.Process) -> str:
    """Its command line; empty once it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


# From Python


@pytest.mark.parametrize("kind", ["model file", "model", "plan", "plan file", "sliced", "directory"])
def test_everything_that_can_be_sliced_can_be_deployed(
    lamella_endpoint: Callable[..., lamella.Endpoint], kind: str, tmp_path: Path
) -> None:
    path = models.mlp(tmp_path / "My model 1.onnx")
    options: dict[str, Any] = {"memory_mb": FULL_SPEED_MB}
    source: Any = path
    if kind == "model":
        source = lamella.load(path)
    elif kind.startswith("plan"):
        source = lamella.plan(path, slices=2)
        if kind == "plan file":
            from lamella.planner import write_plan

            write_plan(source, tmp_path / "plan.json")
            source = tmp_path / "plan.json"
    elif kind in ("sliced", "directory"):
        source = lamella.slice(path, tmp_path / "slices", slices=2)
        source = source.directory if kind == "directory" else source
    else:
        options["slices"] = 2
    endpoint = lamella_endpoint(source, **options)
    np.testing.assert_allclose(endpoint.infer({"x": X})["y"], expected(path, x=X)["y"], rtol=1e-5, atol=1e-6)
    assert endpoint.name == "my-model-1"
    assert endpoint.inputs == (lamella.load(path).graph.inputs[0].spec,)
    assert {function.memory_mb for function in endpoint.functions} == {FULL_SPEED_MB}


def test_a_model_can_be_deployed_in_as_many_slices_as_there_can_be(
    lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path
) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    endpoint = lamella_endpoint(path, slices="max", memory_mb=FULL_SPEED_MB)
    assert len(endpoint.functions) == len(lamella.plan(path, slices="max").slices) > 2
    np.testing.assert_allclose(endpoint.infer({"x": X})["y"], expected(path, x=X)["y"], rtol=1e-5, atol=1e-6)


def test_an_endpoint_leaves_no_process_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = own_processes()
    with lamella.deploy(models.mlp(tmp_path / "mlp.onnx"), slices=2, memory_mb=FULL_SPEED_MB) as endpoint:
        endpoint.infer({"x": X})
        assert len(own_processes() - before) >= 2
        assert any(temporary.iterdir())
    assert own_processes() - before == set()
    assert list(temporary.iterdir()) == []
    for call in (lambda: endpoint.infer({"x": X}), lambda: endpoint.infer_slice(0, {"x": X}), endpoint.logs):
        with pytest.raises(UsageError, match="the endpoint `mlp` is closed") as caught:
            call()
        assert caught.value.hint


def test_memory_that_nobody_chose_has_a_floor_and_what_was_chosen_has_none(
    lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path
) -> None:
    model = models.mlp(tmp_path / "mlp.onnx")
    planned = lamella.plan(model, platform="aws-lambda", objective="memory")
    small_mb = planned.slices[0].memory_mb
    assert small_mb < 512
    for source, options, memory_mb in [
        (model, {}, 512),
        (lamella.plan(model, slices=1), {}, 512),
        (planned, {}, small_mb),
        (lamella.slice(planned, tmp_path / "slices"), {}, small_mb),
        (model, {"memory_mb": 256}, 256),
    ]:
        endpoint = lamella_endpoint(source, **options)
        assert {function.memory_mb for function in endpoint.functions} == {memory_mb}


def test_an_endpoint_may_hold_several_models(lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path) -> None:
    sliced = lamella.slice(models.mlp(tmp_path / "mlp.onnx"), tmp_path / "mlp.slices", slices=2)
    lookup = models.lookup(tmp_path / "lookup.onnx")
    endpoint = lamella_endpoint({"first": sliced, "second": lookup}, name="app", memory_mb=FULL_SPEED_MB)
    assert [*endpoint.models] == ["first", "second"]
    assert [spec.name for spec in endpoint.models["second"].inputs] == ["ids", "mask"]
    assert {function.model for function in endpoint.functions} == {"first", "second"}
    found = endpoint.infer({"x": X}, model="first")
    np.testing.assert_allclose(found["y"], expected(sliced.directory, x=X)["y"], rtol=1e-5, atol=1e-6)
    answer = endpoint.infer_with_timeline(LOOKED_UP, model="second")
    for name, array in expected(lookup, **LOOKED_UP).items():
        np.testing.assert_allclose(answer.outputs[name], array, rtol=1e-5, atol=1e-6)
    assert [run.slice for run in endpoint.infer_slice(0, {"x": X}, model="first").timeline] == [0]
    assert {line.function for line in endpoint.logs(model="first")} <= {f"app-dev-first-slice-{i}" for i in (0, 1)}
    for call in (lambda: endpoint.inputs, lambda: endpoint.outputs, lambda: endpoint.infer({"x": X})):
        with pytest.raises(UsageError, match="`app@dev` holds 2 models") as caught:
            call()
        assert "`app.first`, `app.second`" in (caught.value.hint or "")


def test_what_cannot_be_deployed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before, model = own_processes(), models.mlp(tmp_path / "mlp.onnx")
    for wrong in ({"a": model, "b": model}, {}, {"No": model}):
        with pytest.raises(UsageError) as refused:
            lamella.deploy(wrong, slices=1)
        assert refused.value.hint
    sizes = [{"memory_mb": size} for size in (99_999, 0, -1, 512.5)]
    for options in (*sizes, {"name": "No Name"}, {"target": "moon"}, {"platform": "aws-lamda"}):
        with pytest.raises(LamellaError) as caught:
            lamella.deploy(model, slices=1, **options)
        assert caught.value.hint
    with pytest.raises(UsageError, match="slices already"):
        lamella.deploy(lamella.slice(model, tmp_path / "slices", slices=1), slices=2)
    assert own_processes() == before
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("delivery", ["package", "object-store"])
def test_values_and_weights_may_go_through_s3(delivery: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("boto3")
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_servers.SECRET_KEY)
    with s3_servers.moto_server(tmp_path) as url:
        store = s3_servers.make_bucket(url)
        rows = np.tile(X, (20_000, 1))  # 5 MB
        options = {"memory_mb": FULL_SPEED_MB, "delivery": delivery, "store": store}
        with lamella.deploy(models.mlp(tmp_path / "mlp.onnx"), slices=2, **options) as endpoint:
            found = endpoint.infer({"x": rows})["y"]
            left = [entry.key for entry in open_store(store).list()]
        np.testing.assert_allclose(found, expected(tmp_path / "mlp.onnx", x=rows)["y"], rtol=1e-5, atol=1e-6)
        assert list(open_store(store).list()) == []
        assert all(key.startswith("mlp@dev/weights/") for key in left)
        assert bool(left) is (delivery == "object-store")


def test_parallel_cold_starts_overlap(lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path) -> None:
    endpoint = lamella_endpoint(models.mlp(tmp_path / "mlp.onnx"), slices=4, memory_mb=FULL_SPEED_MB, cold="parallel")
    cold = endpoint.infer_with_timeline({"x": X})
    np.testing.assert_allclose(cold.outputs["y"], expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    assert all(run.cold_start for run in cold.timeline)
    one_after_the_other = sum(run.init_ms or 0 for run in cold.timeline)
    assert cold.latency_ms < 0.9 * one_after_the_other
    logs = [line.text for line in endpoint.logs() if line.text.startswith("INIT_START")]
    assert len(logs) == 4  # no instance was started twice


def test_a_killed_instance_is_replaced(lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path) -> None:
    before = own_processes()
    endpoint = lamella_endpoint(models.mlp(tmp_path / "mlp.onnx"), slices=2, memory_mb=FULL_SPEED_MB)
    want = endpoint.infer({"x": X})["y"]
    now = psutil.Process().children(recursive=True)  # some of which may have ended when they are looked at
    running = [each for each in now if each.pid not in before and "runtime.client" in command_of(each)]
    assert running
    for process in running:
        with suppress(psutil.NoSuchProcess):  # with the one that it was started by
            process.kill()
    answer = endpoint.infer_with_timeline({"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], want)
    assert all(run.cold_start for run in answer.timeline)


def test_too_little_memory_names_the_slice(lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path) -> None:
    endpoint = lamella_endpoint(models.mlp(tmp_path / "mlp.onnx"), slices=1, memory_mb=512)
    with pytest.raises(RemoteError, match=r"slice 0 \(`mlp-dev-slice-0`\) failed after 3 attempts") as caught:
        endpoint.infer({"x": np.ones((2_000_000, 32), np.float32)})  # 256 MB, and as much for what comes of it
    assert "memory" in (caught.value.hint or "")
    assert endpoint.infer({"x": X})["y"].shape == (2, 32)


# The service and the command line


@dataclass
class CommandLine:
    """The command line in processes of its own, with a home folder of its own."""

    home: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, status: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "lamella", *arguments]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env=self.environment,
            cwd=self.home.parent.parent,
        )
        assert done.returncode == status, done.stderr
        return done

    def json(self, *arguments: str) -> dict[str, Any]:
        return json.loads(self(*arguments, "--json").stdout)

    @property
    def pid(self) -> int:
        address = running_service(self.home)
        assert address is not None
        return address.pid


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[CommandLine]:
    data = tmp_path / "data"
    source = str(Path(lamella.__file__).parents[1])
    environment = {**os.environ, "XDG_DATA_HOME": str(data), "PYTHONPATH": source, "NO_COLOR": "1"}
    models.mlp(tmp_path / "mlp.onnx")
    made = CommandLine(data / "lamella", environment)
    made.home.mkdir(parents=True)
    yield made
    stop_service(made.home)


def ask(
    cli: CommandLine, path: str, body: bytes | None = None, *, token: str | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """One HTTP request to the service: status, headers, body."""
    address = running_service(cli.home)
    assert address is not None
    given = address.token if token is None else token
    all_headers = {
        "Authorization": f"Bearer {given}",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    try:
        with urlopen(Request(f"{address.url}{path}", body, all_headers), timeout=60) as response:
            return response.status, dict(response.headers), response.read()
    except HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_from_deploy_to_delete(cli: CommandLine, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    planned = cli.json("deploy", "mlp.onnx", "--slices", "2", "--memory", "1769", "--dry-run")
    assert [change["action"] for change in planned["changes"]] == ["create", "create"]
    assert cli.json("status") == {"schema": "lamella.status/1", "deployments": []}
    assert running_service(cli.home) is None  # nothing is started for nothing

    deployed = cli.json("deploy", "mlp.onnx", "--slices", "2", "--memory", "1769")
    assert {"name", "url", "functions", "front_doors"} <= set(deployed)
    assert deployed["url"].endswith("/v2/models/mlp/infer")
    assert [function["memory_mb"] for function in deployed["functions"]] == [1769, 1769]

    found = cli.json("infer", "mlp", "--input", "x=x.npy", "-o", "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_allclose(saved["y"], expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    assert found["outputs"][0]["shape"] == [2, 32]
    keys = ["slice", "cold_start", "init_ms", "load_ms", "infer_ms", "transfer_ms", "billed_ms", "max_memory_mb"]
    assert all(set(keys) <= set(run) for run in found["timeline"])
    assert [run["cold_start"] for run in found["timeline"]] == [True, True]
    alone = cli.json("infer", "mlp", "--slice", "1", "--random")
    assert [run["slice"] for run in alone["timeline"]] == [1]

    status = cli.json("status", "mlp")["deployments"][0]
    assert {key: status[key] for key in ("name", "stage", "version")} == {"name": "mlp", "stage": "dev", "version": 1}
    lines = cli.json("logs", "mlp", "--slice", "0")["lines"]
    assert {line["slice"] for line in lines} == {0}
    assert any("REPORT RequestId: " in line["text"] for line in lines)
    assert "mlp-dev-slice-1" in cli("status", "mlp").stdout
    assert "REPORT" in cli("logs", "mlp").stdout

    assert cli("delete", "mlp", status=2).stderr.splitlines()[-1].startswith("hint: say `--yes`")
    service = cli.pid
    cli("delete", "mlp", "--yes")
    assert not psutil.pid_exists(service) or psutil.Process(service).status() == psutil.STATUS_ZOMBIE
    left = {path.name for path in cli.home.rglob("*") if path.is_file()}
    assert left == {"lock", "port", "service.log", "token"}
    assert "nothing is deployed as `mlp@dev`" in cli("infer", "mlp", "--random", status=2).stderr


def test_a_rollback_and_a_restart_lose_nothing(cli: CommandLine, tmp_path: Path) -> None:
    models.mlp(tmp_path / "new.onnx", layers=6)
    np.save(tmp_path / "x.npy", X)

    def answer() -> np.ndarray:
        cli("infer", "mlp", "--input", "x=x.npy", "-o", "out.npz")
        with np.load(tmp_path / "out.npz") as saved:
            return saved["y"]

    cli("deploy", "mlp.onnx", "--slices", "2", "--memory", "1769")
    cli("deploy", "new.onnx", "--name", "mlp", "--slices", "1", "--memory", "1769")
    np.testing.assert_allclose(answer(), expected(tmp_path / "new.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    content = json.dumps({"inputs": [{"name": "x", "shape": [2, 32], "datatype": "FP32", "data": X.tolist()}]})
    for version, model in (("1", "mlp.onnx"), ("2", "new.onnx")):  # by number, whichever is live
        status, _, body = ask(cli, f"/v2/models/mlp/versions/{version}/infer", content.encode())
        assert (status, json.loads(body)["model_version"]) == (200, version)
        found = np.reshape(json.loads(body)["outputs"][0]["data"], (2, 32))
        np.testing.assert_allclose(found, expected(tmp_path / model, x=X)["y"], rtol=1e-5, atol=1e-6)
    assert ask(cli, "/v2/models/mlp/versions/3/infer", content.encode())[0] == 404
    port, first = running_service(cli.home).port, cli.pid  # type: ignore[union-attr]
    functions = psutil.Process(first).children(recursive=True)
    os.kill(first, signal.SIGKILL)
    assert cli.json("rollback", "mlp")["version"] == 1
    np.testing.assert_allclose(answer(), expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    assert cli.pid != first
    assert running_service(cli.home).port == port  # type: ignore[union-attr]  # clients go on with the address they have
    _, alive = psutil.wait_procs(functions, timeout=10)
    assert alive == []
    os.kill(cli.pid, signal.SIGTERM)
    np.testing.assert_allclose(answer(), expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    assert "no version before 1" in cli("rollback", "mlp", status=2).stderr


def test_the_front_door_speaks_the_protocol(cli: CommandLine, tmp_path: Path) -> None:
    cli("deploy", "mlp.onnx", "--slices", "2", "--memory", "1769")
    want = expected(tmp_path / "mlp.onnx", x=X)["y"]
    assert ask(cli, "/v2/health/live", token="")[0] == 200
    assert ask(cli, "/v2/health/ready", token="")[0] == 200
    entry = {"name": "x", "shape": [2, 32], "datatype": "FP32"}

    plain = {"id": "mine", "inputs": [{**entry, "data": X.tolist()}]}
    status, _, body = ask(cli, "/v2/models/mlp/infer", json.dumps(plain).encode())
    found = json.loads(body)
    assert (status, found["id"], found["model_name"]) == (200, "mine", "mlp")
    np.testing.assert_allclose(np.reshape(found["outputs"][0]["data"], (2, 32)), want, rtol=1e-5, atol=1e-6)
    assert any("mine" in line["text"] for line in cli.json("logs", "mlp")["lines"])
    status, _, body = ask(cli, "/v2/models/mlp/infer", json.dumps({**plain, "id": "../any text"}).encode())
    assert (status, json.loads(body)["id"]) == (200, "../any text")
    assert json.loads(ask(cli, "/v2/models/mlp/ready")[2]) == {"name": "mlp", "ready": True}

    frame = encode({"x": X})
    header = json.dumps({**json.loads(frame.header), "outputs": [{"name": "y", "parameters": {"binary_data": True}}]})
    content = header.encode() + b"".join(map(bytes, frame.buffers))
    status, headers, body = ask(
        cli, "/v2/models/mlp/infer", content, Inference_Header_Content_Length=str(len(header.encode()))
    )
    end = int(headers[HEADER_LENGTH])
    np.testing.assert_allclose(decode_parts(body[:end], body[end:])["y"], want, rtol=1e-5, atol=1e-6)

    metadata = json.loads(ask(cli, "/v2/models/mlp")[2])
    assert metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 32]}]
    for path, body_given, token, want_status in [
        ("/v2/models/mlp", None, "wrong", 401),
        ("/v2/models/mlp/infer", b"{}", "", 401),
        ("/v2/models/other/infer", json.dumps(plain).encode(), None, 404),
        ("/v2/models/mlp@prod", None, None, 404),
        ("/v2/models/mlp/infer", b"no json", None, 400),
        ("/v2/models/mlp/infer", b"{}", None, 400),
        ("/v2/models/mlp/infer", json.dumps({"inputs": [{**entry, "data": [1]}]}).encode(), None, 400),
        ("/v2/models/mlp/infer", json.dumps({**plain, "outputs": [{"name": "z"}]}).encode(), None, 400),
        ("/v2/models/mlp/infer", json.dumps({**plain, "parameters": {"slice": 9}}).encode(), None, 400),
        ("/v2/requests/" + "0" * 32, None, None, 404),
        ("/v2/nothing", None, None, 404),
    ]:
        status, _, body = ask(cli, path, body_given, token=token)
        found = json.loads(body)
        assert status == want_status, (path, body_given, found)
        assert {type(found["error"]), type(found["hint"])} == {str}


def deploy_app(cli: CommandLine, tmp_path: Path) -> dict[str, Any]:
    """Two models, `app.mlp` and `app.words`, and inputs for both."""
    models.lookup(tmp_path / "lookup.onnx")
    np.save(tmp_path / "x.npy", X)
    np.savez(tmp_path / "looked-up.npz", **LOOKED_UP)
    flags = ["--name", "app", "--slices", "2", "--memory", "1769"]
    return cli.json("deploy", "mlp.onnx", "words=lookup.onnx", *flags)


def test_several_models_are_one_deployment(cli: CommandLine, tmp_path: Path) -> None:
    deployed = deploy_app(cli, tmp_path)
    assert [function["model"] for function in deployed["functions"]] == ["mlp", "mlp", "words", "words"]
    assert [door["url"].rpartition("/v2/")[2] for door in deployed["front_doors"]] == [
        "models/app.mlp/infer",
        "models/app.words/infer",
    ]

    cli("infer", "app.mlp", "--input", "x=x.npy", "-o", "out.npz")
    want = expected(tmp_path / "mlp.onnx", x=X)["y"]
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_allclose(saved["y"], want, rtol=1e-5, atol=1e-6)
    cli("infer", "app.words@dev", "--input", "looked-up.npz", "-o", "out.npz")
    with np.load(tmp_path / "out.npz") as saved:
        for name, array in expected(tmp_path / "lookup.onnx", **LOOKED_UP).items():
            np.testing.assert_allclose(saved[name], array, rtol=1e-5, atol=1e-6)
    for arguments, error in [
        (["deploy", "mlp.onnx", "lookup.onnx"], "2 models need a name"),
        (["deploy", "mlp.onnx", "Words=lookup.onnx", "--name", "app"], "`Words` is no name for a model"),
        (["deploy", "mlp.onnx", "mlp.onnx", "--name", "app"], "both be the model `mlp`"),
        (["infer", "app", "--random"], "name one of them: `app.mlp`, `app.words`"),
        (["infer", "app.ner", "--random"], "`app@dev` has no model `ner`"),
        (["rollback", "app.mlp"], "`app.mlp@dev` is one model"),
        (["delete", "app.mlp", "--yes"], "`app.mlp@dev` is one model"),
        (["trigger", "add", "app", "--keep-warm", "60s"], "holds 2 models"),
        (["logs", "app", "--slice", "0"], "holds 2 models"),
    ]:
        assert error in cli(*arguments, status=2).stderr


def test_logs_and_status_tell_models_apart(cli: CommandLine, tmp_path: Path) -> None:
    deploy_app(cli, tmp_path)
    for model in ("mlp", "words"):
        cli("infer", f"app.{model}", "--random")
    assert {line["function"] for line in cli.json("logs", "app.words")["lines"]} == {
        "app-dev-words-slice-0",
        "app-dev-words-slice-1",
    }
    logs = cli("logs", "app").stdout.splitlines()
    assert any(line.startswith("mlp 1 | ") for line in logs)
    assert any(line.startswith("words 0 | ") for line in logs)
    shown = cli("status", "app").stdout
    assert "/v2/models/app.mlp/infer" in shown
    assert "/v2/models/app.words/infer" in shown
    rows = [line.split() for line in cli("status").stdout.splitlines()[1:]]
    assert [(row[0], row[2], row[3]) for row in rows] == [
        ("app.mlp@dev", "mlp.onnx", "2"),
        ("app.words@dev", "lookup.onnx", "2"),
    ]


def test_the_front_door_knows_every_model(cli: CommandLine, tmp_path: Path) -> None:
    deploy_app(cli, tmp_path)
    want = expected(tmp_path / "mlp.onnx", x=X)["y"]
    body = json.dumps({"inputs": [{"name": "x", "shape": [2, 32], "datatype": "FP32", "data": X.tolist()}]}).encode()
    assert json.loads(ask(cli, "/v2")[2])["models"] == ["app.mlp", "app.words"]
    status, _, answer = ask(cli, "/v2/models/app.mlp/infer", body)
    assert (status, json.loads(answer)["model_name"]) == (200, "app.mlp")
    np.testing.assert_allclose(
        np.reshape(json.loads(answer)["outputs"][0]["data"], (2, 32)), want, rtol=1e-5, atol=1e-6
    )
    metadata = json.loads(ask(cli, "/v2/models/app.words")[2])
    assert (metadata["name"], [entry["name"] for entry in metadata["inputs"]]) == ("app.words", ["ids", "mask"])
    for path, given, want_status in [
        ("/v2/models/app.words/ready", None, 200),
        ("/v2/models/app.ner/ready", None, 404),
        ("/v2/models/app/ready", None, 400),
        ("/v2/models/app/infer", body, 400),
        ("/v2/models/app.words/infer", body, 400),
        ("/v2/models/app.mlp/versions/1/infer", body, 200),
    ]:
        assert ask(cli, path, given)[0] == want_status, path


def test_a_trigger_is_of_one_model_and_goes_with_the_deployment(cli: CommandLine, tmp_path: Path) -> None:
    deploy_app(cli, tmp_path)
    (tmp_path / "in").mkdir()
    made = cli.json("trigger", "add", "app.mlp", "--input", "in", "--output", "out", "--as", "tensors")
    assert made["deployment"] == "app.mlp@dev"
    (tmp_path / "x.npy").rename(tmp_path / "in" / "x.npy")
    deadline = time.monotonic() + 60
    while not (result := tmp_path / "out" / "x.npy.npz").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with np.load(result) as saved:
        np.testing.assert_allclose(saved["y"], expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    warm = cli.json("trigger", "add", "app.words", "--keep-warm", "60s")["id"]
    assert "kept warm already" in cli("trigger", "add", "app.words", "--keep-warm", "60s", status=2).stderr
    assert [one["id"] for one in cli.json("trigger", "list", "app.words")["triggers"]] == [warm]
    cli("trigger", "remove", "app", warm)
    assert cli.json("trigger", "list", "app.words")["triggers"] == []
    stop_service(cli.home)
    assert [one["id"] for one in cli.json("trigger", "list", "app")["triggers"]] == [made["id"]]

    service = cli.pid
    cli("delete", "app", "--yes")
    assert not psutil.pid_exists(service) or psutil.Process(service).status() == psutil.STATUS_ZOMBIE
    assert {path.name for path in cli.home.rglob("*") if path.is_file()} == {"lock", "port", "service.log", "token"}


def test_versions_are_chosen_on_the_command_line(cli: CommandLine, tmp_path: Path) -> None:
    models.mlp(tmp_path / "new.onnx", layers=6)
    models.lookup(tmp_path / "lookup.onnx")
    np.save(tmp_path / "x.npy", X)
    flags = ["--slices", "1", "--memory", "1769", "--name", "app"]
    cli("deploy", "model=mlp.onnx", *flags)
    cli("deploy", "model=new.onnx", "lookup.onnx", *flags)

    def answers(address: str, model: str, *options: str) -> None:
        cli("infer", address, "--input", "x=x.npy", "-o", "out.npz", *options)
        with np.load(tmp_path / "out.npz") as saved:
            np.testing.assert_allclose(saved["y"], expected(tmp_path / model, x=X)["y"], rtol=1e-5, atol=1e-6)

    answers("app.model", "new.onnx")
    answers("app.model", "mlp.onnx", "--version", "1")
    answers("app", "mlp.onnx", "--version", "1")
    assert "no version 3" in cli("infer", "app.model", "--random", "--version", "3", status=2).stderr
    assert "no model `lookup`" in cli("infer", "app.lookup", "--random", "--version", "1", status=2).stderr
    metadata = [json.loads(ask(cli, f"/v2/models/app.{model}")[2])["versions"] for model in ("model", "lookup")]
    assert metadata == [["1", "2"], ["2"]]
    assert cli.json("rollback", "app", "--to", "1")["version"] == 1
    answers("app", "mlp.onnx")
    assert cli.json("rollback", "app", "--to", "2")["version"] == 2
    answers("app.model", "new.onnx")
    assert "there is 1, 2" in cli("rollback", "app", "--to", "3", status=2).stderr
    status, _, body = ask(cli, "/lamella/deployments/app/rollback", b'{"to": "x"}')
    assert (status, json.loads(body)["error"]) == (400, "`x` is no version")
    shown = cli("status", "app").stdout
    assert "new.onnx, lookup.onnx" in shown
    assert "live" in shown
    listed = cli.json("status", "app")["deployments"][0]["versions"]
    assert [(one["version"], one["models"]) for one in listed] == [(1, ["mlp.onnx"]), (2, ["new.onnx", "lookup.onnx"])]
    sent = cli("infer", "app", "--random", "--version", "1", "--async").stdout.strip()
    assert cli.json("infer", "app", "--result", sent)["outputs"][0]["name"] == "y"


def test_an_alias_stands_for_a_version(cli: CommandLine, tmp_path: Path) -> None:
    models.mlp(tmp_path / "new.onnx", layers=6)
    np.save(tmp_path / "x.npy", X)
    for model in ("mlp.onnx", "new.onnx"):
        cli("deploy", model, "--slices", "1", "--memory", "1769", "--name", "app")
    assert cli.json("alias", "app", "first", "--to", "1")["aliases"] == {"first": 1}
    cli("infer", "app", "--input", "x=x.npy", "-o", "out.npz", "--version", "first")
    with np.load(tmp_path / "out.npz") as saved:
        np.testing.assert_allclose(saved["y"], expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    functions = cli.json("status", "app")["deployments"][0]["functions_url"]
    assert "first" in cli("alias", "app").stdout
    assert "live, first" not in cli("status", "app").stdout
    assert json.loads(ask(cli, "/v2/models/app/versions/first")[2])["name"] == "app"
    event = json.dumps({"lamella": "ping"}).encode()
    place = f"{functions}/2015-03-31/functions/app-dev-slice-0/invocations?Qualifier=first"
    with urlopen(Request(place, event)) as answer:
        assert json.load(answer)["lamella"] == "pong"
    assert "no alias `second`" in cli("infer", "app", "--random", "--version", "second", status=2).stderr
    assert "or removed" in cli("alias", "app", "first", status=2).stderr
    assert cli.json("alias", "app", "first", "--remove")["aliases"] == {}
    assert "no alias `first`" in cli("infer", "app", "--random", "--version", "first", status=2).stderr


def test_asynchronous_requests_are_answered_later_and_outlive_a_restart(cli: CommandLine, tmp_path: Path) -> None:
    cli("deploy", "mlp.onnx", "--slices", "2", "--memory", "1769")
    frame = encode({"x": X})
    content = frame.header + b"".join(map(bytes, frame.buffers))
    length = {"Inference_Header_Content_Length": str(len(frame.header))}
    status, headers, body = ask(cli, "/v2/models/mlp/infer", content, Prefer="respond-async", **length)
    assert status == 202
    job = json.loads(body)["id"]
    assert headers["Location"] == f"/v2/requests/{job}"
    os.kill(cli.pid, signal.SIGKILL)  # most likely before the functions have even started
    cli("status")
    deadline = time.monotonic() + 60
    while (answer := ask(cli, headers["Location"]))[0] == 202:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = np.reshape(json.loads(answer[2])["outputs"][0]["data"], (2, 32))
    np.testing.assert_allclose(found, expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    stop_service(cli.home)
    assert cli.json("infer", "mlp", "--result", job)["outputs"][0]["shape"] == [2, 32]
    sent = cli("infer", "mlp", "--random", "--async").stdout.strip()
    assert cli.json("infer", "mlp", "--result", sent)["outputs"][0]["name"] == "y"
    status, _, body = ask(cli, "/v2/models/other/infer", content, Prefer="respond-async", **length)
    assert status == 404


def test_a_request_under_way_is_answered_before_the_service_ends(cli: CommandLine, tmp_path: Path) -> None:
    cli("deploy", "mlp.onnx", "--slices", "2", "--memory", "512")  # slow to start
    content = json.dumps({"inputs": [{"name": "x", "shape": [2, 32], "datatype": "FP32", "data": X.tolist()}]})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, cli, "/v2/models/mlp/infer", content.encode())
        time.sleep(0.3)
        assert not asked.done()
        os.kill(cli.pid, signal.SIGTERM)
        status, _, body = asked.result()
    assert status == 200
    found = np.reshape(json.loads(body)["outputs"][0]["data"], (2, 32))
    np.testing.assert_allclose(found, expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
    assert cli.json("infer", "mlp", "--random")["timeline"][0]["cold_start"]


def test_new_objects_become_requests_also_after_a_restart(cli: CommandLine, tmp_path: Path) -> None:
    cli("deploy", "mlp.onnx", "--slices", "1", "--memory", "1769")
    (tmp_path / "in").mkdir()
    made = cli.json("trigger", "add", "mlp", "--input", "in", "--output", "out", "--as", "tensors")
    for name in ("first", "second"):
        np.save(tmp_path / f".{name}.npy", X)
        (tmp_path / f".{name}.npy").rename(tmp_path / "in" / f"{name}.npy")
        deadline = time.monotonic() + 60
        while not (result := tmp_path / "out" / f"{name}.npy.npz").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with np.load(result) as saved:
            np.testing.assert_allclose(saved["y"], expected(tmp_path / "mlp.onnx", x=X)["y"], rtol=1e-5, atol=1e-6)
        stop_service(cli.home)
        assert cli.json("trigger", "list", "mlp")["triggers"][0]["id"] == made["id"]
    cli("trigger", "remove", "mlp", made["id"])
    assert cli.json("trigger", "list", "mlp")["triggers"] == []


def test_logs_are_followed(cli: CommandLine, tmp_path: Path) -> None:
    cli("deploy", "mlp.onnx", "--slices", "1", "--memory", "1769")
    command = [sys.executable, "-m", "lamella", "logs", "mlp", "-f"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cli.environment, cwd=tmp_path) as following:
        assert following.stdout is not None
        cli("infer", "mlp", "--random")
        for line in following.stdout:
            if "REPORT" in line:
                break
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 130


def test_the_service_is_its_users_alone(cli: CommandLine) -> None:
    cli.environment["LAMELLA_HOST"] = ""  # as good as not set
    cli("deploy", "mlp.onnx", "--slices", "1", "--memory", "1769")
    folder = ServiceFolder(cli.home)
    assert folder.token_file.stat().st_mode & 0o077 == 0
    assert (cli.home / "service" / "address.json").stat().st_mode & 0o077 == 0
    assert (cli.home / "service").stat().st_mode & 0o077 == 0
    listening = [c for c in psutil.Process(cli.pid).net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
    cli("deploy", "mlp.onnx", "--slices", "1", "--memory", "1769", "--stage", "prod")
    service = cli.pid
    assert cli.json("delete", "mlp@prod", "--yes") == {"schema": "lamella.delete/1", "deleted": "mlp@prod"}
    assert cli.pid == service


def test_the_doctor_says_what_is_enforced(cli: CommandLine) -> None:
    found = cli.json("doctor")
    assert {"memory", "processors", "read-only code"} <= {one["limit"] for one in found["enforced"]}
    assert {one["enforced"] for one in found["enforced"]} <= {"yes", "partly", "no"}
    assert found["service"] is None
    assert "memory" in cli("doctor").stdout


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["deploy", "gone.onnx"], "gone.onnx"),
        (["deploy", "mlp.onnx", "--name", "No"], "`No` is no name"),
        (["deploy", "mlp.onnx", "--memory", "lots"], "`--memory` takes"),
        (["deploy", "mlp.onnx", "--memory", "99GB"], "101376 MB"),
        (["deploy", "mlp.onnx", "--platform", "aws-lamda"], "aws-lamda"),
        (["infer", "mlp", "--random", "-o", "out.txt"], "no `.npz`"),
        (["infer", "mlp", "--result", "0", "--random"], "nothing is deployed"),
        (["status", "a b"], "`a b` is no name"),
    ],
)
def test_mistakes_are_named(cli: CommandLine, arguments: list[str], error: str) -> None:
    done = cli(*arguments, status=2)
    assert error in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_of_the_service_are_the_callers(
    lamella_endpoint: Callable[..., lamella.Endpoint], tmp_path: Path
) -> None:
    endpoint = lamella_endpoint(models.mlp(tmp_path / "mlp.onnx"), slices=2, memory_mb=FULL_SPEED_MB)
    with pytest.raises(InputError, match="input `x`"):
        endpoint.infer({})
    with pytest.raises(UsageError, match="no slice 5"):
        endpoint.infer_slice(5, {})


def test_an_empty_platform_is_a_fixture(lamella_platform: Callable[..., Any]) -> None:
    first, second = lamella_platform(), lamella_platform(concurrency=2)
    assert list(first.functions()) == []
    assert first.url != second.url
