"""One platform at a time in a folder, also while another one removes it."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lamella.errors import UsageError
from lamella.targets.local import claim
from lamella.targets.local.claim import Claim


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    first = Claim(tmp_path / "p")
    (tmp_path / "p" / "run-left").mkdir()
    with pytest.raises(UsageError, match="another platform") as caught:
        Claim(tmp_path / "p")
    assert caught.value.hint
    first.release()
    assert (tmp_path / "p" / "logs").is_dir()
    second = Claim(tmp_path / "p")
    assert not (tmp_path / "p" / "run-left").exists()
    second.release(remove=True)
    assert not (tmp_path / "p").exists()


def test_who_waits_for_a_lock_that_is_removed_gets_the_one_that_others_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Claim(tmp_path / "p")
    flock: Callable[[int, int], None] = claim.fcntl.flock
    waiting = [first]

    def slow(descriptor: int, kind: int) -> None:
        if waiting:  # the file is open: now its owner removes it
            waiting.pop().release(remove=True)
        flock(descriptor, kind)

    monkeypatch.setattr(claim.fcntl, "flock", slow)
    second = Claim(tmp_path / "p")
    with pytest.raises(UsageError):
        Claim(tmp_path / "p")
    second.release(remove=True)


def test_no_two_ever_own_a_folder_that_each_removes(tmp_path: Path) -> None:
    folder, owned = tmp_path / "p", tmp_path / "owned"

    def compete(_: int) -> int:
        count = 0
        while count < 50:
            try:
                mine = Claim(folder)
            except UsageError:
                continue
            os.close(os.open(owned, os.O_CREAT | os.O_EXCL))  # fails if somebody else owns it, too
            assert (folder / "logs").is_dir()
            owned.unlink()
            mine.release(remove=True)
            count += 1
        return count

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(compete, range(4))) == 200
    assert not folder.exists()
