"""Objects become requests to a real deployment, and results arrive wherever they are to go."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from tests import models, sql_servers
from tests.conformance import s3_servers
from tests.receiver import Receiver

import lamella
from lamella.cli import main
from lamella.errors import UsageError
from lamella.gateway.events import Trigger, Warming, Watched, Watcher, keep_warm, on_endpoint
from lamella.gateway.events.triggers import Triggers
from lamella.gateway.starting import running_service, stop_service
from lamella.platforms import load_platform
from lamella.stores.opening import open_store
from lamella.targets.base import NotDeployedError, Wanted
from lamella.targets.local.target import LocalTarget
from lamella.wire import encode

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
POLL_S = 0.05
HOST = """
import sys
from pathlib import Path
from lamella.gateway.events.triggers import Triggers
from lamella.targets.local.target import LocalTarget
home = Path(sys.argv[1])
target = LocalTarget(home)
assert not target.restore()
triggers = Triggers(home / "deployments", target)
assert not triggers.start()
print("ready", flush=True)
sys.stdin.read()
triggers.close()
target.close()
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LAMELLA_HOME", raising=False)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = models.mlp(tmp_path_factory.mktemp("model") / "model.onnx")
    return lamella.slice(model, model.with_suffix(".slices"), slices=2).directory


@pytest.fixture(scope="module")
def endpoint(sliced: Path) -> Iterator[lamella.Endpoint]:
    with lamella.deploy(sliced, name="model") as deployed:
        yield deployed


class Home:
    """A home folder with deployments, and what is active in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.open()

    def open(self) -> None:
        self.target = LocalTarget(self.folder)
        self.triggers = Triggers(self.folder / "deployments", self.target)

    def close(self) -> None:
        self.triggers.close()
        self.target.close()

    def deploy(self, sliced: Path, name: str = "model") -> None:
        platform = load_platform("aws-lambda")
        self.target.apply(Wanted(name=name, stage="dev", models={"model": sliced}, platform=platform, memory_mb=1769))

    def logged_reports(self, name: str = "model") -> int:
        return sum(line.text.startswith("REPORT") for line in self.target.logs(name))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home(tmp_path / "home")
    yield made
    made.close()


def put(folder: Path, key: str, array: np.ndarray = X) -> None:
    """As programs do that know that somebody watches: write beside, then rename."""
    path = folder / key
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:
        np.save(file, array)
    partial.rename(path)


def expected(sliced: Path, x: np.ndarray) -> np.ndarray:
    with lamella.Pipeline(sliced) as pipeline:
        return pipeline.infer({"x": x})["y"]


def eventually(holds: Callable[[], object], within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def test_each_kind_of_object_is_answered(endpoint: lamella.Endpoint, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    trigger = Trigger("model@dev", str(source), str(output), "tensors", poll_s=POLL_S)
    with Watcher(trigger, on_endpoint(endpoint), tmp_path / "state") as watcher:
        put(source, "a.npy")
        put(source, "nested/größe 1/b%20c+d.npy", 2 * X)
        np.savez(source / ".c.npz", x=3 * X)
        (source / ".c.npz").rename(source / "c.npz")
        (source / "d.json").write_text(
            json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 32], "data": X[0].tolist()}]})
        )
        (source / "e.frame").write_bytes(encode({"x": X[:1]}).to_bytes())
        put(source, "wrong.npy", X.astype(np.float64))
        put(source, "worse.npy", X[:, :3])
        eventually(lambda: watcher.status().done + watcher.status().given_up == 7)
        assert watcher.status() == Watched(5, 2, 0, None)
    inputs = {"a.npy": X, "nested/größe 1/b%20c+d.npy": 2 * X, "c.npz": 3 * X, "d.json": X[:1], "e.frame": X[:1]}
    store = open_store(output.as_uri())
    assert {entry.key for entry in store.list()} == {f"{key}.npz" for key in inputs}
    for key, x in inputs.items():
        with np.load(BytesIO(store.get(f"{key}.npz"))) as found:
            np.testing.assert_allclose(found["y"], expected(sliced, x), rtol=1e-5, atol=1e-6)
    dead = tmp_path / "state" / "dead-letters"
    assert sorted(path.name for path in dead.iterdir()) == [
        "worse.npy",
        "worse.npy.error.json",
        "wrong.npy",
        "wrong.npy.error.json",
    ]
    assert "FP64" in json.loads((dead / "wrong.npy.error.json").read_text())["error"]


def test_results_go_through_another_deployment(home: Home, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    home.deploy(sliced)
    home.deploy(sliced, "second")
    home.triggers.add(
        Trigger("model", str(source), f"deployment://second?output={output}", "tensors", poll_s=POLL_S, id="both")
    )
    put(source, "a.npy")
    eventually((output / "a.npy.npz").is_file)
    with np.load(output / "a.npy.npz") as found:
        np.testing.assert_allclose(found["y"], expected(sliced, expected(sliced, X)), rtol=1e-5, atol=1e-6)
    with pytest.raises(UsageError, match="comes back"):
        home.triggers.add(Trigger("second", str(output), str(source)))
    with pytest.raises(UsageError, match="its own results"):
        home.triggers.add(Trigger("second", str(source), f"deployment://second?output={output}"))
    assert [entry["id"] for entry in home.triggers.of("model@dev")] == ["both"]
    assert home.triggers.of("second@dev") == []


def test_a_chain_of_deployments_waits_for_one_that_is_deleted_and_never_comes_back_to_one(
    home: Home, sliced: Path, tmp_path: Path
) -> None:
    source, output = folders(tmp_path)
    for name in ("model", "second", "third"):
        home.deploy(sliced, name)
    chain = f"deployment://second?output=deployment://third@dev?output={output}"
    home.triggers.add(Trigger("model", str(source), chain, "tensors", poll_s=POLL_S, id="all", attempts=1))
    for name, start in (
        ("model", "deployment://second"),
        ("second@dev", "deployment://third?output=deployment://model"),
    ):
        circle = f"{start}?output=deployment://{name}?output={tmp_path}/elsewhere"
        with pytest.raises(UsageError, match="its own results") as caught:
            home.triggers.add(Trigger(name, str(source), circle))
        assert caught.value.hint
    put(source, "a.npy")
    eventually((output / "a.npy.npz").is_file)
    wanted = expected(sliced, expected(sliced, expected(sliced, X)))
    with np.load(output / "a.npy.npz") as found:
        np.testing.assert_allclose(found["y"], wanted, rtol=1e-5, atol=1e-6)
    home.target.delete("third")
    put(source, "b.npy")
    eventually(lambda: "third@dev" in str(home.triggers.of("model")[0]["last_error"]))
    assert home.triggers.of("model")[0]["given_up"] == 0
    home.deploy(sliced, "third")
    eventually((output / "b.npy.npz").is_file)
    eventually(lambda: home.triggers.of("model")[0]["done"] == 2)


def test_two_platforms_in_one_process_do_not_disturb_each_other(
    endpoint: lamella.Endpoint, home: Home, sliced: Path
) -> None:
    home.deploy(sliced)
    for timeline in (endpoint.infer_with_timeline({"x": X}).timeline, home.target.infer("model", {"x": X}).timeline):
        assert [run.attempts for run in timeline] == [1, 1]


def test_triggers_are_kept_listed_and_removed(home: Home, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    trigger = Trigger("model", str(source), str(output), poll_s=POLL_S)
    with pytest.raises(NotDeployedError):
        home.triggers.add(trigger)
    home.deploy(sliced)
    with pytest.raises(UsageError, match="folder"):
        home.triggers.add(Trigger("model", str(tmp_path / "missing"), str(output)))
    with pytest.raises(NotDeployedError, match="nobody"):
        home.triggers.add(Trigger("model", str(source), f"deployment://nobody?output={output}"))
    with pytest.raises(UsageError, match="own files"):
        home.triggers.add(Trigger("model", str(home.folder), str(output)))
    assert home.triggers.of("model") == []
    home.triggers.add(trigger)
    with pytest.raises(UsageError, match="already"):
        home.triggers.add(trigger)
    put(source, "a.npy")
    eventually(lambda: home.triggers.of("model")[0]["done"] == 1)
    home.close()
    put(source, "b.npy")
    home.open()
    assert home.triggers.start() == {}
    eventually(lambda: home.triggers.of("model")[0]["done"] == 2)
    first = (output / "a.npy.json").stat().st_mtime_ns
    (listed,) = home.triggers.of("model@dev")
    (kept,) = home.folder.rglob(f"{trigger.id}.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (listed["id"], listed["kind"], listed["input"], listed["active"]) == (
        trigger.id,
        "objects",
        source.as_uri(),
        True,
    )
    with pytest.raises(UsageError, match="no trigger"):
        home.triggers.remove("model", "other")
    home.triggers.remove("model", trigger.id)
    put(source, "c.npy")
    time.sleep(5 * POLL_S)
    assert home.triggers.of("model") == []
    assert sorted(path.name for path in output.iterdir()) == ["a.npy.json", "b.npy.json"]
    assert (output / "a.npy.json").stat().st_mtime_ns == first
    assert list(home.folder.rglob(f"*{trigger.id}*")) == []


def test_deleting_a_deployment_ends_its_triggers(home: Home, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    home.deploy(sliced)
    home.triggers.add(Trigger("model", str(source), str(output), poll_s=POLL_S))
    home.triggers.add(Warming("model", 60))
    home.triggers.stop("model@dev")
    home.target.delete("model")
    put(source, "a.npy")
    time.sleep(5 * POLL_S)
    assert not output.exists()
    assert [path for path in home.folder.rglob("*") if path.is_file()] == []
    with pytest.raises(NotDeployedError):
        home.triggers.of("model")


def test_a_trigger_that_cannot_start_is_shown_and_can_be_removed(home: Home, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    home.deploy(sliced)
    home.triggers.add(Trigger("model", str(source), str(output), id="good"))
    home.triggers.add(Trigger("model", str(source), str(tmp_path / "other"), id="bad"))
    home.close()
    (file,) = home.folder.rglob("bad.json")
    file.write_text("{")
    home.open()
    assert list(home.triggers.start()) == ["model@dev/bad"]
    good, bad = home.triggers.of("model")
    assert (good["active"], bad["id"], bad["active"]) == (True, "bad", False)
    assert "damaged" in bad["last_error"]
    home.triggers.remove("model", "bad")
    assert not file.exists()
    assert [entry["id"] for entry in home.triggers.of("model")] == ["good"]


def test_functions_are_kept_warm_without_an_inference(home: Home, sliced: Path) -> None:
    home.deploy(sliced)
    with keep_warm(Warming("model@dev", 1.0), home.target) as keeping:
        eventually(lambda: keeping.pings == 2)
        timeline = home.target.infer("model", {"x": X}).timeline
        assert [run.cold_start for run in timeline] == [False, False]  # the first request finds both warm
        eventually(lambda: keeping.pings >= 6)
    assert home.logged_reports() == keeping.pings + 2  # each ping is a request of its own, and there was one more
    time.sleep(1.5)
    assert home.logged_reports() == keeping.pings + 2


def test_keeping_warm_is_a_trigger(home: Home, sliced: Path) -> None:
    home.deploy(sliced)
    listed = home.triggers.add(Warming("model", 5.0, id="warm"))
    assert (listed["kind"], listed["interval_s"], listed["active"]) == ("keep_warm", 5.0, True)
    with pytest.raises(UsageError, match="kept warm already"):
        home.triggers.add(Warming("model@dev", 9.0))
    home.close()
    home.open()
    assert home.triggers.start() == {}
    eventually(lambda: home.triggers.of("model")[0]["pings"] == 2)
    home.triggers.remove("model", "warm")
    assert home.triggers.of("model") == []


def deploy_two(home: Home, sliced: Path) -> None:
    both = {"first": sliced, "second": sliced}
    home.target.apply(Wanted("app", "dev", both, load_platform("aws-lambda"), memory_mb=1769))


def test_one_model_may_feed_another_of_the_same_deployment(home: Home, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    deploy_two(home, sliced)
    with pytest.raises(UsageError, match="`app@dev` holds 2 models"):
        home.triggers.add(Trigger("app", str(source), str(output)))
    with pytest.raises(NotDeployedError, match="no model `third`"):
        home.triggers.add(Trigger("app.third", str(source), str(output)))
    then = f"deployment://app.second?output={output.as_uri()}"
    home.triggers.add(Trigger("app.first", str(source), then, "tensors", poll_s=POLL_S))
    put(source, "a.npy")
    eventually((output / "a.npy.npz").is_file)
    with np.load(output / "a.npy.npz") as found:
        np.testing.assert_allclose(found["y"], expected(sliced, expected(sliced, X)), rtol=1e-5, atol=1e-6)
    home.close()
    home.open()
    assert home.triggers.start() == {}
    assert [one["deployment"] for one in home.triggers.of("app")] == ["app.first@dev"]
    assert home.triggers.of("app.second") == []


def test_one_model_of_several_is_kept_warm_whatever_is_asked_of_others(home: Home, sliced: Path) -> None:
    deploy_two(home, sliced)
    home.triggers.add(Warming("app.first", 1.0))
    with pytest.raises(UsageError, match="kept warm already"):
        home.triggers.add(Warming("app.first@dev", 2.0))

    def pings() -> int:
        home.triggers.used("app.second")  # again and again, which would make pings of its own wait
        return int(home.triggers.of("app.first")[0]["pings"])

    eventually(lambda: pings() >= 6)
    reports = [line.function for line in home.target.logs("app") if line.text.startswith("REPORT")]
    assert set(reports) == {"app-dev-first-slice-0", "app-dev-first-slice-1"}


@pytest.fixture(params=["moto", "ceph"])
def bucket(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """URI of a bucket on a server of its own."""
    pytest.importorskip("boto3")
    if request.param == "moto":
        pytest.importorskip("moto.server", reason="moto[server] is not installed")
    elif lacking := s3_servers.lacking_for_ceph():
        pytest.skip(f"not installed: {', '.join(lacking)}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_servers.ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_servers.SECRET_KEY)
    folder = tmp_path / "server"
    folder.mkdir()
    with {"moto": s3_servers.moto_server, "ceph": s3_servers.ceph_gateway}[request.param](folder) as url:
        yield s3_servers.make_bucket(url)


def test_a_bucket_is_watched_whatever_its_keys_are(endpoint: lamella.Endpoint, bucket: str, tmp_path: Path) -> None:
    source, output, dead = (open_store(bucket.replace("?", f"/{place}?")) for place in ("in", "out", "dead"))
    keys = ["a.npy", "nested/deep/b.npy", "größe 1/c%20d+e&f=g?h#i.npy", "double//slash.npy", "%2E%2E%2Fup.npy"]
    frame = BytesIO()
    np.save(frame, X)
    for key in (*keys, "folder/", "cat.jpg"):
        source.put(key, frame.getvalue())
    trigger = Trigger("model@dev", source.uri, output.uri, "text", dead.uri, poll_s=0.2)
    with pytest.raises(UsageError, match="overlap"):
        Watcher(Trigger("model@dev", bucket, output.uri), on_endpoint(endpoint), tmp_path / "s")
    with Watcher(trigger, on_endpoint(endpoint), tmp_path / "state") as watcher:
        eventually(lambda: watcher.status() == Watched(len(keys), 1, 0, None))
        time.sleep(1.1)  # a listing has whole seconds
        source.put("a.npy", frame.getvalue())  # has the same ETag
        eventually(lambda: watcher.status().done == len(keys) + 1)
        time.sleep(0.5)
        assert watcher.status() == Watched(len(keys) + 1, 1, 0, None)
    assert {entry.key for entry in output.list()} == {f"{key}.txt" for key in keys}
    (row, _) = output.get("a.npy.txt").decode().splitlines()
    np.testing.assert_allclose([float(number) for number in row.split()], endpoint.infer({"x": X})["y"][0], rtol=1e-5)
    assert [entry.key for entry in dead.list()] == ["cat.jpg", "cat.jpg.error.json"]


def test_what_a_bucket_has_given_up_is_put_back(endpoint: lamella.Endpoint, bucket: str, tmp_path: Path) -> None:
    source, output, dead = (open_store(bucket.replace("?", f"/{place}?")) for place in ("in", "out", "dead"))
    content = {}
    for key, array in {"deep/er/a%20 b.npy": X, "wrong.npy": X[:, :3]}.items():
        frame = BytesIO()
        np.save(frame, array)
        content[key] = frame.getvalue()
        source.put(key, content[key])
    with Receiver(lambda _: (403, {})) as refusing:
        trigger = Trigger("model@dev", source.uri, refusing.url, "json", dead.uri, poll_s=0.2)
        with Watcher(trigger, on_endpoint(endpoint), tmp_path / "state") as watcher:
            eventually(lambda: watcher.status().given_up == 2)
    source.delete("deep/er/a%20 b.npy")  # as whoever tidies up: the copy is all there is
    trigger = replace(trigger, output=output.uri)
    with Watcher(trigger, on_endpoint(endpoint), tmp_path / "state") as watcher:
        first, second = watcher.failed()
        assert (first.key, "403" in first.error, second.key, second.hint is not None) == (
            "deep/er/a%20 b.npy",
            True,
            "wrong.npy",
            True,
        )
        assert watcher.retry() == {first.key: None, second.key: None}
        eventually(lambda: watcher.status() == Watched(1, 1, 0, None))
        assert [letter.key for letter in watcher.failed()] == ["wrong.npy"]
    assert [entry.key for entry in output.list()] == ["deep/er/a%20 b.npy.json"]
    assert source.get("deep/er/a%20 b.npy") == content["deep/er/a%20 b.npy"]
    assert [entry.key for entry in dead.list()] == ["wrong.npy", "wrong.npy.error.json"]


@contextmanager
def hosting(folder: Path, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process that hosts a home; it is killed at the end, if it lives."""
    with log.open("ab") as errors:
        command = [sys.executable, "-c", HOST, str(folder)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=os.environ
        )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n", log.read_text()
            yield process
        finally:
            process.kill()


def answered(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path)) as connection:
        try:
            found = connection.execute("SELECT key, outputs FROM results").fetchall()
        except sqlite3.OperationalError:  # no table yet
            return {}
    assert len(found) == len({key for key, _ in found})
    return {key: json.loads(outputs)[0]["data"] for key, outputs in found}


def test_a_killed_host_loses_no_object_and_repeats_only_what_was_under_way(
    home: Home, sliced: Path, tmp_path: Path
) -> None:
    source, log, parallel, count, kills = tmp_path / "in", tmp_path / "host.log", 2, 60, 3
    source.mkdir()
    home.deploy(sliced)
    with Receiver() as receiver:
        for output in (f"sqlite://{tmp_path}/results.db", f"{receiver.url}/hook"):
            home.triggers.add(Trigger("model", str(source), output, poll_s=POLL_S, parallel=parallel))
        home.close()
        for part in range(kills):
            for n in range(count * part // kills, count * (part + 1) // kills):
                put(source, f"deep/{n % 7}/{n}.npy", np.full((1, 32), n, np.float32))
            done = len(receiver.calls)
            with hosting(home.folder, log) as process:
                eventually(lambda: len(receiver.calls) >= done + 5)  # noqa: B023
                process.send_signal(signal.SIGKILL)
                process.wait()
        with hosting(home.folder, log) as process:
            eventually(lambda: len({body["key"] for _, _, body in receiver.calls}) == count)
            eventually(lambda: len(answered(tmp_path / "results.db")) == count)
            time.sleep(10 * POLL_S)
            assert process.stdin is not None
            process.stdin.close()
            assert process.wait(60) == 0, log.read_text()
    rows = answered(tmp_path / "results.db")
    repeated = Counter(headers["Idempotency-Key"] for _, headers, _ in receiver.calls)
    assert len(repeated) == count  # repetitions have the same key
    assert sum(repeated.values()) - count <= kills * parallel
    for n in range(count):
        wanted = expected_rows(sliced)[n]
        np.testing.assert_allclose(rows[f"deep/{n % 7}/{n}.npy"], wanted, rtol=1e-5, atol=1e-5)
    for _, _, body in receiver.calls:
        assert body["outputs"][0]["data"] == rows[body["key"]]
    home.open()
    home.triggers.start()
    assert [entry["given_up"] for entry in home.triggers.of("model")] == [0, 0]
    assert [entry["done"] for entry in home.triggers.of("model")] == [count, count]


def expected_rows(sliced: Path) -> np.ndarray:
    return expected(sliced, np.repeat(np.arange(60, dtype=np.float32)[:, None], 32, axis=1))


class CommandLine:
    """The command line, with a home folder of its own."""

    def __init__(self, home: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self._capture = home, capture

    def __call__(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """What it prints, and what it says."""
        done = main(arguments)
        said = self._capture.readouterr()
        assert done == status, said.err
        return said.out, said.err

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--json")[0])
        return found

    @property
    def pid(self) -> int:
        address = running_service(self.home)
        assert address is not None
        return address.pid


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[CommandLine]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("PYTHONPATH", str(Path(lamella.__file__).parents[1]))  # of the service
    made = CommandLine(tmp_path / "data" / "lamella", capsys)
    yield made
    stop_service(made.home)


def test_the_service_keeps_triggers_going(cli: CommandLine, sliced: Path, tmp_path: Path) -> None:
    source, output = folders(tmp_path)
    cli("deploy", str(sliced), "--name", "model", "--memory", "1769")
    name, said = cli("trigger", "add", "model", "--input", "in", "--output", "out", "--as", "text", "--poll-s", "0.1")
    name = name.strip()
    assert f"{source.as_uri()} to {output.as_uri()}" in said
    put(source, "nested/a%20b.npy")
    eventually((output / "nested" / "a%20b.npy.txt").is_file)
    assert len((output / "nested" / "a%20b.npy.txt").read_text().splitlines()) == 2

    warm = cli.json("trigger", "add", "model", "--keep-warm", "1m")
    assert (warm["kind"], warm["interval_s"]) == ("keep_warm", 60.0)

    doors = cli.json("status", "model")["deployments"][0]["front_doors"]
    assert [door["kind"] for door in doors] == ["http", "objects", "keep_warm"]

    os.kill(cli.pid, signal.SIGKILL)
    put(source, "b.npy")
    put(source, "c.jpg")
    cli("status")  # starts the service again
    eventually((output / "b.npy.txt").is_file)
    eventually(lambda: cli.json("trigger", "list", "model@dev")["triggers"][0]["given_up"] == 1)
    listed = cli.json("trigger", "list", "model")["triggers"]
    assert [(entry["id"], entry["kind"], entry["active"]) for entry in listed] == [
        (name, "objects", True),
        (warm["id"], "keep_warm", True),
    ]
    assert listed[0]["done"] == 2
    assert "2 done, 1 given up, 0 waiting" in cli("trigger", "list", "model")[0]

    cli("trigger", "remove", "model", name)
    assert "no trigger" in cli("trigger", "remove", "model", name, status=2)[1]
    put(source, "d.npy")
    time.sleep(1)
    assert {path.name for path in output.rglob("*.txt")} == {"a%20b.npy.txt", "b.npy.txt"}
    cli("trigger", "add", "model", "--input", "in", "--output", "out")
    cli("delete", "model", "--yes")
    assert {path.name for path in cli.home.rglob("*") if path.is_file()} == {"lock", "port", "service.log", "token"}


def test_the_command_line_lists_what_was_given_up_and_puts_it_back(
    cli: CommandLine, sliced: Path, tmp_path: Path
) -> None:
    source, _ = folders(tmp_path)
    cli("deploy", str(sliced), "--name", "model", "--memory", "1769")
    name = cli("trigger", "add", "model", "--input", "in", "--output", "out", "--poll-s", "0.1")[0].strip()
    warm = cli.json("trigger", "add", "model", "--keep-warm", "1h")
    assert "nothing" in cli("trigger", "failed", "model", name)[1]
    put(source, "c.jpg")
    eventually(lambda: cli.json("trigger", "failed", "model", name)["failed"])
    assert "c.jpg" in cli("trigger", "failed", "model", name)[0]
    (failed,) = cli.json("trigger", "failed", "model", name)["failed"]
    assert (failed["key"], failed["attempts"]) == ("c.jpg", 1)
    assert "`d.jpg`" in cli("trigger", "retry", "model", name, "d.jpg", status=2)[1]
    assert "no active trigger" in cli("trigger", "retry", "model", warm["id"], status=2)[1]
    (source / "c.jpg").unlink()
    assert "put back 1 of 1" in cli("trigger", "retry", "model", name, "c.jpg")[1]
    assert (source / "c.jpg").is_file()
    eventually(lambda: cli.json("trigger", "failed", "model", name)["failed"])
    assert cli.json("trigger", "retry", "model", name)["objects"] == {"c.jpg": None}
    eventually(lambda: cli.json("trigger", "failed", "model", name)["failed"])


def test_a_service_that_is_killed_amid_an_object_answers_it_again(
    cli: CommandLine, sliced: Path, tmp_path: Path
) -> None:
    source, _ = folders(tmp_path)
    cli("deploy", str(sliced), "--name", "model", "--memory", "1769")
    began, killed = Event(), Event()

    def answer(_: int) -> tuple[int, dict[str, str]]:
        began.set()
        assert killed.wait(60)
        return 200, {}

    with Receiver(answer) as receiver:
        cli(
            "trigger", "add", "model", "--input", "in", "--output", f"{receiver.url}/hook?key=secret", "--poll-s", "0.1"
        )
        put(source, "a.npy")
        assert began.wait(60)  # its result is on the way
        os.kill(cli.pid, signal.SIGKILL)
        killed.set()
        eventually(lambda: cli.json("trigger", "list", "model")["triggers"][0]["done"] == 1)
        first, *others = receiver.calls
        assert [body["key"] for _, _, body in receiver.calls] == ["a.npy", "a.npy"]
        assert {headers["Idempotency-Key"] for _, headers, _ in others} == {first[1]["Idempotency-Key"]}
        assert all(path == "/hook?key=secret" for path, _, _ in receiver.calls)
    for said in (cli("trigger", "list", "model"), cli("status", "model"), cli("status", "--json")):
        assert "key=secret" not in "".join(said)
    assert "key=secret" not in (cli.home / "service" / "service.log").read_text()


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_database_gets_one_row_for_each_object_though_the_service_is_killed(
    kind: str, cli: CommandLine, sliced: Path, tmp_path: Path
) -> None:
    sqlalchemy = pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
    if package := sql_servers.lacking(kind):
        pytest.skip(f"not installed: {package}")
    source, _ = folders(tmp_path)
    cli("deploy", str(sliced), "--name", "model", "--memory", "1769")
    with sql_servers.sql_server(kind) as url:
        driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}[kind]
        engine = sqlalchemy.create_engine(url.replace(kind, driver, 1), poolclass=sqlalchemy.NullPool)

        def keys() -> list[str]:
            with engine.connect() as connection:
                if not sqlalchemy.inspect(connection).has_table("found"):
                    return []
                table = sqlalchemy.Table("found", sqlalchemy.MetaData(), autoload_with=connection)
                return list(connection.execute(sqlalchemy.select(table.c.key)).scalars())

        where = ("--input", "in", "--output", f"{url}?table=found", "--poll-s", "0.1")
        added = cli("trigger", "add", "model", *where)
        for n in range(20):
            put(source, f"{n}.npy", np.full((1, 32), n, np.float32))
        eventually(lambda: len(keys()) >= 3)
        os.kill(cli.pid, signal.SIGKILL)
        cli("status")  # starts the service again
        eventually(lambda: len(keys()) == 20)
        eventually(lambda: cli.json("trigger", "list", "model")["triggers"][0]["done"] == 20)
        assert sorted(keys()) == sorted(f"{n}.npy" for n in range(20))
        for said in (added, cli("trigger", "list", "model"), cli("status", "model"), cli("status", "--json")):
            assert sql_servers.QUOTED not in "".join(said)
        assert "***" in cli("trigger", "list", "model", "--json")[0]
    assert sql_servers.QUOTED not in (cli.home / "service" / "service.log").read_text()


def test_mistakes_with_triggers_are_explained(cli: CommandLine, sliced: Path, tmp_path: Path) -> None:
    folders(tmp_path)
    assert "nothing is deployed" in cli("trigger", "list", "model", status=2)[1]
    cli("deploy", str(sliced), "--name", "model", "--memory", "1769")
    for arguments, message in (
        (["--input", "in"], "belong together"),
        (["--input", "in", "--output", "in/out"], "overlap"),
        (["--input", "missing", "--output", "out"], "no folder"),
        (["--input", "in", "--output", "ftp://x"], "ftp"),
        (["--input", "in", "--output", "sqlite:///missing/x.db"], "missing"),
        (["--input", "in", "--output", "https://x.example", "--as", "text"], "text"),
        (["--input", "in", "--output", "deployment://other?output=out"], "other@dev"),
        (["--input", "in", "--output", "out", "--keep-warm", "60s"], "of its own"),
        (["--keep-warm", "often"], "no time"),
        (["--keep-warm", "0s"], "keep_warm"),
    ):
        said = cli("trigger", "add", "model", *arguments, status=2)[1]
        assert message in said
        assert "hint: " in said
    assert "has no trigger" in cli("trigger", "list", "model")[1]
