"""Watching a folder: each object once, failures bounded, nothing lost."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

import numpy as np
import pytest

from lamella.errors import RemoteError, StoreError, UsageError
from lamella.gateway.events import Deployed, Trigger, Watched, Watcher
from lamella.gateway.events.trigger import to_json
from lamella.runtime.inputs import MOST_BYTES
from lamella.stores.opening import open_store
from lamella.tensors import Array, TensorSpec

X = np.array([[1, 2]], np.float32)
POLL_S = 0.02
Act = Callable[[str], None]


class Doubling:
    """Answers `x` with twice of it, in this process, after `act` had its say."""

    def __init__(self, act: Act = lambda _: None) -> None:
        self.act, self.asked, self._lock = act, Counter[str](), Lock()

    @property
    def deployed(self) -> Deployed:
        return Deployed(lambda: [TensorSpec("x", "FP32", ("n", 2))], self._infer)

    def _infer(self, inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        with self._lock:
            self.asked[request_id] += 1
        self.act(request_id)
        return {"y": inputs["x"] * 2}  # type: ignore[operator]


class Place:
    """Folders of a trigger, and the watchers that a test has started for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.doubling = Doubling()
        self.input, self.output, self.dead = (folder / name for name in ("in", "out", "dead"))
        self.input.mkdir()
        self.trigger = Trigger(
            "a@dev", str(self.input), str(self.output), dead_letter=str(self.dead), poll_s=POLL_S, attempts=3
        )
        self.running: list[Watcher] = []

    def watch(self, **changes: Any) -> Watcher:
        watcher = Watcher(
            replace(self.trigger, **changes), self.doubling.deployed, self.folder / "state", pause_s=POLL_S
        )
        self.running.append(watcher)
        watcher.start()
        return watcher

    def put(self, key: str, array: np.ndarray = X) -> None:
        path = self.input / key
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path.with_name(f".{path.name}.part"), array)  # an ending that NumPy adds
        path.with_name(f".{path.name}.part.npy").rename(path)

    def results(self) -> dict[str, list[float]]:
        store = open_store(self.output.as_uri())
        return {e.key: json.loads(store.get(e.key))["outputs"][0]["data"] for e in store.list()}

    def reports(self) -> dict[str, Any]:
        store = open_store(self.dead.as_uri())
        return {
            e.key.removesuffix(".error.json"): json.loads(store.get(e.key))
            for e in store.list()
            if e.key.endswith(".error.json")
        }


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for watcher in made.running:
        watcher.stop()


def eventually(holds: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def until(event: Event) -> Act:
    def wait(_: str) -> None:
        assert event.wait(20)

    return wait


def test_every_object_is_answered_once_whatever_its_key(place: Place) -> None:
    keys = ["a.npy", "nested/b.npy", "deep/er/and deeper/c.npy", "a%20b+c&d.npy", "größe/😀.npy", "%2E%2E%2Fup.npy"]
    place.put(keys[0])
    watcher = place.watch()
    for key in keys[1:]:
        place.put(key)
    eventually(lambda: watcher.status().done == len(keys))
    time.sleep(5 * POLL_S)
    assert place.results() == {f"{key}.json": [2.0, 4.0] for key in keys}
    assert set(place.doubling.asked.values()) == {1}
    assert watcher.status() == Watched(len(keys), 0, 0, None)


def test_an_object_that_is_written_again_is_answered_again(place: Place) -> None:
    watcher = place.watch()
    place.put("a.npy")
    eventually(lambda: watcher.status().done == 1)
    place.put("a.npy", 3 * X)
    eventually(lambda: watcher.status().done == 2)
    assert place.results() == {"a.npy.json": [6.0, 12.0]}
    assert len(place.doubling.asked) == 2  # ids differ: it is another request


def test_a_file_is_left_alone_while_it_is_written(place: Place) -> None:
    np.save(place.folder / "whole.npy", np.ones((1000, 2), np.float32))
    content = (place.folder / "whole.npy").read_bytes()
    watcher = place.watch(poll_s=0.2)
    with (place.input / "a.npy").open("wb") as file:
        for start in range(0, len(content), 500):
            file.write(content[start : start + 500])
            file.flush()
            time.sleep(0.05)
            assert watcher.status().done == 0
    eventually(lambda: watcher.status().done == 1)
    assert place.reports() == {}
    assert sum(place.doubling.asked.values()) == 1


def test_what_is_hidden_or_of_another_kind_is_left_alone(place: Place) -> None:
    watcher = place.watch(suffix=".npy")
    for key in ("readme.txt", ".hidden.npy", ".git/x.npy", "a.npy"):
        (place.input / key).parent.mkdir(exist_ok=True)
        (place.input / key).write_bytes(b"")
    place.put("a.npy")
    eventually(lambda: watcher.status().done == 1)
    time.sleep(5 * POLL_S)
    assert (place.results().keys(), place.reports()) == ({"a.npy.json"}, {})


def test_what_cannot_be_read_goes_to_the_dead_letters_at_once(place: Place) -> None:
    watcher = place.watch()
    (place.input / "nested").mkdir()
    (place.input / "nested" / "cat.jpg").write_bytes(b"\xff\xd8")
    eventually(lambda: watcher.status().given_up == 1)
    report = place.reports()["nested/cat.jpg"]
    assert report["key"] == "nested/cat.jpg"
    assert report["attempts"] == 1
    assert report["error_type"] == "InputError"
    assert ".npy" in report["error"]
    assert (place.dead / "nested" / "cat.jpg").read_bytes() == b"\xff\xd8"
    assert place.doubling.asked == {}
    time.sleep(5 * POLL_S)
    assert watcher.status() == Watched(0, 1, 0, None)


def test_a_failure_is_tried_again_and_then_given_up(place: Place) -> None:
    def fail(_: str) -> None:
        raise RemoteError("the function broke", hint="mend it")

    place.doubling.act = fail
    watcher = place.watch()
    place.put("a.npy")
    eventually(lambda: watcher.status().given_up == 1)
    report = place.reports()["a.npy"]
    assert (report["attempts"], report["error"], report["hint"]) == (3, "the function broke", "mend it")
    assert list(place.doubling.asked.values()) == [3]  # with the same id each time
    assert (place.dead / "a.npy").read_bytes() == (place.input / "a.npy").read_bytes()


def test_a_passing_failure_costs_nothing_but_time(place: Place) -> None:
    def fail_at_first(request_id: str) -> None:
        if place.doubling.asked[request_id] < 3:
            raise RemoteError("not now")

    place.doubling.act = fail_at_first
    watcher = place.watch()
    for n in range(6):
        place.put(f"{n}.npy")
    eventually(lambda: watcher.status().done == 6)
    assert place.reports() == {}


def test_a_defect_is_a_failure_as_any_other(place: Place) -> None:
    def fail(_: str) -> None:
        raise ZeroDivisionError

    place.doubling.act = fail
    watcher = place.watch()
    place.put("a.npy")
    eventually(lambda: watcher.status().given_up == 1)
    assert "ZeroDivisionError" in place.reports()["a.npy"]["error"]
    place.doubling.act = lambda _: None
    place.put("b.npy")
    eventually(lambda: watcher.status().done == 1)


def test_a_deployment_that_cannot_be_found_is_waited_for(place: Place) -> None:
    there = Event()

    def specs() -> list[TensorSpec]:
        if not there.is_set():
            raise RemoteError("it is not up")
        return [TensorSpec("x", "FP32", None)]

    deployed = replace(place.doubling.deployed, inputs=specs)
    watcher = Watcher(place.trigger, deployed, place.folder / "state", pause_s=POLL_S)
    place.running.append(watcher)
    watcher.start()
    place.put("a.npy")
    eventually(lambda: watcher.status().last_error == "it is not up")
    time.sleep(30 * POLL_S)
    assert place.reports() == {}
    there.set()
    eventually(lambda: watcher.status() == Watched(1, 0, 0, None))


def test_a_result_that_cannot_be_delivered_is_not_made_again(place: Place) -> None:
    place.output.write_bytes(b"a file where a folder should be")
    watcher = place.watch(attempts=100)
    place.put("a.npy")
    eventually(lambda: watcher.status().last_error)
    place.output.unlink()
    eventually(lambda: watcher.status().done == 1)
    assert list(place.doubling.asked.values()) == [1]


def test_a_dead_letter_that_cannot_be_written_keeps_the_object(place: Place) -> None:
    place.dead.write_bytes(b"a file where a folder should be")
    watcher = place.watch()
    (place.input / "a.txt").write_bytes(b"text")
    eventually(lambda: watcher.status().last_error)
    assert watcher.status().waiting == 1
    place.dead.unlink()
    eventually(lambda: watcher.status().given_up == 1)
    assert (place.dead / "a.txt").read_bytes() == b"text"


def test_an_object_that_is_deleted_meanwhile_is_nobodys_failure(place: Place) -> None:
    def vanish(_: str) -> None:
        (place.input / "a.npy").unlink(missing_ok=True)
        raise StoreError("a value is gone")

    place.doubling.act = vanish
    watcher = place.watch()
    place.put("a.npy")
    eventually(lambda: place.doubling.asked)
    eventually(lambda: watcher.status() == Watched(0, 0, 0, None))
    assert place.reports() == {}


def test_an_input_that_is_not_there_yet_is_waited_for(place: Place) -> None:
    place.input.rmdir()
    watcher = place.watch()
    time.sleep(3 * POLL_S)
    place.input.mkdir()
    place.put("a.npy")
    eventually(lambda: watcher.status().done == 1)


def test_an_input_that_cannot_be_read_is_said_and_waited_for(place: Place) -> None:
    place.input.rmdir()
    place.input.symlink_to(place.input)  # a link to itself
    watcher = place.watch()
    eventually(lambda: watcher.status().last_error)
    place.input.unlink()
    place.input.mkdir()
    place.put("a.npy")
    eventually(lambda: watcher.status() == Watched(1, 0, 0, None))


def test_a_restart_neither_loses_nor_repeats(place: Place) -> None:
    hold = Event()
    place.doubling.act = until(hold)
    hold.set()
    watcher = place.watch(parallel=2)
    for n in range(4):
        place.put(f"{n}.npy")
    eventually(lambda: watcher.status().done == 4)
    hold.clear()
    for n in range(4, 12):
        place.put(f"{n}.npy")
    eventually(lambda: len(place.doubling.asked) == 6)  # two are under way
    Timer(0.3, hold.set).start()
    watcher.stop()
    assert len(place.doubling.asked) == 6
    after = place.watch()
    eventually(lambda: after.status().done == 12)
    assert place.results() == {f"{n}.npy.json": [2.0, 4.0] for n in range(12)}
    assert set(place.doubling.asked.values()) == {1}


def test_what_takes_too_long_at_the_end_is_answered_again(place: Place) -> None:
    hold = Event()
    place.doubling.act = until(hold)
    watcher = place.watch()
    place.put("a.npy")
    eventually(lambda: place.doubling.asked)
    watcher.stop(timeout_s=0.05)
    hold.set()
    after = place.watch()
    eventually(lambda: after.status().done == 1)
    assert place.results() == {"a.npy.json": [2.0, 4.0]}
    assert list(place.doubling.asked.values()) == [2]
    assert place.reports() == {}


def test_an_object_that_ends_the_process_each_time_is_given_up(place: Place) -> None:
    code = (
        "import json, os, sys, time; from pathlib import Path\n"
        "from lamella.gateway.events import Deployed, Watcher; from lamella.gateway.events.trigger import from_json\n"
        "trigger = from_json(json.loads(sys.argv[1]))\n"
        "deadly = Deployed(lambda: [], lambda inputs, request_id: os.kill(os.getpid(), 9))\n"
        "with Watcher(trigger, deadly, Path(sys.argv[2]), pause_s=0.01): time.sleep(60)"
    )
    np.savez(place.input / "a.npz", x=X)
    command = [sys.executable, "-c", code, json.dumps(to_json(place.trigger)), str(place.folder / "state")]
    for _ in range(place.trigger.attempts):
        assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    watcher = place.watch()
    eventually(lambda: watcher.status().given_up == 1)
    assert place.doubling.asked == {}
    report = place.reports()["a.npz"]
    assert (report["attempts"], "the process ended" in report["error"]) == (3, True)


def test_pauses_between_attempts_grow(place: Place) -> None:
    times = []

    def fail(_: str) -> None:
        times.append(time.monotonic())
        raise RemoteError("no")

    place.doubling.act = fail
    watcher = Watcher(replace(place.trigger, attempts=4), place.doubling.deployed, place.folder / "state", pause_s=0.1)
    place.running.append(watcher)
    watcher.start()
    place.put("a.npy")
    eventually(lambda: watcher.status().given_up == 1)
    for (earlier, later), least in zip(pairwise(times), (0.1, 0.2, 0.4), strict=True):
        assert later - earlier >= least


def test_an_object_that_is_too_large_is_given_up_unread(place: Place) -> None:
    watcher = place.watch()
    with (place.input / "a.npy").open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # takes no space
    eventually(lambda: watcher.status().given_up == 1)
    report = place.reports()["a.npy"]
    assert (report["copy"], report["attempts"]) == (None, 1)
    assert "268,435,457" in report["error"]
    assert not (place.dead / "a.npy").exists()


def test_no_look_takes_what_ends_while_it_looks(place: Place) -> None:
    for n in range(600):
        place.put(f"{n}.npy")
    watcher = place.watch(poll_s=0.01, parallel=8)
    eventually(lambda: watcher.status().done >= 600, 60)
    eventually(lambda: watcher.status().waiting == 0)
    assert watcher.status().done == 600
    assert set(place.doubling.asked.values()) == {1}


def test_parallel_requests_are_bounded(place: Place) -> None:
    lock, running, most = Lock(), 0, 0

    def measure(_: str) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    place.doubling.act = measure
    for n in range(20):
        place.put(f"{n}.npy")
    watcher = place.watch(parallel=3)
    eventually(lambda: watcher.status().done == 20)
    assert most == 3


def test_without_a_dead_letter_place_there_is_one_beside_the_record(place: Place) -> None:
    watcher = place.watch(dead_letter=None)
    (place.input / "a.txt").write_bytes(b"text")
    eventually(lambda: watcher.status().given_up == 1)
    assert (place.folder / "state" / "dead-letters" / "a.txt").read_bytes() == b"text"


def test_overlapping_places_are_refused_before_anything_happens(place: Place) -> None:
    with pytest.raises(UsageError, match="overlap"):
        place.watch(output=str(place.input / "out"))
    with pytest.raises(UsageError, match="own files"):
        place.watch(input=str(place.folder / "state"))
    assert not (place.folder / "state").exists()


def test_one_watcher_at_a_time(place: Place) -> None:
    place.watch()
    with pytest.raises(UsageError, match="in use"):
        place.watch()
