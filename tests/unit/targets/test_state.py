"""What is deployed is written whole, read as it was, and refused where it is damaged."""

import json
from pathlib import Path

import pytest

from lamella.errors import LamellaError, UsageError
from lamella.targets.base import DeployedFunction, DeployedModel, Deployment, NotDeployedError, Version
from lamella.targets.keeping import drop_others, keep
from lamella.targets.state import State, check_name, home_folder, remove_tree
from lamella.tensors import TensorSpec
from lamella.workflow.steps import Step, Workflow

SPEC = TensorSpec("größe", "FP32", ("batch", 2, None))
UNKNOWN = TensorSpec("y", "INT64", None)
WORKFLOW = Workflow((SPEC,), (UNKNOWN,), (UNKNOWN,), {"x": 7}, (Step(0, "f", (SPEC,), (UNKNOWN,), (UNKNOWN,)),))
FUNCTION = DeployedFunction("f", "m", 0, "1", 512, 60.0, 512, "digest", 1, "/f")


def version(number: int) -> Version:
    models = (DeployedModel("m", "M.onnx", WORKFLOW),)
    return Version(number, "2026", models, "mount", "parallel", {"A": "b"}, "/m", "file:///s", (FUNCTION,))


def deployment(name: str = "m", stage: str = "dev") -> Deployment:
    return Deployment(name, stage, "local", "aws-lambda", (version(1), version(2)), 1)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    state = State(tmp_path / "deployments")
    assert state.is_empty()
    state.write(deployment())
    state.write(deployment("a", "prod"))
    assert state.find("m", "dev") == deployment()
    assert list(state.all()) == [deployment("a", "prod"), deployment()]
    assert list(state.names()) == [("a", "prod"), ("m", "dev")]
    assert deployment().version.number == 1
    assert deployment().key == "m@dev"


def test_what_held_one_model_without_a_name_is_still_read(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.write(deployment())
    path = state.folder_of("m", "dev") / "deployment.json"
    content = json.loads(path.read_text())
    content["schema"] = "lamella.deployment/1"
    for kept in content["versions"]:
        (model,) = kept.pop("models")
        kept["model"], kept["workflow"] = model["file"], model["workflow"]
        for function in kept["functions"]:
            del function["model"]
    path.write_text(json.dumps(content))
    assert state.find("m", "dev") == deployment()


def test_deleting_leaves_no_folder(tmp_path: Path) -> None:
    state = State(tmp_path / "deployments")
    state.write(deployment())
    below = state.folder_of("m", "dev") / "packages" / "read-only"
    below.mkdir(parents=True)
    (below / "file").touch()
    below.chmod(0o555)
    state.delete("m", "dev")
    assert list(tmp_path.iterdir()) == []
    state.delete("m", "dev")
    assert state.read("m", "dev") is None
    with pytest.raises(NotDeployedError, match="m@dev"):
        state.find("m", "dev")


@pytest.mark.parametrize(
    "old_new", [('"live": 1', '"live": 3'), ('"name": "m"', '"nam": "m"'), ("{", "["), ("/2", "/9")]
)
def test_a_damaged_file_is_named(tmp_path: Path, old_new: tuple[str, str]) -> None:
    state = State(tmp_path)
    state.write(deployment())
    path = state.folder_of("m", "dev") / "deployment.json"
    text = path.read_text()
    assert old_new[0] in text
    path.write_text(text.replace(*old_new, 1))
    with pytest.raises(LamellaError, match=r"deployment\.json") as caught:
        state.find("m", "dev")
    assert caught.value.hint
    assert list(state.names()) == [("m", "dev")]


@pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "a" * 33, "a@b", "../a", "a/b", "ä"])
def test_names_are_those_that_every_platform_takes(name: str) -> None:
    with pytest.raises(UsageError, match="name of a deployment"):
        check_name(name, "name")
    assert check_name("a-1", "name") == "a-1"
    assert check_name("a" * 32, "name")


def test_home_is_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("LAMELLA_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", "/home/somebody")
    assert home_folder() == Path("/home/somebody/.local/share/lamella")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert home_folder() == tmp_path / "lamella"
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "here"))
    assert home_folder() == tmp_path / "here"


def test_a_kept_package_outlives_its_cache(tmp_path: Path) -> None:
    package = tmp_path / "cache" / "digest"
    files = [Path("numpy/core.so"), Path("model/slice.onnx")]
    for file in files:
        (package / file).parent.mkdir(parents=True)
        (package / file).write_bytes(b"content")
        (package / file).parent.chmod(0o555)
    kept = keep(package, tmp_path / "kept")
    assert [(kept / file).stat().st_nlink for file in files] == [2, 1]  # engines refuse some models with two names
    remove_tree(package)
    assert [(kept / file).read_bytes() for file in files] == [b"content"] * 2
    assert keep(package, tmp_path / "kept") == kept
    other = tmp_path / "kept" / "other"
    other.mkdir()
    drop_others(tmp_path / "kept", {str(kept)})
    assert list((tmp_path / "kept").iterdir()) == [kept]


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.delenv("LAMELLA_HOME", raising=False)
    with pytest.raises(UsageError, match="no home folder") as caught:
        home_folder()
    assert "LAMELLA_HOME" in (caught.value.hint or "")
