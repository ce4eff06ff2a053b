"""The function that fills a file system, as CloudFormation carries it, and who asks it to; moto's S3 is behind both."""

import fcntl
import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from tests.aws_stacks import chain, settings, stack
from tests.conformance import s3_servers

from lamella.errors import RemoteError, StoreError
from lamella.packaging.delivery import MountedFile
from lamella.stores.opening import open_store
from lamella.targets.aws.account import Account
from lamella.targets.aws.loading import Loading, LoadingError
from lamella.targets.aws.stacks import Progress

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed: `pip install 'lamella[s3]'`")

RUN = "import json, sys, index; print(json.dumps(index.handle(json.loads(sys.stdin.read()), None)))"
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes}, {bytes})); "
MIB = 1 << 20
AGAIN = "its log says more; deploy again, which goes on with what is there, or `lamella delete` it"
LARGE = os.urandom(40 * MIB)  # of three blocks


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("moto.server", reason="moto[server] is not installed")
    with s3_servers.moto_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one."""
    for name, value in credentials(server).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{os.urandom(4).hex()}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


def credentials(server: str) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": s3_servers.ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": s3_servers.SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": server,
    }


class Loader:
    """Stands for AWS Lambda: each invocation is a process with the loader's code and nothing of Lamella.

    Args:
        folder: Where the file system and the code lie.
        bucket: The bucket.
        server: Where that is.
    """

    def __init__(self, folder: Path, bucket: str, server: str) -> None:
        self.mount, self._folder = folder / "mnt", folder
        self.mount.mkdir(exist_ok=True)
        found = stack(settings(delivery="mount", mount="efs"), chain(1))["Resources"]["Loader"]["Properties"]
        assert found["Handler"] == "index.handle"
        code = found["Code"]["ZipFile"]
        assert len(code) < 4 * MIB  # https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference (Code)
        (folder / "index.py").write_text(code)
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        self._environment = {**kept, **credentials(server), "BUCKET": bucket, "MOUNT": str(self.mount)}
        self.events: list[dict[str, Any]] = []
        self.ended: dict[int, int] = {}
        """By the number of an invocation: how long its files may become before it is ended, as when its time is up."""
        self.seen: list[int] = []
        """The size of what was half copied, after each."""

    def call(self, service: str, operation: str, **given: Any) -> dict[str, Any]:
        assert (service, operation, given["FunctionName"]) == ("lambda", "invoke", "loader")
        most = self.ended.get(len(self.events))
        self.events.append(json.loads(given["Payload"]))
        program = RUN if most is None else LIMITED.format(bytes=most) + RUN
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, input=given["Payload"], capture_output=True, check=False
        )
        self.seen.append(sum(path.stat().st_size for path in self.mount.rglob("*.partial")))
        if done.returncode == 0:
            return {"Payload": io.BytesIO(done.stdout)}
        kind, _, said = done.stderr.decode().strip().splitlines()[-1].partition(": ")
        if most is not None:
            kind, said = "Sandbox.Timedout", "Task timed out after 900.00 seconds"
        answer = {"errorType": kind.rpartition(".")[2] if most is None else kind, "errorMessage": said}
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), "FunctionError": "Unhandled"}


@pytest.fixture
def loader(tmp_path: Path, bucket: str, server: str) -> Loader:
    return Loader(tmp_path, bucket, server)


def loading(loader: Loader, bucket: str, told: list[Progress] | None = None) -> Loading:
    store = open_store(f"s3://{bucket}")
    tell = None if told is None else told.append
    return Loading(cast(Account, loader), store, "loader", told=tell, poll_s=0)


def file(path: str, content: bytes) -> MountedFile:
    return MountedFile(path, len(content), hashlib.sha256(content).hexdigest(), lambda: [content])


FILES = [file("aa/slice-0.onnx", b"graph"), file("aa/slice-0.data", LARGE), file("bb/slice-1.onnx", b"other")]


def keys(bucket: str) -> list[str]:
    return [entry["Key"] for entry in boto3.client("s3").list_objects_v2(Bucket=bucket).get("Contents", ())]


def test_it_copies_what_is_missing_and_removes_what_is_not_needed(loader: Loader, bucket: str) -> None:
    told: list[Progress] = []
    found = loading(loader, bucket, told)
    found.bring(FILES[:2])
    assert (loader.mount / "aa/slice-0.onnx").read_bytes() == b"graph"
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE
    assert [event.get("seconds") for event in loader.events] == [0, 60]
    assert [event.status for event in told] == ["UPLOADED", "UPLOADED", "COPIED"]
    assert told[-1].reason == "0.04 of 0.04 GB"
    found.bring([*FILES, FILES[2]])
    assert [each["path"] for each in loader.events[-1]["files"]] == ["bb/slice-1.onnx"], "the others are there"
    found.clean({"bb"})
    assert [path.name for path in loader.mount.iterdir()] == ["bb"]
    assert keys(bucket) == []
    found.bring(FILES[2:])
    assert (keys(bucket), loader.events[-1]["seconds"]) == ([], 0), "what is on the file system is not uploaded again"


def test_what_ended_midway_is_gone_on_with(loader: Loader, bucket: str) -> None:
    """Twice: at 20 MiB, in the middle of a block, and at 37 MiB."""
    loader.ended = {1: 20 * MIB, 2: 37 * MIB}
    loading(loader, bucket).bring(FILES)
    assert loader.seen == [0, 20 * MIB, 37 * MIB, 0]
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE


def test_what_a_run_that_was_interrupted_has_left_is_used(loader: Loader, bucket: str) -> None:
    loader.ended = dict.fromkeys(range(1, 99), 20 * MIB)
    with pytest.raises(RemoteError, match=r"`loader` cannot bring the model.*timed out after 900") as caught:
        loading(loader, bucket).bring(FILES)
    assert caught.value.hint == AGAIN
    uploaded = keys(bucket)
    loader.ended = {}
    told: list[Progress] = []
    loading(loader, bucket, told).bring(FILES)
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE
    assert [event.status for event in told] == ["COPIED"], "nothing is uploaded again"
    assert keys(bucket) == uploaded


@pytest.mark.parametrize("content", [bytes(40 * MIB), LARGE[:-1]])
def test_what_is_damaged_is_not_taken(content: bytes, loader: Loader, bucket: str) -> None:
    (wanted,) = FILES[1:2]
    damaged = MountedFile(wanted.path, wanted.size, wanted.sha256, lambda: [content])
    with pytest.raises(RemoteError, match=r"DamagedError: .*has the digest|TooShortError: .*ends before") as caught:
        loading(loader, bucket).bring([damaged])
    assert caught.value.hint == "what was uploaded is removed: deploy again, which uploads it anew"
    assert keys(bucket) == []
    assert not (loader.mount / "aa/slice-0.data").exists()
    loading(loader, bucket).bring([wanted])
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE


def test_what_is_half_copied_and_wrong_is_copied_from_its_beginning_next_time(loader: Loader, bucket: str) -> None:
    (loader.mount / "aa").mkdir()
    (loader.mount / "aa/.slice-0.data.partial").write_bytes(bytes(MIB))
    with pytest.raises(RemoteError, match="DamagedError"):
        loading(loader, bucket).bring(FILES)
    loading(loader, bucket).bring(FILES)
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE


@contextmanager
def small(folder: Path) -> Iterator[None]:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root may mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_file_system_that_is_full_is_said_at_once(loader: Loader, bucket: str) -> None:
    with small(loader.mount), pytest.raises(RemoteError, match="No space left on device") as caught:
        loading(loader, bucket).bring(FILES)
    assert (caught.value.hint or "").startswith("the file system is full")
    assert len(loader.events) == 2


def test_two_do_not_copy_the_same_file_at_once(loader: Loader, bucket: str) -> None:
    (loader.mount / "aa").mkdir()
    with (loader.mount / "aa/.slice-0.data.partial").open("ab") as other:
        fcntl.lockf(other, fcntl.LOCK_EX)
        with pytest.raises(RemoteError, match="BlockingIOError") as caught:
            loading(loader, bucket).bring(FILES)
    assert caught.value.hint == AGAIN
    loading(loader, bucket).bring(FILES)
    assert (loader.mount / "aa/slice-0.data").read_bytes() == LARGE


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "", "."])
def test_it_does_not_leave_the_mount(name: str, loader: Loader, bucket: str) -> None:
    with pytest.raises(RemoteError, match="is no place on the mount") as caught:
        loading(loader, bucket).bring([file(name, b"x")])
    assert caught.value.hint == AGAIN


def test_what_cannot_be_uploaded_is_gone_on_with(loader: Loader, bucket: str) -> None:
    def broken() -> list[bytes]:
        raise StoreError("the connection broke", hint="try again")

    first, second = FILES[0], FILES[2]
    with pytest.raises(LoadingError, match="cannot be uploaded: the connection broke") as caught:
        loading(loader, bucket).bring([first, replace(second, buffers=broken)])
    assert "goes on with what is there" in (caught.value.hint or "")
    assert keys(bucket) == ["mount/aa/slice-0.onnx"]
    told: list[Progress] = []
    loading(loader, bucket, told).bring([first, second])
    assert [event.status for event in told] == ["UPLOADED", "COPIED"]


def test_a_bucket_that_is_the_file_system_needs_no_loader(loader: Loader, bucket: str) -> None:
    found = Loading(cast(Account, loader), open_store(f"s3://{bucket}"), None)
    found.bring(FILES)
    assert keys(bucket) == ["mount/aa/slice-0.data", "mount/aa/slice-0.onnx", "mount/bb/slice-1.onnx"]
    found.clean({"bb"})
    assert keys(bucket) == ["mount/bb/slice-1.onnx"]
    assert loader.events == []
