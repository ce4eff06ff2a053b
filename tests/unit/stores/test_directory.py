"""What only a directory does."""

import os
from pathlib import Path

import pytest

from lamella.errors import StoreError, UsageError
from lamella.stores.directory import DirectoryStore
from lamella.stores.opening import open_store, split_uri


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


def test_files_that_were_put_there_by_hand_are_objects(store: DirectoryStore, tmp_path: Path) -> None:
    (tmp_path / "store" / "sub").mkdir(parents=True)
    (tmp_path / "store" / "sub" / "100% größe.txt").write_bytes(b"1")
    assert [entry.key for entry in store.list()] == ["sub/100% größe.txt"]
    assert store.get("sub/100% größe.txt") == b"1"


def test_what_is_no_file_of_ours_is_not_listed(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a", b"1")
    folder = tmp_path / "store"
    (folder / "link").symlink_to(folder / "a")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "%~zz").write_bytes(b"")
    (folder / "%.unfinished").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_bytes(b"")
    assert [entry.key for entry in store.list()] == ["a"]
    for key in ("link", "linked"):
        with pytest.raises(StoreError):
            store.get(key)
        with pytest.raises(StoreError):
            store.size(key)


def test_nothing_but_the_object_is_left(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a/b", b"1")
    store.put("a/b", b"2")
    store.put("a/c", b"3", lasting=False)
    assert sorted(path.name for path in (tmp_path / "store").rglob("*")) == ["a", "b", "c"]
    store.delete("a/b")
    store.delete("a/c")
    assert list((tmp_path / "store").iterdir()) == []


def test_what_is_to_last_is_on_the_disk_before_it_appears(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed, fsync = [], os.fsync

    def watched(descriptor: int) -> None:
        assert not (tmp_path / "store" / "a").exists()
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", watched)
    store.put("a", b"1", b"2")
    assert flushed == [(tmp_path / "store" / "a").stat().st_ino]
    store.put("b", b"1", lasting=False)
    assert len(flushed) == 1


def test_what_cannot_be_written_leaves_nothing(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a", b"1")
    with pytest.raises(TypeError):
        store.put("b", b"1", "text")  # type: ignore[arg-type]
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["a"]


def test_more_buffers_than_the_system_takes_at_once(store: DirectoryStore) -> None:
    store.put("a", *(bytes([number % 256]) * (number % 5) for number in range(5000)))
    assert store.get("a") == b"".join(bytes([number % 256]) * (number % 5) for number in range(5000))


def test_objects_have_the_rights_that_files_have(store: DirectoryStore, tmp_path: Path) -> None:
    store.put("a", b"")
    (tmp_path / "b").touch()
    assert (tmp_path / "store" / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_relative_folder_is_refused() -> None:
    for folder in (Path("store"), Path("/a/../b")):
        with pytest.raises(UsageError, match="is no absolute path"):
            DirectoryStore(folder)
    for uri in ("file://store", "file://host/a", "file://"):
        with pytest.raises(UsageError, match="names another machine"):
            open_store(uri)


def test_a_path_opens_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("here").uri == (tmp_path / "here").as_uri()


def test_a_folder_is_no_object() -> None:
    with pytest.raises(StoreError, match="is no object"):
        split_uri("file:///")


def test_a_folder_in_place_of_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DirectoryStore(tmp_path / "file" / "store")
    with pytest.raises(StoreError, match="a folder is in its place") as caught:
        store.put("a", b"")
    assert caught.value.hint
    assert list(store.list()) == []
