"""Profiles as files."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from tests import models

from lamella.errors import PlanError
from lamella.graph.model import Model
from lamella.graph.reader import load
from lamella.planner.plan import structure_sha256
from lamella.planner.profile import Machine, Profile, profile_path, read_profile, write_profile


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load(models.mlp(tmp_path / "mlp.onnx", layers=1))


@pytest.fixture
def profile(model: Model) -> Profile:
    return Profile(
        structure_sha256=structure_sha256(model),
        machine=Machine("a processor", 100.0, 12.5, 47 << 20, 160.0),
        versions={"lamella": "1", "onnxruntime": "2", "python": "3"},
        threads=1,
        dims={"batch": 1},
        rounds=9,
        measured_ms=1.0,
        node_ms=(0.75, 0.125, 0.125),
        session_ms=3.5,
        resident_bytes=1 << 20,
        peak_bytes=2 << 20,
    )


def test_a_profile_lies_beside_its_model_and_reads_back_the_same(model: Model, profile: Profile) -> None:
    path = profile_path(model.path)
    assert path == model.path.parent / "mlp.profile.json"
    write_profile(profile, path)
    assert read_profile(path, model) == profile


def test_the_file_follows_its_schema(model: Model, profile: Profile) -> None:
    path = profile_path(model.path)
    write_profile(profile, path)
    schema = json.loads(files("lamella.planner").joinpath("profile.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(path.read_text()), schema)


def test_the_profile_of_another_model_is_refused_with_the_way_out(model: Model, profile: Profile) -> None:
    path = profile_path(model.path)
    write_profile(profile, path)
    other = load(models.mlp(model.path, layers=1, width=16))
    with pytest.raises(PlanError, match=r"is not the profile of .*mlp\.onnx` as it is now") as caught:
        read_profile(path, other)
    assert caught.value.hint == "measure it again with `lamella plan --profile`"
    write_profile(replace(profile, node_ms=(1.0,)), path)
    with pytest.raises(PlanError, match="is not the profile of"):
        read_profile(path, load(models.mlp(model.path, layers=1)))


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("schema",), "lamella.profile/0", "has schema 'lamella.profile/0'"),
        (("machine",), [], "an object was expected, not list"),
        (("machine", "gflops"), 0, "a machine of speed 0"),
        (("node_ms",), {"0": 1}, "`node_ms` is no list"),
        (("node_ms",), [1, 2, -3], "a time was expected, not -3"),
        (("node_ms",), [1, 2, True], "a time was expected, not True"),
        (("measured_ms",), float("nan"), "a time was expected, not nan"),
        (("dims", "batch"), 1.5, "a count was expected, not 1.5"),
    ],
)
def test_a_damaged_profile_is_refused(
    model: Model, profile: Profile, place: tuple[str, ...], value: object, reason: str
) -> None:
    path = profile_path(model.path)
    write_profile(profile, path)
    content = json.loads(path.read_text())
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(PlanError, match=reason):
        read_profile(path, model)


def test_what_is_no_profile_is_refused(model: Model) -> None:
    path = profile_path(model.path)
    with pytest.raises(PlanError, match="cannot be read"):
        read_profile(path, model)
    for content in ("[]", "[" * 20_000, "{", "{}", "1"):
        path.write_text(content)
        with pytest.raises(PlanError, match="is no profile"):
            read_profile(path, model)
