"""Blobs are there whole or not at all."""

import os
import time
from pathlib import Path

import pytest

from lamella.errors import PackageError
from lamella.packaging.images.blobs import Blobs, Descriptor, digest_of_bytes

HOUR_S = 3600


def test_a_blob_is_found_under_its_digest_and_read_only(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    found = blobs.add(b"content", "text/plain")
    assert found.digest == digest_of_bytes(b"content")
    assert blobs.read(found) == b"content"
    assert blobs.has(found.digest, 7)
    assert not blobs.has(found.digest, 8)
    assert not blobs.path(found.digest).stat().st_mode & 0o222


@pytest.mark.parametrize("content", [b"other", b"contents", b""])
def test_what_is_not_what_was_expected_is_not_kept(content: bytes, tmp_path: Path) -> None:
    expected = Descriptor("text/plain", digest_of_bytes(b"content"), 7)
    with pytest.raises(PackageError, match=f"blob `{expected.digest}` of 7 bytes came as"):  # noqa: SIM117
        with Blobs(tmp_path).new(expected) as blob:
            blob.write(content)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Blobs(tmp_path).new() as blob:
            blob.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_a_killed_process_left_is_removed_when_nobody_writes_to_it_any_more(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    place = blobs.path(blobs.add(b"content", "text/plain").digest).parent
    old, new = place / ".building-old", place / ".building-new"
    for path in (old, new):
        path.touch()
    os.utime(old, (time.time() - 2 * HOUR_S,) * 2)
    blobs.add(b"more", "text/plain")
    assert not old.exists()
    assert new.exists()


def test_damaged_documents_are_refused(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    found = blobs.add(b"content", "text/plain")
    blobs.path(found.digest).chmod(0o644)
    blobs.path(found.digest).write_bytes(b"CONTENT")
    with pytest.raises(PackageError, match="is damaged"):
        blobs.read(found)
    blobs.path(found.digest).unlink()
    with pytest.raises(PackageError, match="is missing"):
        blobs.read(found)


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PackageError, match="a blob cannot be written"):
        Blobs(tmp_path / "file").add(b"content", "text/plain")
