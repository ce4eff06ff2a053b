"""Weights come into the model's folder without passing through Python, and never over someone else's file."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Barrier

import pytest

from lamella.errors import UsageError
from lamella.slicing.placement import copy, place, write_atomically


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "store" / "weights.bin"
    file.parent.mkdir()
    file.write_bytes(os.urandom(5000))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


def test_file_in_its_own_folder_stays_where_it_is(source: Path) -> None:
    placement = place(source, source.parent, source.name)
    assert (placement.path, placement.method, placement.reason) == (source, "in-place", None)


def test_file_from_elsewhere_is_hard_linked(source: Path, folder: Path) -> None:
    placement = place(source, folder, "w.bin")
    assert placement.method == "hard-link"
    assert placement.path == folder / "w.bin"
    assert placement.path.samefile(source)


def test_link_is_followed_before_it_is_linked(source: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(source)
    placement = place(tmp_path / "link", folder, "w.bin")
    assert not placement.path.is_symlink()
    assert placement.path.samefile(source)


def test_placing_twice_is_in_place(source: Path, folder: Path) -> None:
    place(source, folder, "w.bin")
    assert place(source, folder, "w.bin").method == "in-place"


def test_link_inside_the_folder_is_in_place(source: Path) -> None:
    (source.parent / "w.bin").symlink_to(source.name)
    assert place(source, source.parent, "w.bin").method == "in-place"


def test_link_that_leaves_the_folder_is_refused(source: Path, folder: Path) -> None:
    (folder / "w.bin").symlink_to(source)
    with pytest.raises(UsageError, match="is a link that leaves its folder"):
        place(source, folder, "w.bin")


@pytest.mark.usefixtures("no_links")
def test_file_that_cannot_be_linked_is_copied_with_the_reason(source: Path, folder: Path) -> None:
    placement = place(source, folder, "w.bin")
    assert placement.method == "copy"
    assert placement.reason == "no hard link possible: Invalid cross-device link"
    assert placement.path.read_bytes() == source.read_bytes()
    assert os.listdir(folder) == ["w.bin"]
    assert place(source, folder, "w.bin").reason == "an identical copy was there already"


@pytest.mark.usefixtures("no_links")
def test_copy_that_fails_leaves_nothing(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(UsageError, match="No space left on device") as caught:
        place(source, folder, "w.bin")
    assert caught.value.hint
    assert os.listdir(folder) == []


def test_other_file_is_never_overwritten(source: Path, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(5000))
    with pytest.raises(UsageError, match="exists and is not a copy of") as caught:
        place(source, folder, "w.bin")
    assert caught.value.hint == "remove it or choose another output"
    assert (folder / "w.bin").read_bytes() == bytes(5000)


def test_folder_in_the_way_is_refused(source: Path, folder: Path) -> None:
    (folder / "w.bin").mkdir()
    with pytest.raises(UsageError, match="exists and is not a copy of"):
        place(source, folder, "w.bin")


@pytest.mark.parametrize("name", ["../w.bin", "a/w.bin", "/tmp/w.bin", ".", "..", ""])
def test_name_with_a_folder_is_refused(source: Path, folder: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no plain file name"):
        place(source, folder, name)


def test_missing_source_or_folder_is_one_line(source: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        place(tmp_path / "gone", folder, "w.bin")
    with pytest.raises(UsageError, match="No such file"):
        place(source, tmp_path / "gone", "w.bin")


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP])
def test_copy_falls_back_where_the_kernel_cannot(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    copy(source, folder / "w.bin")
    assert (folder / "w.bin").read_bytes() == source.read_bytes()


def test_copy_uses_the_kernel(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pread", None)
    copy(source, folder / "w.bin")
    assert (folder / "w.bin").read_bytes() == source.read_bytes()


def test_of_threads_that_write_the_same_file_at_once_each_writes_all_of_it(tmp_path: Path) -> None:
    barrier, target, contents = Barrier(2, timeout=30), tmp_path / "file", [b"one" * 1000, b"another" * 1000]

    def write(content: bytes, path: Path) -> None:
        with path.open("xb") as file:
            barrier.wait()
            file.write(content)
            barrier.wait()
        assert path.read_bytes() == content

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda content: write_atomically(target, partial(write, content)), contents))
    assert target.read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
