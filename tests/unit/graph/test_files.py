"""Which files a model may point at."""

import errno
import os
from pathlib import Path

import pytest

from lamella.errors import MalformedModelError, ModelError, UnsafeModelError
from lamella.graph.files import DataFile, DataFiles, open_model, read_range


@pytest.fixture
def files(tmp_path: Path) -> DataFiles:
    (tmp_path / "inner").mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(100))
    (tmp_path / "inner" / "w.bin").write_bytes(bytes(200))
    (tmp_path / "inner" / "link.bin").symlink_to("../w.bin")
    model = tmp_path / "model.onnx"
    model.write_bytes(b"")
    return DataFiles(model, DataFile("model.onnx", model, 0))


@pytest.mark.parametrize(
    ("location", "name", "size"),
    [
        ("w.bin", "w.bin", 100),
        ("./w.bin", "w.bin", 100),
        ("inner//w.bin", "inner/w.bin", 200),
        ("inner/link.bin", "inner/link.bin", 100),
    ],
)
def test_files_in_the_folder_are_found(files: DataFiles, location: str, name: str, size: int) -> None:
    found = files.resolve(location, "`w`")
    assert (found.location, found.size) == (name, size)


@pytest.mark.parametrize(
    "location",
    ["/w.bin", "//w.bin", "../w.bin", "inner/../w.bin", "..", "C:/w.bin", "c:w.bin", "\\w.bin", "a\\..\\w.bin"],
)
def test_what_leaves_the_folder_by_name_is_unsafe(files: DataFiles, location: str) -> None:
    with pytest.raises(UnsafeModelError, match="tensor `w`"):
        files.resolve(location, "`w`")


@pytest.mark.parametrize("location", ["", ".", "inner", "w.bin/", "gone", "a\0b", "a\nb", "x" * 5000, "x" * 300])
def test_what_is_no_file_is_refused(files: DataFiles, location: str) -> None:
    if location == "w.bin/":
        assert files.resolve(location, "`w`").location == "w.bin"
        return
    with pytest.raises(MalformedModelError, match="tensor `w`"):
        files.resolve(location, "`w`")


def test_a_folder_that_is_a_link_may_not_leave(files: DataFiles, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (outside / "w.bin").write_bytes(bytes(4))
    (tmp_path / "store").symlink_to(outside)
    with pytest.raises(UnsafeModelError, match="is a link that leaves the model's folder"):
        files.resolve("store/w.bin", "`w`")


@pytest.mark.parametrize(
    ("entries", "expected"),
    [({}, (0, 16)), ({"offset": "84"}, (84, 16)), ({"offset": "0084", "length": "16"}, (84, 16))],
)
def test_ranges_inside_the_file_are_read(entries: dict[str, str], expected: tuple[int, int]) -> None:
    assert read_range(entries, 16, DataFile("w.bin", Path("w.bin"), 100), "`w`") == expected


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": "85"},
        {"offset": "-1"},
        {"offset": "+1"},
        {"offset": "1_0"},
        {"offset": " 1"},
        {"offset": "1e1"},
        {"offset": "²"},
        {"length": "15"},
        {"length": "17"},
        {"length": ""},
        {"offset": str((1 << 64) - 16)},
    ],
    ids=str,
)
def test_ranges_that_are_wrong_are_refused(entries: dict[str, str]) -> None:
    with pytest.raises(MalformedModelError, match="tensor `w`"):
        read_range(entries, 16, DataFile("w.bin", Path("w.bin"), 100), "`w`")


def test_a_model_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    (tmp_path / "model.onnx").write_bytes(b"\x08\x08")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ModelError, match="cannot be read: Permission denied"):
        open_model(tmp_path / "model.onnx")
