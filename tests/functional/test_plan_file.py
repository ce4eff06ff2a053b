"""A plan on disk finds its model again, wherever it is read from."""

import shutil
from pathlib import Path

import pytest
from tests.models import mlp

import lamella
from lamella.errors import PlanError
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
