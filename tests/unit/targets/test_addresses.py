"""Names of deployments, their models and stages, as text and back."""

from dataclasses import replace
from pathlib import Path

import pytest

from lamella.errors import UsageError
from lamella.targets.addresses import Address, read_address, read_deployment, safe_name
from lamella.targets.base import DeployedModel, Deployment, NotDeployedError, Version
from lamella.targets.sources import check_named, named_source, named_sources
from lamella.workflow.steps import Workflow


def deployment(*models: str, stage: str = "dev") -> Deployment:
    held = tuple(DeployedModel(name, f"{name}.onnx", Workflow((), (), (), {}, ())) for name in models)
    first = Version(1, "", held, "package", None, {}, None, "file:///s", ())
    return Deployment("app", stage, "local", "aws-lambda", (first, replace(first, number=3, models=held[:1])), 1)


@pytest.mark.parametrize(
    ("text", "stage", "address"),
    [
        ("app", None, Address("app", None, "dev")),
        ("app", "prod", Address("app", None, "prod")),
        ("app.bert", None, Address("app", "bert", "dev")),
        ("app.bert@prod", "test", Address("app", "bert", "prod")),
        ("app@prod", None, Address("app", None, "prod")),
    ],
)
def test_an_address_is_read(text: str, stage: str | None, address: Address) -> None:
    found = read_address(text, stage=stage)
    assert found == address
    assert read_address(str(found)) == found
    assert found.key == f"app@{found.stage}"


def test_what_is_done_to_all_models_names_none() -> None:
    assert read_deployment("app@prod") == Address("app", None, "prod")
    with pytest.raises(UsageError, match=r"`app\.bert@dev` is one model") as caught:
        read_deployment("app.bert")
    assert "`app@dev`" in (caught.value.hint or "")
    for text in ("", "@dev", ".bert"):
        with pytest.raises(NotDeployedError):
            read_address(text)


def test_the_only_model_needs_no_name() -> None:
    one = deployment("bert")
    assert one.model().name == one.model("bert").name == "bert"
    assert one.address("bert") == "app"
    assert deployment("bert", stage="prod").address("bert") == "app@prod"
    with pytest.raises(NotDeployedError, match="`app@dev` has no model `ner`"):
        one.model("ner")


def test_of_several_models_one_is_named() -> None:
    two = deployment("bert", "ner")
    assert two.model("ner").name == "ner"
    assert two.address("ner") == "app.ner"
    assert deployment("bert", "ner", stage="prod").address("ner") == "app.ner@prod"
    with pytest.raises(UsageError, match="`app@dev` holds 2 models") as caught:
        two.model()
    assert caught.value.hint == "name one of them: `app.bert`, `app.ner`"
    with pytest.raises(NotDeployedError, match="has no model `x`"):
        two.model("x")


def test_each_version_holds_its_own_models() -> None:
    two = deployment("bert", "ner")
    assert two.at(3).live == 3
    assert two.at(3).model().name == "bert"
    with pytest.raises(NotDeployedError, match="no version 2") as caught:
        two.at(2)
    assert caught.value.hint == "there is 1, 3, live"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("BERT base", "bert-base"),
        ("größe_1", "gr-e-1"),
        ("--", "model"),
        ("a" * 40, "a" * 32),
        ("a" * 31 + ".b", "a" * 31),
    ],
)
def test_a_file_gives_a_name(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_models_are_called_by_their_files_or_as_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b.onnx").touch()
    found = named_sources(["x/BERT base.slices", "y/ner.slices/slices.json", "other=z/ner.onnx", "a=b.onnx"])
    assert [*found] == ["bert-base", "ner", "other", "a-b"]
    assert found["other"] == Path("z/ner.onnx")
    assert named_source("m.onnx") == (None, Path("m.onnx"))
    with pytest.raises(UsageError, match="both be the model `ner`") as caught:
        named_sources(["x/ner.onnx", "y/ner.onnx"])
    assert "NAME=y/ner.onnx" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="`No` is no name for a model"):
        named_source("No=x.onnx")


def test_several_models_need_a_name_and_none_is_too_few() -> None:
    check_named({"a": 1, "b": 2}, "app", "")
    check_named({"a": 1}, None, "")
    with pytest.raises(UsageError, match="2 models need a name") as caught:
        check_named({"a": 1, "b": 2}, None, "give one")
    assert caught.value.hint == "give one"
    with pytest.raises(UsageError, match="no model is given"):
        check_named({}, "app", "")
