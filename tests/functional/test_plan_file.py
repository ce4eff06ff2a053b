"""A plan on disk finds its model again, wherever it is read from."""

import json
import shutil
from pathlib import Path

import pytest
from tests.models import mlp

import lamella
from lamella.errors import ModelError, PlanError, UsageError
from lamella.planner import read_plan, write_plan


def test_a_plan_finds_its_model_beside_it_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sub").mkdir()
    mlp(tmp_path / "sub" / "m.onnx")
    monkeypatch.chdir(tmp_path)
    planned = lamella.plan(lamella.load("sub/m.onnx"), slices=3)
    write_plan(planned, "sub/p.json")
    shutil.move("sub", "moved")
    monkeypatch.chdir("moved")
    assert read_plan("p.json").slices == planned.slices


def test_a_plan_for_a_changed_model_is_refused(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx")
    write_plan(lamella.plan(lamella.load(path), slices=2), tmp_path / "p.json")
    mlp(path, layers=5)
    with pytest.raises(PlanError, match="has changed since"):
        read_plan(tmp_path / "p.json")


def test_a_plan_printed_to_a_file_elsewhere_still_finds_its_model(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx")
    planned = lamella.plan(path, slices=2)
    (tmp_path / "sub").mkdir()
    printed = tmp_path / "sub" / "p.json"
    printed.write_text(json.dumps(planned.to_json()))
    assert read_plan(printed).slices == planned.slices


def test_a_plan_in_a_linked_folder_finds_its_model(tmp_path: Path) -> None:
    path = mlp(tmp_path / "m.onnx")
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    write_plan(lamella.plan(path, slices=2), tmp_path / "link" / "p.json")
    assert len(read_plan(tmp_path / "link" / "p.json").slices) == 2


def test_what_a_plan_cannot_be_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    write_plan(lamella.plan(mlp(tmp_path / "m.onnx"), slices=3), path)
    planned = json.loads(path.read_text())
    assert len(read_plan(path).crossing_bytes) == 2
    first, *others = planned["slices"]
    changes: list[tuple[dict[str, object], str]] = [
        ({"slices": [{**first, "index": False}, *others]}, "a count was expected, not False"),
        ({"platform": "local", "slices": [{**first, "memory_mb": 0}, *others]}, "a count from 1 on was expected"),
        ({"crossing_bytes": [*planned["crossing_bytes"], 4]}, "3 `crossing_bytes` do not fit 3 slices"),
        ({"crossing_bytes": []}, "0 `crossing_bytes` do not fit 3 slices"),
    ]
    for changed, reason in changes:
        path.write_text(json.dumps({**planned, **changed}))
        with pytest.raises(PlanError, match=f"is no plan: {reason}"):
            read_plan(path)


def test_a_plan_is_not_optimised_and_the_hint_leaves_the_choice(tmp_path: Path) -> None:
    planned = lamella.plan(mlp(tmp_path / "m.onnx"), platform="local")
    with pytest.raises(UsageError, match="a plan is for the model as it is") as caught:
        lamella.slice(planned, tmp_path / "s", optimize_first=True)
    assert (caught.value.hint or "").startswith("leave one of the two out")


@pytest.mark.parametrize("name", ["C:m.onnx", "a\\b.onnx", "m\udcff.onnx"])
def test_a_name_that_external_data_cannot_have_is_refused(tmp_path: Path, name: str) -> None:
    path = mlp(tmp_path / "m.onnx").rename(tmp_path / name)
    with pytest.raises(ModelError, match="cannot refer to"):
        lamella.load(path)


@pytest.mark.parametrize("slices", ["all", 0, -1, 2.5])
def test_a_number_of_slices_that_makes_no_sense_is_a_usage_error(tmp_path: Path, slices: object) -> None:
    with pytest.raises(UsageError, match="cannot be cut into"):
        lamella.plan(mlp(tmp_path / "m.onnx"), slices=slices)  # type: ignore[arg-type]
