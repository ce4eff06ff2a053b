"""Functions on AWS that are images: pushed into a registry, pulled from there by their digest, and run."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from tests import models
from tests.emulated_aws.server import PYTHON, REGION, REGISTRY_PROGRAMS
from tests.functional.aws import POLL_S, X, assert_same, client, everything, images, remove_all, sliced, target, wanted
from tests.functional.registries import need, registry
from tests.functional.test_aws_command_line import ON_AWS, say
from tests.functional.test_aws_doors import Deployed, assert_right, body

from lamella.errors import PackageError, RegistryError, RemoteError, UsageError
from lamella.packaging.images.bases import DEFAULT_BASES
from lamella.packaging.images.blobs import CONFIG, INDEX, MANIFEST, TAR, Blobs
from lamella.targets.aws.account import Account
from lamella.targets.aws.leftovers import leftovers
from lamella.targets.aws.releasing import ANY_STORE, build
from lamella.targets.aws.repository import DeploymentRepository
from lamella.targets.aws.settings import Settings
from lamella.targets.aws.stacks import Progress, Resource
from lamella.targets.aws.target import AwsTarget

NAME = "pictured"


@pytest.fixture(autouse=True)
def nothing_left(aws: str) -> Iterator[None]:
    del aws
    need(*REGISTRY_PROGRAMS)
    yield
    remove_all()


OF_AWS = {
    "Entrypoint": ["/lambda-entrypoint.sh"],
    "Env": ["LAMBDA_TASK_ROOT=/var/task", "LAMBDA_RUNTIME_DIR=/var/runtime"],
}
"""How the base images of AWS Lambda are run. https://github.com/aws/aws-lambda-base-images"""


def written_base(folder: Path, run: dict[str, Any]) -> Path:
    """A layout with a base that holds one file: Python, emulator and AWS's runtime client are this machine's."""
    folder.mkdir()
    blobs, note = Blobs(folder), folder / "os-release"
    note.write_text("NAME=nothing\n")
    with blobs.new() as new, tarfile.open(fileobj=new, mode="w") as archive:  # type: ignore[call-overload]
        archive.add(note, "etc/os-release")
    layer = {"mediaType": TAR, "digest": new.digest, "size": new.size}
    config: dict[str, Any] = {"architecture": "amd64", "os": "linux", "config": run}
    config["rootfs"] = {"type": "layers", "diff_ids": [new.digest]}
    described = blobs.add(json.dumps(config).encode(), CONFIG).view()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
    entry = blobs.add(json.dumps(manifest).encode(), MANIFEST).view()
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that says of itself what AWS Lambda's own does."""
    return written_base(tmp_path_factory.mktemp("base") / "layout", OF_AWS)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in two slices."""
    folder = tmp_path_factory.mktemp("two")
    return sliced(models.mlp(folder / "two.onnx"), folder / "slices", 2)


def settings_of(base: Path) -> Settings:
    return Settings(region=REGION, python=PYTHON, delivery="image", base_image=str(base), concurrency=None)


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

    repository = Resource("Repository", "AWS::ECR::Repository", f"lamella/{NAME}-dev")
    assert leftovers(Account(REGION), [repository]) == [f"AWS::ECR::Repository lamella/{NAME}-dev"]
    target().delete(NAME)
    assert leftovers(Account(REGION), [repository]) == []
    assert everything(NAME) == []


@pytest.mark.parametrize("run", [OF_AWS, {}], ids=["AWS's runtime", "Lamella's runtime"])
def test_the_only_slice_is_the_door_as_well(run: dict[str, Any], aws: str, tmp_path: Path) -> None:
    """The image names the handler of a slice; the function names the door's instead."""
    one = sliced(models.mlp(tmp_path / "one.onnx"), tmp_path / "one", 1)
    on_base(written_base(tmp_path / "base", run), function_url=True).apply(wanted(NAME, one, delivery="image"))
    deployed = Deployed(one, dict(target().outputs(NAME)), aws)
    status, answer = deployed.ask("POST", "/v2/models/model/infer", body(X))
    assert status == 200, answer
    assert_right(answer, deployed, X)
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})


def test_images_of_versions_that_are_not_kept_are_removed(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lamella.targets.aws.history.VERSIONS_KEPT", 1)
    aws, digests = on_base(base), []
    for layers in (2, 3, 4):
        one = sliced(models.mlp(tmp_path / f"{layers}.onnx", layers=layers), tmp_path / str(layers), 1)
        deployed = aws.apply(wanted(NAME, one, delivery="image"))
        digests.append(f"sha256:{deployed.version.functions[0].sha256}")
        assert images(NAME) == set(digests[-2:])  # what answered until then is kept, and the new one
    assert len(set(digests)) == 3
    assert_same(aws.infer(NAME, {"x": X}, version=2).outputs, tmp_path / "3", {"x": X})


def test_packages_become_images_where_functions_are_others(base: Path, tmp_path: Path) -> None:
    """The repository comes with the first version that needs it. A function stays what it was made of."""
    one = sliced(models.mlp(tmp_path / "one.onnx"), tmp_path / "one", 1)
    other = sliced(models.mlp(tmp_path / "other.onnx", layers=3), tmp_path / "other", 1)
    target().apply(wanted(NAME, one))
    assert f"lamella/{NAME}-dev" not in everything(NAME)
    with pytest.raises(UsageError, match="`lamella-pictured-dev-slice-0` cannot become an image") as caught:
        on_base(base).apply(wanted(NAME, one, delivery="image"))
    assert "another name" in (caught.value.hint or "")
    both = on_base(base).apply(wanted(NAME, {"one": one, "other": other}, delivery="image"))
    assert (both.live, len(images(NAME))) == (2, 2)
    assert_same(target().infer(NAME, {"x": X}, model="other").outputs, other, {"x": X})
    assert target().rollback(NAME).live == 1
    assert_same(target().infer(NAME, {"x": X}).outputs, one, {"x": X})
    assert len(images(NAME)) == 2
    target().delete(NAME)
    assert everything(NAME) == []


def test_a_dry_run_makes_the_images_and_nothing_else(
    base: Path, two: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    flags = [*ON_AWS, "--delivery", "image", "--base-image", str(base)]
    status, plan, said = say(capsys, "deploy", two, "--name", NAME, *flags, "--dry-run", "--json")
    assert (status, [change["action"] for change in plan["changes"]]) == (0, ["create", "create"]), said
    stored = sum(path.stat().st_size for path in (tmp_path / "home/images/blobs/sha256").iterdir())
    assert plan["estimated_idle_month_usd"] == pytest.approx(stored / (1 << 30) * 0.1, rel=0.01)
    assert everything(NAME) == []


def test_a_deployment_that_was_killed_goes_on(base: Path, two: Path, tmp_path: Path) -> None:
    """While images are pushed: what is there is not pushed again."""
    program = "import sys; from lamella.cli import main; sys.exit(main())"
    flags = [*ON_AWS, "--yes", "--name", NAME, "--delivery", "image", "--base-image", str(base)]
    with subprocess.Popen(
        [sys.executable, "-c", program, "deploy", two, *flags],
        env={**os.environ, "LAMELLA_HOME": str(tmp_path / "home"), "PYTHONPATH": "src"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if line.startswith(f"push complete  Image {NAME}-dev-slice-0"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, said
    assert f"lamella/{NAME}-dev" in everything(NAME)
    told: list[Progress] = []
    AwsTarget(settings_of(base), told=told.append, poll_s=POLL_S).apply(wanted(NAME, two, delivery="image"))
    assert not [one for one in told if (one.kind, one.resource) == ("Image", f"{NAME}-dev-slice-0")]
    assert_same(target().infer(NAME, {"x": X}).outputs, two, {"x": X})
    target().delete(NAME)
    assert everything(NAME) == []


@contextmanager
def ecr(patch: pytest.MonkeyPatch, *answers: tuple[int, dict[str, Any]]) -> Iterator[list[str]]:
    """A server in the place of Amazon ECR that gives these answers in turn, the last one for ever; what was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = answers[min(len(asked), len(answers) - 1)]
            asked.append(self.headers["X-Amz-Target"].rpartition(".")[2])
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, patch.context() as patched:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        patched.setenv("AWS_ENDPOINT_URL_ECR", f"http://127.0.0.1:{server.server_port}")
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()


def token(password: str) -> tuple[int, dict[str, Any]]:
    """What ECR answers to who asks for a password."""
    given = base64.b64encode(f"AWS:{password}".encode()).decode()
    return 200, {"authorizationData": [{"authorizationToken": given, "expiresAt": 1.0, "proxyEndpoint": "https://ecr"}]}


def test_who_may_not_push_is_told_before_anything_is_made(
    base: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    denied = {"__type": "AccessDeniedException", "message": "not authorized to perform: ecr:GetAuthorizationToken"}
    with ecr(monkeypatch, (400, denied)) as asked:
        with pytest.raises(RemoteError, match=r"refuses ecr:get_authorization_token: AccessDenied") as caught:
            on_base(base).apply(wanted(NAME, two, delivery="image"))
        assert "lamella iam-policy" in (caught.value.hint or "")
        assert asked == ["GetAuthorizationToken"]
    assert everything(NAME) == []


def test_a_registry_that_refuses_leaves_nothing(base: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ecr(monkeypatch, token("wrong")):
        with pytest.raises(RegistryError, match=r"`pictured-dev-slice-0` cannot be pushed: .* refuses: ") as caught:
            on_base(base).apply(wanted(NAME, two, delivery="image"))
        assert "lamella iam-policy" in (caught.value.hint or "")
        assert "wrong" not in str(caught.value)
    assert everything(NAME) == []


def test_a_registry_that_cannot_be_reached_is_named(base: Path, two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.packaging.images.session.ATTEMPTS", 2)
    chosen = wanted(NAME, two, delivery="image")
    (built,) = build(chosen, settings_of(base), ANY_STORE)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    repository = DeploymentRepository(Account(REGION), "lamella/x", f"{address}/lamella/x")
    with pytest.raises(RegistryError, match=f"cannot be pushed: registry `{address}`") as caught:
        repository.push(built.images[0])
    assert "network" in (caught.value.hint or "")


def test_an_image_above_the_limit_is_refused_before_anything_is_made(base: Path, two: Path) -> None:
    chosen = wanted(NAME, two, delivery="image")
    (built,) = build(chosen, settings_of(base), ANY_STORE)
    limits = replace(chosen.platform.limits, image_bytes=built.images[0].unpacked_bytes - 1)
    with pytest.raises(PackageError, match=r"of them in its base, above the [\d,]+ of AWS Lambda") as caught:
        on_base(base).apply(replace(chosen, platform=replace(chosen.platform, limits=limits)))
    assert "smaller base image" in (caught.value.hint or "")
    assert everything(NAME) == []


def test_a_base_that_cannot_be_fetched_says_how_to_bring_one(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lamella.packaging.images.session.ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        monkeypatch.setitem(DEFAULT_BASES, "aws-lambda", f"127.0.0.1:{closed.getsockname()[1]}/python:{{python}}")
    with pytest.raises(RegistryError, match=r"the base image `127\.0\.0\.1:\d+/python:3\.13` cannot") as caught:
        target().apply(wanted(NAME, two, delivery="image"))
    assert "skopeo copy" in (caught.value.hint or "")
    assert everything(NAME) == []


def test_what_is_there_is_not_pushed_again(base: Path, two: Path, tmp_path: Path) -> None:
    """Layers once for all slices; and no tag twice, which Amazon ECR refuses where tags cannot change."""
    (built,) = build(wanted(NAME, two, delivery="image"), settings_of(base), ANY_STORE)
    with registry(tmp_path) as server:
        repository = DeploymentRepository(Account(REGION), "lamella/x", f"{server.address}/lamella/x")
        for image in built.images:
            repository.push(image)
        blobs = {blob.digest for image in built.images for blob in image.descriptors[:-1]}
        assert len(server.requests("POST")) == len(blobs)
        pushed = server.requests("PUT")
        for image in built.images:
            repository.push(image)
        assert server.requests("PUT") == pushed
