"""Models on a file system: brought there by the real loader, and mapped by functions that really run."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import models
from tests.functional.aws import X, assert_same, bucket_of, client, everything, keys, remove_all, sliced, target, wanted
from tests.functional.test_aws import LARGE

from lamella.targets.aws.stacks import Progress
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


@pytest.mark.parametrize("kind", ["efs", "s3-files"])
def test_a_deployment_on_a_mount_from_its_first_version_to_its_end(kind: str, tmp_path: Path) -> None:
    old = sliced(models.mlp(tmp_path / "old.onnx"), tmp_path / "old", 2)
    new = sliced(models.mlp(tmp_path / "new.onnx", layers=6), tmp_path / "new", 2)
    aws = mounting(kind)
    aws.apply(wanted(NAME, old, **ON_MOUNT))
    for x in (X, LARGE):
        assert_same(aws.infer(NAME, {"x": x}).outputs, old, {"x": x})
    assert aws.apply(wanted(NAME, new, **ON_MOUNT)).live == 2
    assert_same(aws.infer(NAME, {"x": X}).outputs, new, {"x": X})
    assert_same(aws.infer(NAME, {"x": X}, version=1).outputs, old, {"x": X})
    assert aws.rollback(NAME).live == 1
    assert_same(mounting(kind).infer(NAME, {"x": X}).outputs, old, {"x": X})
    assert [(found.key, found.live) for found in target().status()] == [("mounted@dev", 1)]
    aws.delete(NAME)
    assert everything(NAME) == []
