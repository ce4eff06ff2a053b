"""Functions on AWS that are images: pushed into a registry, pulled from there by their digest, and run."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import models
from tests.emulated_aws.server import REGISTRY_PROGRAMS
from tests.functional.aws import X, assert_same, client, everything, images, remove_all, sliced, target, wanted
from tests.functional.registries import need

from lamella.packaging.images.blobs import CONFIG, INDEX, MANIFEST, TAR, Blobs
from lamella.targets.aws.target import AwsTarget

NAME = "pictured"


@pytest.fixture(autouse=True)
def nothing_left(aws: str) -> Iterator[None]:
    del aws
    need(*REGISTRY_PROGRAMS)
    yield
    remove_all()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that says of itself what AWS Lambda's own does, and holds one file: its runtime is the emulator's."""
    folder = tmp_path_factory.mktemp("base")
    blobs, note = Blobs(folder), folder / "os-release"
    note.write_text("NAME=nothing\n")
    with blobs.new() as new, tarfile.open(fileobj=new, mode="w") as archive:  # type: ignore[call-overload]
        archive.add(note, "etc/os-release")
    run = {
        "Entrypoint": ["/lambda-entrypoint.sh"],
        "Env": ["LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime"],
    }
    layer = {"mediaType": TAR, "digest": new.digest, "size": new.size}
    config = {"architecture": "amd64", "os": "linux", "config": run}
    config["rootfs"] = {"type": "layers", "diff_ids": [new.digest]}
    described = blobs.add(json.dumps(config).encode(), CONFIG).view()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
    entry = blobs.add(json.dumps(manifest).encode(), MANIFEST).view()
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in two slices."""
    folder = tmp_path_factory.mktemp("two")
    return sliced(models.mlp(folder / "two.onnx"), folder / "slices", 2)


def on_base(base: Path, **chosen: Any) -> AwsTarget:
    return target(delivery="image", base_image=str(base), **chosen)


def test_a_deployment_from_its_first_version_to_its_end(base: Path, two: Path, tmp_path: Path) -> None:
    new = sliced(models.mlp(tmp_path / "new.onnx", layers=6), tmp_path / "new", 2)
    aws = on_base(base)
    first = aws.apply(wanted(NAME, two, delivery="image"))
    pushed = images(NAME)
    assert {f"sha256:{function.sha256}" for function in first.version.functions} == pushed
    assert len(pushed) == 2
    found = client("lambda").get_function(FunctionName=f"lamella-{NAME}-dev-slice-0")
    assert found["Configuration"]["PackageType"] == "Image"
    assert found["Code"]["ImageUri"].rpartition("@")[2] in pushed
    assert_same(aws.infer(NAME, {"x": X}).outputs, two, {"x": X})

    assert aws.apply(wanted(NAME, new, delivery="image")).live == 2
    assert len(images(NAME)) == 4
    assert_same(target().infer(NAME, {"x": X}).outputs, new, {"x": X})
    assert_same(target().infer(NAME, {"x": X}, version=1).outputs, two, {"x": X})
    assert target().rollback(NAME).live == 1
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    assert [(one.key, one.live, one.version.delivery) for one in target().status()] == [(f"{NAME}@dev", 1, "image")]

    target().delete(NAME)
    assert everything(NAME) == []
