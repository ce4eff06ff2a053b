"""`lamella export` and `lamella iam-policy`, as somebody calls them."""

import json
from pathlib import Path
from zipfile import ZipFile

import pytest
from tests import models

import lamella
from lamella.cli import main


@pytest.fixture(scope="module")
def sliced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    lamella.slice(models.mlp(folder / "mlp.onnx"), folder / "mlp.slices", slices=2)
    return folder / "mlp.slices"


@pytest.mark.parametrize("tool", ["cloudformation", "terraform", "cdk"])
def test_a_folder_holds_every_package_that_its_template_names(
    sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tool: str
) -> None:
    out = tmp_path / "out"
    flags = ["--format", tool, "-o", str(out), "--stage", "prod", "--region", "eu-north-1", "--memory", "1GB", "--json"]
    assert main(["export", str(sliced), *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["format"]) == ("lamella.export/1", tool)
    assert {out / entry["file"] for entry in told["files"]} == {path for path in out.rglob("*") if path.is_file()}
    resources = json.loads((out / "template.json").read_text())["Resources"].values()
    functions = [entry["Properties"] for entry in resources if entry["Type"] == "AWS::Lambda::Function"]
    assert [function["MemorySize"] for function in functions] == [1024, 1024]
    for index, function in enumerate(functions):
        assert function["FunctionName"] == f"lamella-mlp-prod-slice-{index}"
        with ZipFile(out / function["Code"]["S3Key"]) as package:
            names = set(package.namelist())
            described = json.loads(package.read("function.json"))
        assert described["slice"] == index
        assert {"lamella/runtime/handler.py", "lamella/stores/s3_signed.py"} <= names
        assert any("cpython-313-x86_64" in name for name in names), "packages are for the functions' Python"


def test_a_folder_that_holds_something_is_left_alone(
    sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").touch()
    assert main(["export", str(sliced), "--format", "cdk", "-o", str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_each_part_of_a_policy_can_be_handed_to_iam(capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for part in ("1", "2"):
        assert main(["iam-policy", "deploy", "--part", part]) == 0
        texts.append(json.loads(capsys.readouterr().out))
    assert main(["iam-policy", "deploy", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["policies"] == texts
    sids = [entry["Sid"] for policy in texts for entry in policy["Statement"]]
    assert [reason["sid"] for reason in told["reasons"]] == sids
    assert main(["iam-policy", "run", "--reasons"]) == 0
    assert "lambda:InvokeFunctionUrl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--account", "1234"], "`1234` is no account of AWS"),
        (["--account", "123456789012 "], "is no account of AWS"),
        (["--region", "mars"], "`mars` is no region of AWS"),
    ],
)
def test_a_policy_is_for_an_account_and_region_that_can_be(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["iam-policy", "deploy", *flags]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert "hint:" in printed.err
