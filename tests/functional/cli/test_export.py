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


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layout with an image that others can stand on."""
    folder = tmp_path_factory.mktemp("base")
    lamella.slice(models.mlp(folder / "base.onnx"), folder / "base.slices", slices=1)
    given = {"format": "oci", "base_image": "none", "architecture": "x86_64", "python": "3.13"}
    lamella.package(folder / "base.slices", folder / "base", **given)
    return folder / "base"


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
        with ZipFile(out / "packages" / function["Code"]["S3Key"].rpartition("/")[2]) as package:
            names = set(package.namelist())
            described = json.loads(package.read("function.json"))
        assert described["slice"] == index
        assert {"lamella/runtime/handler.py", "lamella/stores/s3_signed.py"} <= names
        assert any("cpython-313-x86_64" in name for name in names), "packages are for the functions' Python"


@pytest.mark.parametrize("delivery", ["package", "object-store", "image"])
@pytest.mark.parametrize("slices", [1, 2])
def test_every_door_and_delivery(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], delivery: str, slices: int
) -> None:
    directory = tmp_path / "mlp.slices"
    lamella.slice(models.mlp(tmp_path / "mlp.onnx"), directory, slices=slices)
    capsys.readouterr()
    doors = ["--http-api", "iam", "--function-url", "--async", "--s3-events", "--keep-warm", "5"]
    budget = ["--budget", "20", "--budget-email", "someone@example.com"]
    below = ["--base-image", str(base)] if delivery == "image" else []
    out = ["--format", "cloudformation", "-o", str(tmp_path / "out"), "--delivery", delivery, "--json"]
    assert main(["export", str(directory), *out, *doors, *budget, *below]) == 0
    files = {entry["file"] for entry in json.loads(capsys.readouterr().out)["files"]}
    resources = json.loads((tmp_path / "out/template.json").read_text())["Resources"]
    kinds = {entry["Type"] for entry in resources.values()}
    doors = ["ApiGatewayV2::Api", "Lambda::Url", "SQS::Queue", "Scheduler::Schedule", "Budgets::Budget"]
    assert {f"AWS::{name}" for name in doors} <= kinds
    functions = [entry["Properties"] for entry in resources.values() if entry["Type"] == "AWS::Lambda::Function"]
    assert len(functions) == (1 if slices == 1 else 3), "a single slice is the door itself"
    zips = {each["Code"]["S3Key"] for each in functions if each["PackageType"] == "Zip"}
    assert {file for file in files if file.startswith("packages/")} == zips
    assert len([file for file in files if file.startswith("weights/")]) == (slices if delivery == "object-store" else 0)
    assert ("images/index.json" in files) == (delivery == "image")
    if slices == 1:
        (door,) = functions
        handler = door["ImageConfig"]["Command"][0] if delivery == "image" else door["Handler"]
        assert handler == "lamella.runtime.door.handler.handle"


def test_several_models_are_one_deployment(sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--format", "terraform", "-o", str(tmp_path / "out"), "--function-url"]
    assert main(["export", f"one={sliced}", f"other={sliced}", *flags]) == 2
    assert "need a name" in capsys.readouterr().err
    (tmp_path / "out").mkdir()  # a folder that is there, and empty, stays the same one
    before = (tmp_path / "out").stat().st_ino
    assert main(["export", f"one={sliced}", f"other={sliced}", *flags, "--name", "app", "--json"]) == 0
    assert (tmp_path / "out").stat().st_ino == before
    outputs = json.loads((tmp_path / "out/template.json").read_text())["Outputs"]
    assert len([name for name in outputs if name.startswith("Model")]) == 2


def test_an_export_has_no_mount_and_leaves_nothing(
    sliced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["export", str(sliced), "--format", "cdk", "-o", str(tmp_path / "out")]
    assert main([*flags, "--delivery", "mount"]) == 2
    assert "use delivery `object-store`" in capsys.readouterr().err
    assert main([*flags, "--memory", "20000"]) == 2  # found when packages are there
    assert "10240 MB" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
