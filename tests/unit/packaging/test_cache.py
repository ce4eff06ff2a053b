"""A folder in the cache is there whole or not at all."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

import lamella
from lamella.errors import PackageError
from lamella.packaging.cache import cache_folder, ensure, link_or_copy, remove_folder, scratch

HOUR_S = 3600


def fill(folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below" / "file").write_text("content")


def is_intact(folder: Path) -> bool:
    return (folder / "below" / "file").is_file()


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home"
    assert cache_folder(tmp_path) == tmp_path
    monkeypatch.delenv("LAMELLA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lamella"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lamella"


def test_a_folder_is_made_once_and_read_only(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "folder"
    ensure(folder, fill, is_intact)
    assert (folder / "below" / "file").read_text() == "content"
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert modes == {"folder": 0o555, "below": 0o555, "file": 0o444}
    ensure(folder, lambda _: pytest.fail("made again"), is_intact)
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]
    remove_folder(folder)
    assert list(folder.parent.iterdir()) == []
    remove_folder(folder)


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise PackageError("no")

    with pytest.raises(PackageError, match="no"):
        ensure(tmp_path / "folder", fail, is_intact)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackageError, match=r"file/folder` cannot be written: (File exists|Not a directory)"):
        ensure(tmp_path / "file" / "folder", fill, is_intact)


def test_a_damaged_folder_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    ensure(folder, lambda staging: (staging / "other").touch(), lambda _: False)
    ensure(folder, fill, is_intact)
    assert is_intact(folder)
    assert not (folder / "other").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut leaves files of the right size that hold something else."""
    flushed, fsync = [], os.fsync

    def watched(descriptor: int) -> None:
        assert not (tmp_path / "folder").exists()
        fsync(descriptor)
        flushed.append(os.fstat(descriptor).st_ino)

    (tmp_path / "shared").write_text("flushed under its first name")

    def with_link(folder: Path) -> None:
        fill(folder)
        os.link(tmp_path / "shared", folder / "linked")

    monkeypatch.setattr(os, "fsync", watched)
    ensure(tmp_path / "folder", with_link, is_intact)
    assert flushed == [(tmp_path / "folder" / "below" / "file").stat().st_ino]


@pytest.mark.parametrize("there", ["file", "link", "broken link"])
def test_what_is_no_folder_is_replaced(there: str, tmp_path: Path) -> None:
    place, other = tmp_path / "cache" / "folder", tmp_path / "other"
    place.parent.mkdir()
    other.mkdir()
    (other / "kept").touch()
    place.write_text("") if there == "file" else place.symlink_to(other if there == "link" else tmp_path / "nowhere")
    ensure(place, fill, is_intact)
    assert is_intact(place)
    assert not place.is_symlink()
    assert [path.name for path in place.parent.iterdir()] == ["folder"]
    assert (other / "kept").exists()


def test_processes_that_repair_at_once_do_not_move_away_what_another_has_repaired(tmp_path: Path) -> None:
    """From the moment on that it is there for one, it is there for all, and the same. A slow look makes them meet."""
    program = """
import os, sys, time
from pathlib import Path
from lamella.packaging.cache import ensure
def is_intact(folder):
    found = (folder / "file").is_file()
    time.sleep(0.01)
    return found
for line in sys.stdin:
    folder = Path(line.strip())
    ensure(folder, lambda staging: (staging / "file").touch(), is_intact)
    print((folder / "file").stat().st_ino, flush=True)
"""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    workers = [
        subprocess.Popen([sys.executable, "-c", program], env=surroundings, text=True, stdin=-1, stdout=-1, stderr=-1)
        for _ in range(4)
    ]
    try:
        for number in range(25):
            folder = tmp_path / f"{number}"
            folder.mkdir()
            (folder / "damaged").touch()
            for worker in workers:
                print(folder, file=worker.stdin, flush=True)
            found = {worker.stdout.readline() for worker in workers if worker.stdout is not None}
            assert len(found) == 1
            assert found.pop().strip() == str((folder / "file").stat().st_ino)
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"{number}" for number in range(25))
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_of_several_builders_at_once_one_stays(tmp_path: Path) -> None:
    barrier, folder = Barrier(4, timeout=30), tmp_path / "folder"

    def together(staging: Path) -> None:
        fill(staging)
        barrier.wait()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(ensure, folder, together, is_intact) for _ in range(4)]:
            done.result()
    assert is_intact(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_what_a_killed_process_left_is_never_used_and_removed_later(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    program = f"""
import os, signal
from pathlib import Path
from lamella.packaging.cache import ensure
def fill(folder):
    (folder / "half").write_text("content")
    os.kill(os.getpid(), signal.SIGKILL)
ensure(Path({str(folder)!r}), fill, lambda _: False)
"""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    finished = subprocess.run([sys.executable, "-c", program], check=False, env=surroundings)
    assert finished.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    assert left.name != "folder"
    ensure(folder, fill, is_intact)  # it may be in use: it is young
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([left.name, "folder"])
    os.utime(left, (left.stat().st_atime, left.stat().st_mtime - 2 * HOUR_S))
    ensure(tmp_path / "another", fill, is_intact)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "folder"]


def test_what_a_slow_process_is_making_stays(tmp_path: Path) -> None:
    def slow(staging: Path) -> None:
        fill(staging)
        os.utime(staging, (0, 0))
        ensure(tmp_path / "another", fill, is_intact)

    ensure(tmp_path / "folder", slow, is_intact)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "folder"]


def test_files_are_linked_or_copied(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("content")
    link_or_copy(source, tmp_path / "link")
    assert (tmp_path / "link").samefile(source)
    if Path("/dev/shm").is_dir() and Path("/dev/shm").stat().st_dev != tmp_path.stat().st_dev:
        other = Path("/dev/shm") / f"lamella-{os.getpid()}"
        try:
            link_or_copy(source, other)
            assert other.read_text() == "content"
        finally:
            other.unlink(missing_ok=True)


def test_scratch_folders_go_at_the_end_and_those_of_killed_processes_later(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with scratch(home) as folder:
        (folder / "slices").mkdir()
    assert list(home.iterdir()) == []
    left, long_ago = home / ".building-left", time.time() - 7200
    (left / "slices").mkdir(parents=True)
    os.utime(left, (long_ago, long_ago))
    with scratch(home) as first:
        os.utime(first, (long_ago, long_ago))  # old, and still in use
        with scratch(home) as second:
            assert set(home.iterdir()) == {first, second}
