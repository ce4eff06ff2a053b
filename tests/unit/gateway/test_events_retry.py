"""What was given up is listed, and put back: nothing is lost, whenever the process ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lamella.errors import RemoteError, StoreError, UsageError
from lamella.gateway.events import Deployed, Trigger, Watched, Watcher
from lamella.gateway.events.trigger import to_json
from lamella.tensors import Array, TensorSpec

X = np.array([[1, 2]], np.float32)
POLL_S = 0.02
RETRY_AND_DIE = """
import json, os, signal, sys
from pathlib import Path
from lamella.gateway.events import Deployed, Watcher
from lamella.gateway.events.ledger import Ledger
from lamella.gateway.events.trigger import from_json
from lamella.stores.directory import DirectoryStore

left = int(sys.argv[3])

def deadly(method):
    def call(*arguments):
        global left
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return method(*arguments)
    return call

for kind, names in ((DirectoryStore, ("create", "delete")), (Ledger, ("reopen",))):
    for name in names:
        setattr(kind, name, deadly(getattr(kind, name)))
watcher = Watcher(from_json(json.loads(sys.argv[1])), Deployed(lambda: [], None), Path(sys.argv[2]))
watcher.retry()
watcher.stop()
"""


class Place:
    """Folders of a trigger, whose model is broken until it is mended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.is_broken, self.asked = folder, True, 0
        self.input, self.output, self.dead = (folder / name for name in ("in", "out", "dead"))
        self.input.mkdir()
        places = (str(self.input), str(self.output))
        self.trigger = Trigger("a@dev", *places, dead_letter=str(self.dead), poll_s=POLL_S, attempts=2)

    def _infer(self, inputs: Mapping[str, Array], request_id: str) -> Mapping[str, Array]:
        self.asked += 1
        if self.is_broken:
            raise RemoteError("the function broke", hint="mend it")
        return {"y": inputs["x"] * 2}  # type: ignore[operator]

    @contextmanager
    def watched(self) -> Iterator[Watcher]:
        deployed = Deployed(lambda: [TensorSpec("x", "FP32", ("n", 2))], self._infer)
        with Watcher(self.trigger, deployed, self.folder / "state", pause_s=POLL_S) as watcher:
            yield watcher

    def put(self, key: str, array: np.ndarray = X) -> None:
        path = self.input / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with (partial := path.with_name(f".{path.name}")).open("wb") as file:
            np.save(file, array)
        partial.rename(path)

    def answered(self, key: str) -> bool:
        return (self.output / f"{key}.json").is_file()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def eventually(holds: Callable[[], object], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_what_was_given_up_is_listed_with_its_reason_and_put_back(place: Place) -> None:
    keys = ["a.npy", "größe 1/b%20c.npy"]
    with place.watched() as watcher:
        for key in keys:
            place.put(key)
        eventually(lambda: watcher.status() == Watched(0, 2, 0, None))
        first, second = watcher.failed()
        assert [first.key, second.key] == keys
        assert (first.error, first.hint, first.attempts) == ("the function broke", "mend it", 2)
        place.is_broken = False
        assert watcher.retry([keys[1]]) == {keys[1]: None}
        eventually(lambda: watcher.status() == Watched(1, 1, 0, None))
        assert place.answered(keys[1])
        assert [letter.key for letter in watcher.failed()] == keys[:1]
        with pytest.raises(UsageError, match=r"`z\.npy`") as caught:
            watcher.retry([keys[0], "z.npy"])
        assert caught.value.hint
        assert [letter.key for letter in watcher.failed()] == keys[:1]
        assert watcher.retry() == {keys[0]: None}
        eventually(lambda: watcher.status() == Watched(2, 0, 0, None))
        assert watcher.failed() == []
        assert watcher.retry() == {}
    assert list(place.dead.rglob("*.*")) == []
    with place.watched() as watcher:
        assert watcher.status() == Watched(2, 0, 0, None)


def test_what_fails_again_is_given_up_again(place: Place) -> None:
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(lambda: watcher.status().given_up)
        for times in (2, 3, 4):
            watcher.retry()
            eventually(lambda: place.asked == 2 * times and watcher.failed())  # noqa: B023
            eventually(lambda: watcher.status() == Watched(0, 1, 0, None))


def test_an_object_that_is_no_more_comes_back_from_its_copy(place: Place) -> None:
    with place.watched() as watcher:
        place.put("deep/a.npy")
        eventually(watcher.failed)
        (place.input / "deep" / "a.npy").unlink()
        (place.input / "deep").rmdir()
        place.is_broken = False
        assert watcher.retry() == {"deep/a.npy": None}
        eventually(lambda: place.answered("deep/a.npy"))
    np.testing.assert_array_equal(np.load(place.input / "deep" / "a.npy"), X)


def test_a_newer_object_is_left_alone(place: Place) -> None:
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(watcher.failed)
        place.is_broken = False
        place.put("a.npy", 5 * X)
        eventually(lambda: place.answered("a.npy"))
        (why,) = watcher.retry().values()
        assert why is not None
        assert "another object" in why
        assert len(watcher.failed()) == 1
    np.testing.assert_array_equal(np.load(place.input / "a.npy"), 5 * X)
    np.testing.assert_array_equal(np.load(place.dead / "a.npy"), X)


def test_an_object_without_a_copy_that_is_no_more_is_left(place: Place) -> None:
    with place.watched() as watcher:
        with (place.input / "large.npy").open("wb") as file:
            file.truncate((256 << 20) + 1)  # takes no space
        eventually(watcher.failed)
        (place.input / "large.npy").unlink()
        assert "no copy" in str(watcher.retry()["large.npy"])
        assert len(watcher.failed()) == 1


def test_an_object_that_looks_like_a_report_does_not_take_the_place_of_one(place: Place) -> None:
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(watcher.failed)
        (place.input / "a.npy.error.json").write_bytes((place.dead / "a.npy.error.json").read_bytes())
        eventually(lambda: len(watcher.failed()) == 2)
        assert [letter.key for letter in watcher.failed()] == ["a.npy", "a.npy.error.json"]
        assert watcher.retry().keys() == {"a.npy", "a.npy.error.json"}


def test_what_is_not_its_own_is_left_alone(place: Place) -> None:
    place.dead.mkdir()
    others = {
        "x.error.json": "{",
        "y.error.json": "[1]",
        "z.error.json": json.dumps({"schema": "lamella.dead-letter/1"}),
    }
    for name, content in others.items():
        (place.dead / name).write_text(content)
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(lambda: watcher.status().given_up)
        assert [letter.key for letter in watcher.failed()] == ["a.npy"]
        (place.dead / "b.error.json").write_text(
            (place.dead / "a.npy.error.json").read_text().replace(place.input.as_uri(), "file:///elsewhere")
        )
        watcher.retry()
    assert {path.name for path in place.dead.iterdir()} >= {*others, "b.error.json"}


def test_a_place_that_cannot_be_read_is_an_error(place: Place) -> None:
    with place.watched() as watcher:
        place.dead.symlink_to(place.dead)
        with pytest.raises(StoreError):
            watcher.failed()


@pytest.mark.parametrize("is_there", [True, False], ids=["in the input", "only a copy"])
def test_nothing_is_lost_wherever_the_process_is_killed(place: Place, is_there: bool) -> None:
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(lambda: watcher.status().given_up)
    if not is_there:
        (place.input / "a.npy").unlink()
    command = [sys.executable, "-c", RETRY_AND_DIE, json.dumps(to_json(place.trigger)), str(place.folder / "state")]
    steps = 3 if is_there else 4
    saved = {path: path.read_bytes() for path in place.folder.rglob("*") if path.is_file()}
    place.is_broken = False
    for step in range(steps + 1):
        _restore(place.folder, saved)
        ended = subprocess.run([*command, str(step)], check=False, timeout=60).returncode
        assert ended == (0 if step == steps else -signal.SIGKILL)
        with place.watched() as watcher:
            if watcher.failed():  # as a user who is told that it ended
                assert watcher.retry() == {"a.npy": None}
            eventually(lambda: place.answered("a.npy") and watcher.status().waiting == 0)
            assert watcher.failed() == []


def _restore(folder: Path, saved: Mapping[Path, bytes]) -> None:
    """Let the folder be as it was, with the times of what is there still."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in saved:
            path.unlink()
    for path, content in saved.items():
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def test_a_trigger_that_is_added_again_finds_its_dead_letters(place: Place) -> None:
    with place.watched() as watcher:
        place.put("a.npy")
        eventually(lambda: watcher.status().given_up)
    (place.input / "a.npy").unlink()
    place.trigger = replace(place.trigger, id="other")
    place.is_broken = False
    os.rename(place.folder / "state", place.folder / "old")
    with place.watched() as watcher:
        assert watcher.retry() == {"a.npy": None}
        eventually(lambda: watcher.status() == Watched(1, 0, 0, None))
