"""A package whose weights lie in S3 holds all that it takes to fetch them."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from tests import models
from tests.functional.packages import run_chain, run_package

import lamella
from lamella.errors import UsageError
from lamella.packaging.package import build_packages
from lamella.platforms import load_platform
from lamella.runtime.payload import Event
from lamella.stores.directory import DirectoryStore
from lamella.stores.opening import open_store, split_uri

WIDTH = 64
INPUTS = {"x": np.linspace(-1, 1, 2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)}
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATEST",
    "AWS_SECRET_ACCESS_KEY": "very-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a place in a bucket of moto's server."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="models")
        yield f"s3://models/all?endpoint_url={quote(endpoint, safe='')}"
    finally:
        server.stop()


def test_weights_come_from_s3_without_boto3(store: str, tmp_path: Path) -> None:
    model = models.mlp(tmp_path / "mlp.onnx", width=WIDTH)
    lamella.slice(model, tmp_path / "slices", slices=2)
    arguments = {"name": "mlp", "platform": load_platform("aws-lambda"), "cache": tmp_path / "cache", "store": store}
    built = build_packages(tmp_path / "slices", delivery="object-store", **arguments)
    for package in built:
        (described,) = package.function.objects
        place, key = split_uri(described.uri)
        assert open_store(place).size(key) == described.size
    folders = [package.folder for package in built]
    with lamella.Pipeline(model) as pipeline:
        expected = pipeline.infer(INPUTS)["y"]
    np.testing.assert_allclose(run_chain(folders, INPUTS, environment=CREDENTIALS)["y"], expected, rtol=1e-6)
    found = run_package(folders[0], Event("1", INPUTS), environment=CREDENTIALS)
    assert found["modules"]["lamella.stores.s3_signed"].startswith(str(folders[0]))
    assert not any(name.startswith("boto") for name in found["modules"])
    assert not any(path.name.startswith("boto") for path in folders[0].rglob("*"))
    written = {entry.key: entry.modified for entry in open_store(store).list()}
    assert build_packages(tmp_path / "slices", delivery="object-store", **arguments) == built
    assert {entry.key: entry.modified for entry in open_store(store).list()} == written


@pytest.mark.parametrize("name", ["models--usw2-az1--x-s3", "arn:aws:s3:eu-west-1:1:accesspoint:models"])
def test_a_bucket_that_only_boto3_can_use_is_refused(name: str, tmp_path: Path) -> None:
    sliced = tmp_path / "slices"
    lamella.slice(models.mlp(tmp_path / "mlp.onnx", width=WIDTH), sliced, slices=1)
    with pytest.raises(UsageError, match=f"functions cannot use the bucket `{name}`") as caught:
        build_packages(sliced, name="mlp", platform=load_platform("aws-lambda"), store=f"s3://{name}", cache=tmp_path)
    assert caught.value.hint


def test_weights_that_somebody_else_brings_are_found_where_a_variable_says(tmp_path: Path) -> None:
    model = models.mlp(tmp_path / "mlp.onnx", width=WIDTH)
    lamella.slice(model, tmp_path / "slices", slices=2)
    built = build_packages(
        tmp_path / "slices",
        name="mlp",
        platform=load_platform("aws-lambda"),
        delivery="object-store",
        store="s3://nobody-knows",
        weights=DirectoryStore(tmp_path / "brought"),
        cache=tmp_path / "cache",
    )
    digests = {entry.sha256 for package in built for entry in package.function.objects}
    assert {path.name for path in (tmp_path / "brought" / "weights").iterdir()} == digests
    with lamella.Pipeline(model) as pipeline:
        expected = pipeline.infer(INPUTS)["y"]
    environment = {"LAMELLA_WEIGHTS": (tmp_path / "brought" / "weights").as_uri()}
    found = run_chain([package.folder for package in built], INPUTS, environment=environment)["y"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
