"""Slicing replaces what slicing wrote, all of it or nothing, and never anybody else's files."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.models import mlp

import lamella
from lamella.errors import PlanError, SlicesError, UsageError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    return mlp(tmp_path / "source" / "m.onnx")


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_model_that_lives_in_its_own_slices_directory_is_kept(model: Path, tmp_path: Path) -> None:
    first = lamella.slice(lamella.load(model), tmp_path / "s", slices=4).directory
    model.unlink()  # the hard link in the directory is its last name now
    lamella.slice(lamella.load(first / "m.onnx"), first, slices=2)
    assert names(first) == ["m.onnx", "slice_000.onnx", "slice_001.onnx", "slices.json"]


def test_slicing_again_leaves_no_stale_slices(model: Path, tmp_path: Path) -> None:
    for slices, options in ((4, {}), (3, {"copy_weights": True}), (2, {"optimize_first": True}), (2, {})):
        lamella.slice(lamella.load(model), tmp_path / "s", slices=slices, **options)
    assert names(tmp_path / "s") == ["m.onnx", "slice_000.onnx", "slice_001.onnx", "slices.json"]


def test_stale_slices_go_even_if_the_model_has_changed_since(model: Path, tmp_path: Path) -> None:
    lamella.slice(lamella.load(model), tmp_path / "s", slices=4)
    mlp(model, layers=5)
    lamella.slice(lamella.load(model), tmp_path / "s", slices=2)
    assert names(tmp_path / "s") == ["m.onnx", "slice_000.onnx", "slice_001.onnx", "slices.json"]


def test_a_file_of_the_same_name_is_not_overwritten(model: Path) -> None:
    other = model.parent / "slice_000.onnx"
    other.write_text("mine")
    with pytest.raises(UsageError, match="no earlier slicing wrote it"):
        lamella.slice(lamella.load(model), model.parent, slices=2)
    assert other.read_text() == "mine"


def test_a_strangers_manifest_makes_nothing_be_removed(model: Path) -> None:
    mine = model.parent / "thesis.txt"
    mine.write_text("mine")
    entries = [{"file": "thesis.txt", "size": 4, "method": method, "sha256": None} for method in ("copy", "hard-link")]
    (model.parent / "slices.json").write_text(json.dumps({"slices": [], "files": entries, "model": "thesis.txt"}))
    lamella.slice(lamella.load(model), model.parent, slices=2)
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("copy_weights", [False, True])
def test_good_slices_survive_a_slicing_that_fails(
    model: Path, tmp_path: Path, copy_weights: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = lamella.slice(lamella.load(model), tmp_path / "s", slices=4, copy_weights=copy_weights).directory
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(PlanError):
        lamella.slice(lamella.load(model), directory, slices=1000)
    from lamella.slicing import write

    def interrupted(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "assemble", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lamella.slice(lamella.load(model), directory, slices=2, copy_weights=copy_weights)
    assert {path.name: path.read_bytes() for path in directory.iterdir()} == before


def test_a_failed_first_slicing_can_be_repeated(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lamella.slicing import write

    with monkeypatch.context() as patched:
        patched.setattr(write, "_manifest", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            lamella.slice(lamella.load(model), tmp_path / "s", slices=2)
    lamella.slice(lamella.load(model), tmp_path / "s", slices=2)


def test_a_folder_with_other_things_is_refused_by_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"holds `notes\.txt` and no slices"):
        lamella.slice(lamella.load(model), tmp_path / "full", slices=2)


def test_optimising_first_leaves_no_second_copy_of_the_weights(model: Path, tmp_path: Path) -> None:
    sliced = lamella.slice(lamella.load(model), tmp_path / "s", slices=2, optimize_first=True, copy_weights=True)
    assert "m.optimized.onnx" not in names(sliced.directory)
    assert lamella.verify(model, sliced.directory).ok


def test_a_failure_leaves_slices_of_an_optimised_model_as_they_were(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = lamella.slice(lamella.load(model), tmp_path / "s", slices=2, optimize_first=True).directory
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()}
    assert "m.optimized.onnx" in before
    mlp(model, layers=7)  # whatever is written now is of another model
    with pytest.raises(PlanError):
        lamella.slice(lamella.load(model), directory, slices=400, optimize_first=True)

    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr("lamella.slicing.directory.OutputDirectory.publish", fail)
    for copy_weights in (False, True):
        with pytest.raises(OSError, match="full"):
            lamella.slice(lamella.load(model), directory, slices=3, optimize_first=True, copy_weights=copy_weights)
    assert {path.name: (path.stat().st_ino, path.read_bytes()) for path in directory.iterdir()} == before
    monkeypatch.undo()
    sliced = lamella.slice(lamella.load(model), directory, slices=3, optimize_first=True)
    assert sliced.plan.model.path == directory / "m.optimized.onnx"
    assert all(file.path.is_file() for file in sliced.plan.model.files.values())
    assert lamella.verify(model, directory).ok


def test_verify_notices_weights_that_have_changed_in_place(model: Path, tmp_path: Path) -> None:
    directory = lamella.slice(lamella.load(model), tmp_path / "s", slices=2).directory
    loaded = onnx.load(model)
    loaded.graph.initializer[0].raw_data = np.ones(32 * 32, "f4").tobytes()
    model.write_bytes(loaded.SerializeToString())  # the same inode, the same size
    with pytest.raises(SlicesError, match="has changed since the model was sliced"):
        lamella.verify(model, directory)


def test_verify_against_another_model_says_so(model: Path, tmp_path: Path) -> None:
    directory = lamella.slice(lamella.load(model), tmp_path / "s", slices=2).directory
    other = mlp(tmp_path / "other.onnx", layers=3)
    found = lamella.verify(other, directory)
    assert not found.ok
    assert not found.same_structure


def test_constants_of_bodies_in_external_data_stay_readable_for_others(tmp_path: Path) -> None:
    import onnxruntime
    from tests.models import conditional

    source = tmp_path / "source"
    source.mkdir()
    loaded = onnx.load(conditional(source / "c.onnx"))
    onnx.save(
        loaded,
        source / "c.onnx",
        save_as_external_data=True,
        location="c.data",
        size_threshold=0,
        convert_attribute=True,
    )
    lamella.slice(lamella.load(source / "c.onnx"), tmp_path / "s", slices="max")
    onnxruntime.InferenceSession(source / "c.onnx", providers=["CPUExecutionProvider"])
    shutil.rmtree(tmp_path / "s")
