"""Large objects arrive whole, in parallel ranges, or the first thing that is wrong is said."""

import hashlib
import os
from pathlib import Path
from threading import Lock
from time import sleep

import pytest

from lamella.errors import StoreError
from lamella.stores.directory import DirectoryStore
from lamella.stores.reading import RANGE_BYTES, Wanted, read_objects


class Counting(DirectoryStore):
    """Counts ranges, and how many are read at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.ranges: list[tuple[str, int, int]] = []
        self.lock = Lock()

    def read_into(self, key: str, buffer: memoryview, *, offset: int = 0) -> None:
        with self.lock:
            self.ranges.append((key, offset, len(buffer)))
        sleep(0.005)
        super().read_into(key, buffer, offset=offset)


@pytest.fixture
def store(tmp_path: Path) -> Counting:
    return Counting(tmp_path)


def wanted(store: Counting, key: str, size: int, sha256: str | None) -> Wanted:
    return Wanted(store, key, f"{store.uri}/{key}", memoryview(bytearray(size)), sha256)


@pytest.mark.parametrize("size", [0, 1, RANGE_BYTES, RANGE_BYTES + 1, 3 * RANGE_BYTES])
@pytest.mark.parametrize("verified", [False, True])
def test_objects_are_read_in_ranges(store: Counting, size: int, verified: bool) -> None:
    contents = {name: os.urandom(size) for name in ("a", "b")}
    entries = []
    for name, content in contents.items():
        store.put(name, content)
        entries.append(wanted(store, name, size, hashlib.sha256(content).hexdigest() if verified else None))
    read_objects(entries)
    assert [bytes(entry.buffer) for entry in entries] == list(contents.values())
    assert sum(length for _, _, length in store.ranges) == 2 * size
    assert max((length for _, _, length in store.ranges), default=0) <= RANGE_BYTES


@pytest.mark.parametrize("size", [10, 2 * RANGE_BYTES])
def test_another_content_is_refused(store: Counting, size: int) -> None:
    store.put("a", bytes(size))
    with pytest.raises(StoreError, match="is not what was written: its SHA-256 is") as caught:
        read_objects([wanted(store, "a", size, "0" * 64)])
    assert f"{store.uri}/a" in caught.value.message


@pytest.mark.parametrize("size", [10, 40 * RANGE_BYTES])
def test_the_first_failure_ends_the_reading(store: Counting, size: int) -> None:
    with pytest.raises(StoreError, match="there is no object"):
        read_objects([wanted(store, "a", size, None)])
    assert len(store.ranges) <= 20
