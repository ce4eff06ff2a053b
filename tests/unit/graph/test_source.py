"""Windows over a file: the same fields as from memory, and no more read than needed."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.wire import message, number, tag, varint

from lamella.errors import MalformedModelError
from lamella.graph import source
from lamella.graph.protobuf import fields
from lamella.graph.source import FileSource, MemorySource, source_fields


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the reads from files."""
    sizes: list[int] = []
    original = os.pread

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        data = original(descriptor, length, offset)
        sizes.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", pread)
    return sizes


@pytest.fixture
def opened() -> Iterator[list[int]]:
    descriptors: list[int] = []
    yield descriptors
    for descriptor in descriptors:
        os.close(descriptor)


def file_source(path: Path, data: bytes, opened: list[int]) -> FileSource:
    path.write_bytes(data)
    opened.append(os.open(path, os.O_RDONLY))
    return FileSource(opened[-1], len(data))


def test_payloads_are_passed_over(tmp_path: Path, opened: list[int], reads: list[int]) -> None:
    data = message(1, bytes(5_000_000)) + message(2, bytes(3_000_000)) + number(3, 1)
    found = list(source_fields(file_source(tmp_path / "m", data, opened), 0, len(data)))
    assert [(field[0], field[4]) for field in found] == [(field[0], field[4]) for field in fields(data, 0, len(data))]
    assert sum(reads) < 20_000


@pytest.mark.parametrize("window", [1, 20, 21, 64])
def test_fields_across_windows_are_whole(
    tmp_path: Path, opened: list[int], monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr(source, "_SMALLEST_WINDOW", window)
    monkeypatch.setattr(source, "_LARGEST_WINDOW", window)
    data = b"".join(message(n, bytes(n)) + number(n, 1 << n) for n in range(1, 60))
    file = file_source(tmp_path / "m", data, opened)
    assert list(source_fields(file, 0, len(data))) == list(fields(data, 0, len(data)))


@pytest.mark.parametrize(
    ("wire", "payload"), [(0, varint(300)), (0, b"\x01"), (1, bytes(8)), (5, b"\x25" * 4)], ids=str
)
def test_a_run_of_numbers_is_one_field(wire: int, payload: bytes) -> None:
    run = (tag(4, wire) + payload) * 1000
    data = number(3, 1) + run + number(5, 1)
    found = [(field[0], field[2], field[4]) for field in source_fields(MemorySource(data), 0, len(data))]
    assert found == [(3, 0, 2), (4, 2, 2 + len(run)), (5, 2 + len(run), len(data))]


def test_a_run_does_not_leave_its_message() -> None:
    data = (tag(4, 5) + bytes(4)) * 10
    with pytest.raises(MalformedModelError, match="field 4 at byte 45 runs 2 bytes past its end"):
        list(source_fields(MemorySource(data), 0, len(data) - 2))


def test_places_in_errors_are_those_of_the_file(tmp_path: Path, opened: list[int]) -> None:
    data = message(1, bytes(100_000)) + b"\x80"
    with pytest.raises(MalformedModelError, match=f"a number at byte {len(data) - 1} has no end"):
        list(source_fields(file_source(tmp_path / "m", data, opened), 0, len(data)))


def test_a_file_that_shrinks_is_an_error(tmp_path: Path, opened: list[int]) -> None:
    data = number(1, 1) * 10_000
    file = file_source(tmp_path / "m", data, opened)
    os.truncate(tmp_path / "m", 100)
    with pytest.raises(MalformedModelError, match="has no end"):
        list(source_fields(file, 0, len(data)))
