"""What a process leaves in a directory store that is killed while it writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lamella.stores.directory import DirectoryStore
from lamella.workflow.chain import PREFIX, delete_expired

WRITER = """
import sys
from pathlib import Path
from lamella.stores.directory import DirectoryStore

content = bytes(64 << 20)
while True:
    DirectoryStore(Path(sys.argv[1])).put(sys.argv[2], content)
"""


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("key", "prefix"), [("requests/a/slice-1/0", "requests/a/"), ("requests/b/0", "requests/b"), ("alone", "")]
)
def test_an_object_that_was_never_finished_is_deleted_with_the_others(key: str, prefix: str, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = DirectoryStore(folder)
    for _ in range(50):  # a process that is killed at any moment is usually in the middle of it
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder), key]) as writer:
            while not files(folder):
                time.sleep(0.01)
            writer.send_signal(signal.SIGSTOP)
            unfinished = {path for path in files(folder) if path.name.startswith("%.")}
            assert store.delete_all("requests/other/") == 0
            store.delete_all(prefix)
            assert set(files(folder)) == unfinished  # somebody writes it
            writer.kill()
        if unfinished:
            break
    assert unfinished
    assert store.delete_all("requests/other/") == 0
    assert set(files(folder)) == unfinished
    if prefix.startswith(PREFIX):
        assert delete_expired(store, older_than_s=3600) == 0
        assert set(files(folder)) == unfinished
        for path in unfinished:
            os.utime(path, (0, 0))
        assert delete_expired(store, older_than_s=3600) == 0
    else:
        assert store.delete_all(prefix) == 0
    assert files(folder) == []
    store.put(key, b"again")
    assert store.get(key) == b"again"
