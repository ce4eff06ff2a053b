"""Many requests at once while processes are killed, memory runs out, time is up, and the platform starts anew.

Each request has inputs of its own, and gets the answer to these or a clear error. Afterwards nothing is left.
"""

from __future__ import annotations

import gc
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models

import lamella
from lamella.errors import RemoteError, StoreError, UsageError
from lamella.platforms import load_platform
from lamella.stores.directory import path_of
from lamella.stores.opening import open_store
from lamella.targets.base import Wanted
from lamella.targets.local.guardian import owner_prefix
from lamella.targets.local.logs import read_stamp
from lamella.targets.local.sandbox import detect
from lamella.targets.local.target import LocalTarget

_KEPT = ("lock", "logs")  # in a platform's folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc, which is Linux's")

NAME = f"isolation-{os.getpid()}"
SLICES = 4
WIDTH = 32
MEMORY_MB, TIMEOUT_S = 512, 3.0
BURST = 4
"""Instances of a function that may start in ten seconds: two cores have enough to do with so many. A request that finds
none is throttled, and tried again."""

CLIENTS, REQUESTS_EACH = 64, 2
RESTART_AFTER = 64
KILLS, KILL_EVERY_S, STARTING_S = 8, 0.3, 2.0
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
TOO_MANY_COPIES = 1 << 23
"""Of a row of 128 bytes: 1 GiB, twice the memory."""
STEPS = {"plain": 1_000, "large": 3, "hungry": 1, "endless": 1 << 40}
"""Of the loop: so many that a plain request takes long enough to be hit, and an endless one longer than it may."""


@dataclass(frozen=True)
class Asked:
    """One request.

    Attributes:
        kind: `plain`; `large`, whose values travel by reference; `hungry` for memory; `endless`.
        inputs: Its own.
    """

    kind: str
    inputs: dict[str, np.ndarray]


@dataclass
class Place:
    """The target that clients see: it goes away and comes back, as with a restart of the service."""

    folder: Path
    target: LocalTarget
    _change: threading.Condition = field(default_factory=threading.Condition)
    _away: bool = False
    finished: int = 0

    def infer(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        while True:
            with self._change:
                self._change.wait_for(lambda: not self._away)
                target = self.target
            try:
                return target.infer(NAME, inputs).outputs["y"]
            except UsageError:  # it was closed before the request had begun: as if nobody were there to connect to
                if not self._away and target is self.target:
                    raise

    def note_finished(self) -> None:
        with self._change:
            self.finished += 1
            self._change.notify_all()

    def restart_after(self, finished: int) -> None:
        """Close it in the middle of what runs, and restore what is deployed."""
        with self._change:
            self._change.wait_for(lambda: self.finished >= finished)
            self._away = True
        self.target.close()
        restored = LocalTarget(self.folder)
        assert restored.restore() == {}
        with self._change:
            self.target, self._away = restored, False
            self._change.notify_all()


def instances() -> list[int]:
    """Ids of all processes that belong to this test's functions, sandboxes included."""
    mark = f"AWS_LAMBDA_FUNCTION_NAME={NAME}-".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def has_a_request(process: int) -> bool:
    """Whether it is a function's own process, has had the time to start, and does not stand still as idle ones do."""
    with suppress(OSError):
        command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        began_s = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]) / TICKS_PER_S
        started = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s > STARTING_S
        return b"lamella.runtime.client" in command[:5] and started and not frozen(process)
    return False


def frozen(process: int) -> bool:
    """Whether the platform lets it stand still, by cgroups of either version."""
    states = []
    for line in Path(f"/proc/{process}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "freezer":
            states.append(Path(f"/sys/fs/cgroup/freezer{path}/freezer.state"))
        elif not controllers:
            states += [Path(f"/sys/fs/cgroup{root}{path}/cgroup.events") for root in ("", "/unified")]
    found = "".join(state.read_text() for state in states if state.exists())
    return "frozen 1" in found or "FROZEN" in found or "FREEZING" in found


def kill_some(seen: set[int], ending: threading.Event) -> int:
    """Kill processes of instances that run, one after the other; how many. All that were ever there go into `seen`."""
    choice, killed = random.Random(4), 0
    while not ending.wait(KILL_EVERY_S):
        there = instances()
        seen.update(there)
        victims = sorted(process for process in there if has_a_request(process))
        if victims and killed < KILLS:
            with suppress(ProcessLookupError):
                os.kill(choice.choice(victims), signal.SIGKILL)
                killed += 1
    return killed


def build(path: Path) -> Path:
    """`x` FP32[batch, 32] to `y`; `copies` says how much memory the second part takes, `steps` how long the third."""
    before, after, passed = (models.floats(name, ["batch", WIDTH]) for name in ("before", "after", "passed"))
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Mul", ["before", "one"], ["after"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            before,
        ],
        [helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []), after],
        [numpy_helper.from_array(np.array(1, np.float32), "one")],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["product0"]),
        helper.make_node("Tanh", ["product0"], ["hidden0"]),
        helper.make_node("Concat", ["copies", "ones"], ["wide"], axis=0),
        helper.make_node("Unsqueeze", ["hidden0", "zero"], ["lifted"]),
        helper.make_node("Expand", ["lifted", "wide"], ["copied"]),
        helper.make_node("ReduceMax", ["copied"], ["reduced"], axes=[0], keepdims=0),
        helper.make_node("MatMul", ["reduced", "w1"], ["product1"]),
        helper.make_node("Tanh", ["product1"], ["hidden1"]),
        helper.make_node("Loop", ["steps", "", "hidden1"], ["passed"], body=body),
        helper.make_node("MatMul", ["passed", "w2"], ["product2"]),
        helper.make_node("Tanh", ["product2"], ["hidden2"]),
        helper.make_node("MatMul", ["hidden2", "w3"], ["y"]),
    ]
    weights = [
        *(models.weight(f"w{index}", WIDTH, WIDTH) for index in range(4)),
        numpy_helper.from_array(np.array([1, 1], np.int64), "ones"),
        numpy_helper.from_array(np.array([0], np.int64), "zero"),
    ]
    inputs = [
        models.floats("x", ["batch", WIDTH]),
        helper.make_tensor_value_info("copies", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("steps", TensorProto.INT64, []),
    ]
    outputs = [models.floats("y", ["batch", WIDTH])]
    return models.save(path, helper.make_graph(nodes, "load", inputs, outputs, weights, value_info=[passed]))


def request(number: int) -> Asked:
    """The request of this number."""
    special = {0: "hungry", 1: "endless", 16: "endless", 17: "hungry", 32: "hungry", 33: "endless"}
    kind = special.get(number, "large" if number % 16 == 7 else "plain")
    rows = 36_000 if kind == "large" else number % 5 + 1
    x = np.random.default_rng(number).standard_normal((rows, WIDTH), np.float32)
    copies = TOO_MANY_COPIES if kind == "hungry" else 1
    return Asked(kind, {"x": x, "copies": np.array([copies]), "steps": np.array(STEPS[kind])})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, for temporary files, too."""
    monkeypatch.delenv("LAMELLA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    return tmp_path


@pytest.fixture
def place(folder: Path) -> Iterator[Place]:
    """The model in four slices, deployed on a platform that allows few requests at a time."""
    text = files("lamella.platforms").joinpath("aws_lambda.toml").read_text()
    narrow, changed = re.subn(r"(\[limits\.init_concurrency\]\nvalue = )1_000", rf"\g<1>{BURST}", text)
    assert changed == 1
    platform = folder / "narrow.toml"
    platform.write_text(narrow)
    sliced = lamella.slice(build(folder / "load.onnx"), folder / "slices", slices=SLICES).directory
    made = Place(folder / "home", LocalTarget(folder / "home"))
    made.target.apply(
        Wanted(
            name=NAME,
            stage="dev",
            models={"load": sliced},
            platform=load_platform(platform),
            platform_source=str(platform),
            memory_mb=MEMORY_MB,
            timeout_s=TIMEOUT_S,
        )
    )
    yield made
    made.target.close()


@dataclass
class Load:
    """All requests with their right answers, and what comes of them."""

    place: Place
    asked: list[Asked]
    right: list[np.ndarray | None]
    seen: set[int] = field(default_factory=set)
    killed: int = 0

    def ask(self, number: int) -> str:
        """What comes of a request: its kind, and `answered` or the kind of its error."""
        one, right = self.asked[number], self.right[number]
        try:
            y = self.place.infer(one.inputs)
        except (RemoteError, StoreError) as error:
            return f"{one.kind}: {outcome(error)}"
        finally:
            self.place.note_finished()
        assert right is not None, "a request that cannot end was answered"
        np.testing.assert_allclose(y, right, rtol=1e-4, atol=1e-5)
        return f"{one.kind}: answered"

    def client(self, number: int) -> list[str]:
        return [self.ask(number + CLIENTS * turn) for turn in range(REQUESTS_EACH)]

    def await_failures(self) -> None:
        """Wait until one was killed, time was up for one and, where the kernel limits it, memory for another."""
        wanted = {"Runtime.ExitError", "timeout"}
        wanted |= {"Runtime.OutOfMemory"} if "memory" in detect().hierarchy else set()
        deadline = time.monotonic() + 30
        while not wanted <= ends_of_instances(self.place.folder).keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert wanted <= ends_of_instances(self.place.folder).keys()

    def run(self) -> Counter[str]:
        """Send everything, and break what can be broken meanwhile; how often each thing came of a request."""
        ending = threading.Event()
        with ThreadPoolExecutor(CLIENTS + 1) as pool:
            killer = pool.submit(kill_some, self.seen, ending)
            clients = [pool.submit(self.client, number) for number in range(CLIENTS)]
            try:
                self.await_failures()
                self.place.restart_after(RESTART_AFTER)
                found = Counter(what for done in clients for what in done.result())
            finally:
                ending.set()
            self.killed = killer.result()
        return found


def test_every_request_gets_its_own_answer_or_a_clear_error_and_nothing_is_left(place: Place, folder: Path) -> None:
    began, mounts, descriptors = time.monotonic(), mounted(folder), open_files()
    asked = [request(number) for number in range(CLIENTS * REQUESTS_EACH)]
    with lamella.Pipeline(folder / "slices") as pipeline:
        right = [None if one.kind in ("hungry", "endless") else pipeline.infer(one.inputs)["y"] for one in asked]
    load = Load(place, asked, right)
    found = load.run()
    ends = ends_of_instances(place.folder)
    say(
        f"{time.monotonic() - began:.1f} s, {load.killed} kills, {len(load.seen)} processes",
        *(f"{count:4} {what}" for what, count in sorted(found.items())),
        *(f"{count:4} times an instance ended: {what}" for what, count in sorted(ends.items())),
    )
    assert sum(found.values()) == CLIENTS * REQUESTS_EACH
    assert found["hungry: answered"] == found["endless: answered"] == 0
    ordinary = sum(one.kind in ("plain", "large") for one in asked)
    assert found["plain: answered"] + found["large: answered"] >= ordinary / 3  # the restart ends those under way
    assert found["large: answered"] > 0
    assert load.killed >= 3

    store = place.target.find(NAME).store
    assert [entry.key for entry in open_store(store).list()] == []
    assert [path for path in path_of(store).rglob("*") if path.is_file()] == []
    np.testing.assert_allclose(place.infer(asked[-1].inputs), right[-1], rtol=1e-4, atol=1e-5)  # it goes on
    place.target.close()
    assert_nothing_is_left(folder, load.seen, mounts, descriptors)


def ends_of_instances(home: Path) -> Counter[str]:
    """How often an instance was stopped in the middle of a request, by reason, as the functions' logs have it."""
    written = (line for path in home.glob("platforms/*/logs/*.log*") for line in path.read_text().splitlines())
    logs = "\n".join(read_stamp(line)[1] for line in written)
    failures = re.findall(r"^REPORT .*\tStatus: (\w+)(?:\tError Type: ([\w.]+))?\t$", logs, re.MULTILINE)
    return Counter(kind or status for status, kind in failures)


def say(*lines: str) -> None:
    """Print lines, which `pytest -s` shows."""
    sys.stdout.write("".join(f"{line}\n" for line in ("", *lines)))


def outcome(error: RemoteError | StoreError) -> str:
    """What kind of error a request had, for counting."""
    found = re.search(r"Runtime\.\w+|Sandbox\.\w+|\w+Exception", str(error))
    return f"{type(error).__name__}, {found[0] if found else str(error)}"


def mounted(folder: Path) -> list[str]:
    """The mounts that this process sees below a folder."""
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f" {folder}" in line]


def open_files() -> int:
    """How many files, sockets and pipes this process has open."""
    return len(os.listdir("/proc/self/fd"))


def assert_nothing_is_left(folder: Path, seen: set[int], mounts: list[str], descriptors: int) -> None:
    """No process, cgroup, temporary file, mount or open file of the platform is there any more."""
    left = {
        "processes": instances(),
        "cgroups": [
            str(path)
            for parent in {parent.folder for parent in detect().hierarchy.values()}
            for path in parent.glob(f"{owner_prefix()}*")
        ],
        "temporary files": [str(path) for path in (folder / "temporary").rglob("*")],
        "files of a platform": [
            str(path) for path in folder.glob("home/platforms/*/*") if path.name not in ("lock", "logs")
        ],
        "mounts": [line for line in mounted(folder) if line not in mounts],
    }
    say(f"of {len(seen)} processes", *(f"{len(what):4} {kind} left" for kind, what in left.items()))
    assert left == {kind: [] for kind in left}
    gc.collect()
    assert open_files() <= descriptors
