"""The function that fills a file system, as CloudFormation carries it: its text alone, with moto's S3 behind it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.aws_stacks import chain, settings, stack
from tests.conformance import s3_servers

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: `pip install 'lamella[s3]'`")

RUN = "import json, sys, index; print(json.dumps(index.handle(json.loads(sys.argv[1]), None)))"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    (tmp_path / "server").mkdir()
    with s3_servers.moto_server(tmp_path / "server") as url:
        yield url


def load(folder: Path, server: str, event: str) -> subprocess.CompletedProcess[str]:
    """The function's code in an interpreter of its own, with nothing of Lamella."""
    found = stack(settings(delivery="mount", mount="efs"), chain(1))
    loader = found["Resources"]["Loader"]["Properties"]
    assert loader["Handler"] == "index.handle"
    code = loader["Code"]["ZipFile"]
    assert len(code) < 4 << 20  # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference (Code, ZipFile)
    (folder / "index.py").write_text(code)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "AWS_ACCESS_KEY_ID": s3_servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3_servers.SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
        "BUCKET": "bucket",
        "MOUNT": str(folder / "mnt"),
    }
    return subprocess.run(
        [sys.executable, "-c", RUN, event], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def client(server: str) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=server,
        region_name="us-east-1",
        aws_access_key_id=s3_servers.ACCESS_KEY,
        aws_secret_access_key=s3_servers.SECRET_KEY,
    )
    client.create_bucket(Bucket="bucket")
    return client


def test_it_copies_what_is_missing_and_removes_what_it_is_told(tmp_path: Path, server: str, client: Any) -> None:
    (tmp_path / "mnt").mkdir()
    client.put_object(Bucket="bucket", Key="mount/aa/slice-0.onnx", Body=b"graph")
    client.put_object(Bucket="bucket", Key="mount/aa/slice-0.onnx.weights", Body=b"w" * (9 << 20))
    client.put_object(Bucket="bucket", Key="mount/bb/slice-1.onnx", Body=b"other")
    first = load(tmp_path, server, '{"prefix": "mount/aa/"}')
    assert first.stdout == '{"copied": 2, "removed": 0}\n', first.stderr
    assert (tmp_path / "mnt/aa/slice-0.onnx").read_bytes() == b"graph"
    assert (tmp_path / "mnt/aa/slice-0.onnx.weights").stat().st_size == 9 << 20
    assert sorted(path.name for path in (tmp_path / "mnt").iterdir()) == ["aa"]
    again = load(tmp_path, server, '{"prefix": "mount/aa/"}')
    assert again.stdout == '{"copied": 0, "removed": 0}\n', again.stderr
    last = load(tmp_path, server, '{"prefix": "mount/bb/", "remove": ["aa"]}')
    assert last.stdout == '{"copied": 1, "removed": 1}\n', last.stderr
    assert sorted(path.name for path in (tmp_path / "mnt").iterdir()) == ["bb"]


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("name", ["../outside", "/etc", "", "."])
def test_it_does_not_leave_the_mount(tmp_path: Path, server: str, name: str) -> None:
    (tmp_path / "mnt" / "aa").mkdir(parents=True)
    found = load(tmp_path, server, f'{{"remove": ["{name}"]}}')
    assert found.returncode == 1
    assert "is no place on the mount" in found.stderr
    assert (tmp_path / "mnt" / "aa").is_dir()
