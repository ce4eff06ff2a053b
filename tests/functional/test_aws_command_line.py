"""`lamella` on AWS: every verb, and `lamella.deploy`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.emulated_aws.server import PYTHON, REGION
from tests.functional.aws import X, assert_same, everything, remove_all, sliced

import lamella
from lamella.cli import main
from lamella.errors import UsageError
from lamella.targets.aws.remembered import Remembered, Somewhere
from lamella.targets.aws.settings import Settings

NAME = "shell"
ON_AWS = ["--target", "aws", "--region", REGION, "--concurrency", "none"]


@pytest.fixture(autouse=True)
def home(aws: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    del aws
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    yield tmp_path / "home"
    remove_all()


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    return sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 2)


def say(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    """Exit status, what a verb prints as JSON, and what it says beside."""
    status = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out.startswith("{") else printed.out, printed.err


def test_what_a_mount_costs_is_said_and_contradictions_are_refused(
    slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy = ["deploy", slices, "--name", NAME, "--delivery", "mount"]
    for kind, copies in (("efs", True), ("s3-files", False)):
        status, plan, said = say(capsys, *deploy, *ON_AWS, "--file-system", kind, "--dry-run", "--json")
        assert (status, plan["estimated_copying_usd"] > 0) == (0, copies), said
    _, printed, _ = say(capsys, *deploy, *ON_AWS, "--dry-run")  # EFS
    assert "estimated, once, to copy the model" in printed
    for flags, reason in (
        ([*ON_AWS, "--workflow", "direct"], "from which they cannot invoke the next one"),
        ([*ON_AWS, "--snap-start"], "SnapStart does not go with the mount `efs`"),
        ([*ON_AWS, "--mount", "/tmp"], "a folder of this machine cannot be mounted on AWS"),
        (["--file-system", "efs"], "`--file-system` is for AWS"),
    ):
        status, _, said = say(capsys, *deploy, *flags, "--dry-run")
        assert (status, reason in said) == (2, True), said
    status, _, said = say(capsys, "deploy", slices, *ON_AWS, "--file-system", "efs", "--dry-run")
    assert (status, "delivery `package` has no use for a file system" in said) == (2, True), said
    assert everything(NAME) == []


def test_every_verb(slices: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "x.npy", X)
    given = ["--input", f"x={tmp_path / 'x.npy'}", "-o", tmp_path / "y.npz"]
    deploy = ["deploy", slices, "--name", NAME, *ON_AWS]

    status, plan, _ = say(capsys, *deploy, "--dry-run", "--json")
    assert (status, [change["action"] for change in plan["changes"]]) == (0, ["create", "create"])
    assert 0 < plan["estimated_usd_per_1000"] < 1
    assert plan["estimated_idle_month_usd"] < 0.1
    status, printed, said = say(capsys, *deploy)
    assert (status, "nothing was deployed" in said, "--yes" in said) == (2, True, True)
    assert "estimated, per 1,000 requests" in printed
    assert everything(NAME) == []

    status, made, said = say(capsys, *deploy, "--memory", "1769", "--yes", "--json")
    assert status == 0, said
    assert (made["target"], made["region"], made["stack"]) == ("aws", REGION, "lamella-shell-dev")
    assert "create complete  Lambda::Function" in said
    assert [function["slice"] for function in made["functions"]] == [0, 1]
    assert Remembered(home).find(NAME, "dev") == Somewhere(REGION)

    status, answer, said = say(capsys, "infer", NAME, *given, "--json")  # no flag says where
    assert (status, [run["slice"] for run in answer["timeline"]]) == (0, [0, 1]), said
    assert_same(dict(np.load(tmp_path / "y.npz")), slices, {"x": X})
    status, _, said = say(capsys, "infer", NAME, *given, "--slice", "0", *ON_AWS[:4])
    assert status == 0, said
    _, logged, _ = say(capsys, "logs", NAME, "--json")
    assert {line["function"] for line in logged["lines"]} == {"shell-dev-slice-0", "shell-dev-slice-1"}
    _, found, _ = say(capsys, "status", "--json")
    assert [(one["name"], one["version"], one["target"]) for one in found["deployments"]] == [(NAME, 1, "aws")]
    assert say(capsys, "status", NAME)[0] == 0

    assert say(capsys, *deploy, "--memory", "2048", "--yes", "--json")[1]["version"] == 2
    _, back, _ = say(capsys, "rollback", NAME, "--json")
    assert (back["version"], back["functions"][0]["memory_mb"]) == (1, 1769)
    _, named, _ = say(capsys, "alias", NAME, "larger", "--to", "2", "--json")
    assert (named["live"], named["aliases"]) == (1, {"larger": 2})
    assert say(capsys, "infer", NAME, "--random", "--version", "larger", "--json")[0] == 0

    status, _, said = say(capsys, "delete", NAME)
    assert (status, "nothing was deleted" in said) == (2, True)
    assert say(capsys, "delete", NAME, "--yes", "--json")[0] == 0
    assert everything(NAME) == []
    assert Remembered(home).find(NAME, "dev") is None
    assert say(capsys, "infer", NAME, "--random")[0] == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--target", "aws", "--region", "nowhere"], "`nowhere` is no region of AWS"),
        (["--region", REGION], "this machine has no regions and profiles"),
        (["--snap-start"], "`--snap-start` is for AWS"),
        ([*ON_AWS[:4], "--concurrency", "few"], "`few` is no concurrency"),
        ([*ON_AWS, "--http-api", "jwt"], "`jwt` needs the issuer of the tokens"),
        ([*ON_AWS, "--budget", "5"], "a budget is a sum and somebody to tell"),
        ([*ON_AWS, "--tag", "team"], "`team` is no tag"),
        ([*ON_AWS, "--s3-batch", "5"], "batches and windows are of objects in the bucket"),
        ([*ON_AWS, "--base-image", "public.ecr.aws/lambda/python:3.13"], "a base image needs images"),
        ([*ON_AWS, "--delivery", "image", "--base-image", "none"], "an image without a base cannot run on AWS"),
        ([*ON_AWS, "--delivery", "image", "--base-image", "No Image"], "`No Image` names no image"),
        ([*ON_AWS, "--store", "s3://mine"], "has a bucket of its own"),
        ([*ON_AWS, "--cold", "parallel"], "nothing starts all functions"),
    ],
)
def test_flags_that_make_no_sense_are_refused(
    flags: list[str], said: str, slices: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, printed, complained = say(capsys, "deploy", slices, "--yes", *flags)
    assert (status, printed) == (2, "")
    assert said in complained
    assert "hint:" in complained


def test_one_name_in_two_places_must_be_told_apart(
    slices: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert say(capsys, "deploy", slices, "--name", NAME, "--json")[0] == 0
    Remembered(home).keep(NAME, "dev", Somewhere(REGION))
    try:
        status, _, said = say(capsys, "infer", NAME, "--random")
        assert (status, "deployed on this machine and in `us-east-1` of AWS" in said) == (2, True)
        assert say(capsys, "infer", NAME, "--random", "--target", "local", "--json")[0] == 0
        status, _, said = say(capsys, "infer", NAME, "--random", "--target", "aws")
        assert (status, "nothing is deployed as `shell@dev` in `us-east-1`" in said) == (2, True)
    finally:
        assert say(capsys, "delete", NAME, "--target", "local", "--yes")[0] == 0


def test_what_is_on_aws_cannot_hide_what_is_here(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Remembered(home).keep(NAME, "dev", Somewhere(REGION, "gone"))
    status, found, said = say(capsys, "status", "--json")
    assert (status, found["deployments"]) == (0, [])
    assert "what is deployed in `us-east-1` of AWS is not shown: The config profile (gone)" in said
    assert say(capsys, "status", "--target", "aws", "--profile", "gone", "--json")[0] == 2


def test_an_endpoint_on_aws_stays_when_it_is_closed(slices: Path) -> None:
    settings = Settings(region=REGION, python=PYTHON, concurrency=None)
    with lamella.deploy(slices, target="aws", settings=settings, name=NAME, memory_mb=1769) as endpoint:
        assert_same(endpoint.infer({"x": X}), slices, {"x": X})
        assert endpoint.url is None
    with pytest.raises(UsageError, match="is closed"):
        endpoint.infer({"x": X})
    again = lamella.deploy(slices, target="aws", settings=settings, name=NAME, memory_mb=1769)
    assert again.deployment.live == 2
    assert {function.version for function in again.functions} == {"1"}  # nothing is new about them
    again.delete()
    assert everything(NAME) == []
    with pytest.raises(UsageError, match="settings are for the target `aws`"):
        lamella.deploy(slices, target="aws")
