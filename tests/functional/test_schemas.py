"""`plan.json` and `slices.json` are what their JSON schemas say, and the same every time."""

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from tests.models import mlp

import lamella
from lamella.planner import write_plan


def schema(part: str, name: str) -> dict[str, object]:
    content: dict[str, object] = json.loads(files(part).joinpath(name).read_text())
    jsonschema.Draft202012Validator.check_schema(content)
    return content


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mlp.onnx"
    mlp(path)
    return path


def test_the_plan_follows_its_schema_and_is_deterministic(model: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    for path in (first, second):
        write_plan(lamella.plan(lamella.load(model), slices=2), path)
    jsonschema.validate(json.loads(first.read_text()), schema("lamella.planner", "plan.schema.json"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("copy_weights", [False, True])
@pytest.mark.parametrize("verify", [False, True])
def test_the_manifest_follows_its_schema_and_is_deterministic(
    model: Path, tmp_path: Path, copy_weights: bool, verify: bool
) -> None:
    written = []
    for name in ("first", "second"):
        sliced = lamella.slice(lamella.load(model), tmp_path / name, slices=2, copy_weights=copy_weights, verify=verify)
        written.append((sliced.directory / "slices.json").read_bytes())
    manifest = json.loads(written[0])
    jsonschema.validate(manifest, schema("lamella.workflow", "slices.schema.json"))
    assert written[0] == written[1]
    assert manifest["verified"] is verify
    assert all((entry["sha256"] is not None) is verify for entry in manifest["files"])
