"""`lamella package`: the same packages that are deployed, as files."""

import hashlib
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests.functional.cli.conftest import Lamella

from lamella.platforms import load_platform


@pytest.fixture(autouse=True)
def home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAMELLA_HOME", str(folder / "home"))
    return folder / "home"


def test_zip_files_are_written_and_held_against_the_limit(folder: Path, lamella: Lamella) -> None:
    made = lamella("package", "mlp.onnx", "--slices", "2", "-o", "out", "--json").json
    assert made["schema"] == "lamella.package/1"
    assert [one["function"] for one in made["packages"]] == ["mlp-slice-0", "mlp-slice-1"]
    for one in made["packages"]:
        path = folder / one["path"]
        assert one["digest"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert one["size_bytes"] == path.stat().st_size
        with ZipFile(path) as archive:
            assert sum(entry.file_size for entry in archive.infolist()) == one["unpacked_bytes"]
        assert one["unpacked_bytes"] < one["limit_bytes"] == load_platform("aws-lambda").limits.package_unzipped_bytes
        assert "onnxruntime" in one["heaviest"][0]["path"]
        assert (one["base_image"], one["pushed"]) == (None, None)


def test_folders_are_the_user_s_own(folder: Path, home: Path, lamella: Lamella) -> None:
    lamella("package", "mlp.onnx", "-o", "out", "--format", "folder", "--name", "mine")
    assert (folder / "out" / "mine-slice-0" / "function.json").stat().st_mode & 0o200
    engine = next((folder / "out").rglob("*pybind11*.so"))
    assert engine.stat().st_nlink == 1
    again = lamella("package", "mlp.onnx", "-o", "out", "--format", "folder", "--name", "mine")
    assert again.status == 2
    assert "`out/mine-slice-0` exists" in again.err
    assert home.is_dir()


def test_images_are_written_as_a_layout_and_as_archives(folder: Path, lamella: Lamella) -> None:
    images = ("package", "mlp.onnx", "--slices", "2", "--base-image", "none")
    layout = lamella(*images, "-o", "layout", "--format", "oci", "--json").json
    archives = lamella(*images, "-o", "archives", "--format", "oci-archive", "--json").json
    digests = [[one["digest"] for one in made["packages"]] for made in (layout, archives)]
    assert digests[0] == digests[1]
    assert (folder / "layout" / "index.json").is_file()
    assert sorted(path.name for path in (folder / "archives").iterdir()) == ["mlp-slice-0.tar", "mlp-slice-1.tar"]
    told = lamella(*images, "-o", "layout", "--format", "oci")
    assert told.status == 0
    assert "of the limit" in told.out
    assert "warning: the images have no base" in told.err
    assert digests[0][0][:12] in told.out
