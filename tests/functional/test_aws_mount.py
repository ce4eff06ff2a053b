"""Models on a file system: brought there by the real loader, and mapped by functions that really run."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import models
from tests.emulated_aws.server import REGION
from tests.functional.aws import (
    X,
    assert_same,
    bucket_of,
    client,
    everything,
    keys,
    remove_all,
    sliced,
    stacks,
    target,
    wanted,
)
from tests.functional.test_aws import LARGE

from lamella.errors import PlanError, UsageError
from lamella.packaging.gathered import GatheredWeights
from lamella.targets.aws.loading import LoadingError
from lamella.targets.aws.target import AwsTarget

NAME = "mounted"
ON_MOUNT: dict[str, Any] = {"delivery": "mount"}


@pytest.fixture(autouse=True)
def nothing_left(aws: str) -> Iterator[None]:
    del aws
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system for a function")
    yield
    remove_all()


def mounting(kind: str = "efs", **chosen: Any) -> AwsTarget:
    return target(delivery="mount", mount=kind, **chosen)


def folders(aws: AwsTarget) -> dict[int, set[str]]:
    """By the number of a version: what its functions map, as `function.json` in their packages says."""
    (found,) = [one for one in aws.status() if one.name == NAME]
    return {
        version.number: {
            json.loads((Path(function.folder) / "function.json").read_text())["model_folder"]
            for function in version.functions
        }
        for version in found.versions
    }


@pytest.mark.parametrize("kind", ["efs", "s3-files"])
def test_a_deployment_on_a_mount_from_its_first_version_to_its_end(kind: str, tmp_path: Path) -> None:
    old = sliced(models.mlp(tmp_path / "old.onnx"), tmp_path / "old", 2)
    new = sliced(models.mlp(tmp_path / "new.onnx", layers=6), tmp_path / "new", 2)
    aws = mounting(kind)
    aws.apply(wanted(NAME, old, **ON_MOUNT))
    for x in (X, LARGE):
        assert_same(aws.infer(NAME, {"x": x}).outputs, old, {"x": x})
    assert keys(bucket_of(NAME), "requests/") == []
    assert len(keys(bucket_of(NAME), "mount/")) == (4 if kind == "s3-files" else 0), "EFS has a copy of its own"
    assert aws.apply(wanted(NAME, new, **ON_MOUNT)).live == 2
    assert_same(aws.infer(NAME, {"x": X}).outputs, new, {"x": X})
    assert_same(aws.infer(NAME, {"x": X}, version=1).outputs, old, {"x": X})
    assert aws.rollback(NAME).live == 1
    assert_same(mounting(kind).infer(NAME, {"x": X}).outputs, old, {"x": X})
    assert [(found.key, found.live) for found in target().status()] == [("mounted@dev", 1)]
    aws.delete(NAME)
    assert everything(NAME) == []


def test_what_no_version_needs_is_removed_from_the_file_system(
    tmp_path: Path, localstack_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamella.targets.aws.history.VERSIONS_KEPT", 2)
    aws, seen = mounting(), set()
    for layers in (4, 5, 6):
        directory = sliced(models.mlp(tmp_path / f"{layers}.onnx", layers=layers), tmp_path / f"{layers}", 1)
        aws.apply(wanted(NAME, directory, **ON_MOUNT))
        (system,) = (localstack_folder / "temporary" / "file-systems").iterdir()
        seen |= {path.name for path in system.iterdir()}
    assert len(seen) == 3
    assert {path.name for path in system.iterdir()} == {
        Path(folder).name for found in folders(aws).values() for folder in found
    }
    assert len(list(system.iterdir())) == 2
    assert_same(aws.infer(NAME, {"x": X}).outputs, directory, {"x": X})


def test_a_deployment_may_go_to_a_mount_and_from_it_and_back(tmp_path: Path) -> None:
    """The functions of a version stay where they were; the file system stays until the end."""
    one = sliced(models.mlp(tmp_path / "one.onnx"), tmp_path / "one", 2)
    two = sliced(models.mlp(tmp_path / "two.onnx", layers=6), tmp_path / "two", 2)
    target().apply(wanted(NAME, one))
    mounting().apply(wanted(NAME, two, **ON_MOUNT))
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    assert target().rollback(NAME).live == 1
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    target().apply(wanted(NAME, one, memory_mb=2048))
    assert_same(target().infer(NAME, {"x": X}, version=2).outputs, two, {"x": X})
    with pytest.raises(UsageError, match="`mounted@dev` has a file system of the kind `efs`, for good") as caught:
        mounting("s3-files").apply(wanted(NAME, two, **ON_MOUNT))
    assert "--file-system efs" in (caught.value.hint or "")
    assert target().rollback(NAME, to=2).live == 2
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    target().delete(NAME)
    assert everything(NAME) == []


def test_functions_may_read_the_mount_and_not_write(tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    mounting().apply(wanted(NAME, directory, **ON_MOUNT))
    roles = {role: json.dumps(policies(role)) for role in everything(NAME) if role.endswith(REGION)}
    assert {role for role, text in roles.items() if "ClientWrite" in text} == {f"lamella-mounted-dev-loader-{REGION}"}
    assert all("ClientMount" in text for role, text in roles.items() if "slice" in role)


def policies(role: str) -> list[Any]:
    names = client("iam").list_role_policies(RoleName=role)["PolicyNames"]
    return [client("iam").get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"] for name in names]


def test_a_deployment_that_was_killed_while_its_model_was_copied_goes_on(tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    program = "import sys; from lamella.cli import main; sys.exit(main())"
    flags = ["--target", "aws", "--region", REGION, "--concurrency", "none", "--yes", "--name", NAME]
    process = subprocess.Popen(
        [sys.executable, "-c", program, "deploy", directory, *flags, "--delivery", "mount"],
        env={**os.environ, "LAMELLA_HOME": str(tmp_path / "home"), "PYTHONPATH": "src"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if line.startswith("uploaded  EFS::FileSystem"):
            process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, said
    process.stderr.close()
    assert stacks() == ["lamella-mounted-dev"]
    mounting().apply(wanted(NAME, directory, **ON_MOUNT))
    assert_same(target().infer(NAME, {"x": X}).outputs, directory, {"x": X})


def test_a_model_that_is_damaged_on_its_way_is_uploaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack stays meanwhile; what is deleted then is deleted whole."""
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    with monkeypatch.context() as patch:
        patch.setattr(GatheredWeights, "buffers", lambda weights: [bytes(weights.size)])
        for _ in range(2):
            with pytest.raises(LoadingError, match="DamagedError") as caught:
                mounting().apply(wanted(NAME, directory, **ON_MOUNT))
            assert "uploads it anew" in (caught.value.hint or "")
        assert stacks() == ["lamella-mounted-dev"]
        assert list(target().status()) == []
        target().delete(NAME)
        assert everything(NAME) == []
        with pytest.raises(LoadingError, match="DamagedError"):
            mounting().apply(wanted(NAME, directory, **ON_MOUNT))
    mounting().apply(wanted(NAME, directory, **ON_MOUNT))
    assert_same(target().infer(NAME, {"x": X}).outputs, directory, {"x": X})


def test_an_account_with_no_room_for_a_network_is_refused(tmp_path: Path) -> None:
    directory = sliced(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", 1)
    ec2 = client("ec2")
    made = []
    try:
        while len(ec2.describe_vpcs()["Vpcs"]) < 5:
            made.append(ec2.create_vpc(CidrBlock="10.1.0.0/24")["Vpc"]["VpcId"])
        with pytest.raises(PlanError, match="has 5 of the 5 of this account already") as caught:
            mounting().apply(wanted(NAME, directory, **ON_MOUNT))
        assert "VPCs per Region" in (caught.value.hint or "")
        assert everything(NAME) == []
    finally:
        for network in made:
            ec2.delete_vpc(VpcId=network)
