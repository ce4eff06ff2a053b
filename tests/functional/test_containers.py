"""Images in containers: podman loads what was packaged, and the function answers from inside."""

import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional.emulator import emulator, free_port
from tests.functional.registries import need
from tests.functional.runtime_api import runtime_api

import lamella
from lamella.packaging.images.blobs import CONFIG, INDEX, MANIFEST, TAR, Blobs
from lamella.runtime.payload import Event, decode_answer, encode_event

INPUTS = {"x": np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)}
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
WITHOUT = ("site-packages", "test", "tests", "idlelib", "tkinter", "ensurepip", "__pycache__", "config-")


def base_of_this_python(folder: Path) -> Path:
    """A layout with an image of the Python that runs this, the libraries it needs, and nothing else."""
    blobs = Blobs(folder)
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    needed = {python, *library.glob("lib-dynload/*.so")}
    packages = (
        Path(spec.origin).parent for name in ("numpy", "onnxruntime") if (spec := find_spec(name)) and spec.origin
    )
    for package in packages:
        needed |= {*package.rglob("*.so"), *package.parent.glob(f"{package.name}.libs/*.so*")}
    libraries = {path for file in needed for path in linked(file) if "site-packages" not in path.parts}
    with blobs.new() as new, tarfile.open(fileobj=new, mode="w") as archive:  # type: ignore[call-overload]
        archive.add(python, str(python)[1:])
        link = tarfile.TarInfo("usr/local/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, str(python)
        archive.addfile(link)
        archive.add(library, str(library)[1:], filter=lambda e: None if is_left_out(e.name) else e)
        for path in sorted(libraries):
            archive.add(path.resolve(), str(path)[1:])
        temporary = tarfile.TarInfo("tmp")
        temporary.type, temporary.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(temporary)
    layer = {"mediaType": TAR, "digest": new.digest, "size": new.size}
    architecture = ARCHITECTURE[os.uname().machine]
    config = {
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [new.digest]},
    }
    described = blobs.add(json.dumps(config).encode(), CONFIG).view()
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": [layer]}
    entry = blobs.add(json.dumps(manifest).encode(), MANIFEST).view()
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}
    (folder / "index.json").write_text(json.dumps(index))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def is_left_out(name: str) -> bool:
    return any(part.startswith("config-") or part in WITHOUT for part in Path(name).parts)


def linked(file: Path) -> list[Path]:
    listed = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    return [Path(part) for line in listed.splitlines() for part in line.split() if part.startswith("/")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("podman", "runc", "ldd")
    if os.geteuid() != 0:
        pytest.skip("podman needs root here")
    return tmp_path_factory.mktemp("containers")


@pytest.fixture(scope="module")
def podman(folder: Path) -> Iterator[list[str]]:
    """podman with images and containers of its own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman takes no long names
        yield [
            *("podman", "--root", str(folder / "storage"), "--runroot", short),
            *("--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        ]
    shutil.rmtree(folder / "storage", ignore_errors=True)


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return models.mlp(folder / "mlp.onnx", width=64)


@pytest.fixture(scope="module")
def image(podman: list[str], model: Path, folder: Path) -> str:
    """What podman calls the image that was packaged."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LAMELLA_HOME", str(folder / "home"))
        base = base_of_this_python(folder / "base")
        (made,) = lamella.package(model, folder / "images", format="oci-archive", slices=1, base_image=str(base))
    loaded = subprocess.run([*podman, "load", "-i", str(made.path)], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    name = loaded.stdout.split()[-1]
    inspected = json.loads(subprocess.check_output([*podman, "image", "inspect", name]))
    assert inspected[0]["Digest"] == f"sha256:{made.digest}"
    return name


@contextmanager
def running(podman: list[str], options: list[str], image: str, *command: str, log: Path) -> Iterator[None]:
    limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--network", "host", "--read-only"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*podman, "run", "--name", "function", *limits, *options, image, *command], stdout=output, stderr=output
        )
        try:
            yield
        finally:
            subprocess.run([*podman, "rm", "--force", "--time", "0", "function"], check=True, capture_output=True)
            process.wait(30)


def check(payload: Any, model: Path) -> None:
    with lamella.Pipeline(model) as pipeline:
        np.testing.assert_allclose(decode_answer(payload).tensors["y"], pipeline.infer(INPUTS)["y"], rtol=1e-6)


def test_a_container_of_an_image_answers_the_runtime_api(
    podman: list[str], image: str, model: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with runtime_api() as api, running(podman, ["--env", f"AWS_LAMBDA_RUNTIME_API={api.address}"], image, log=log):
        try:
            post = api.ask(encode_event(Event("a-request", INPUTS)))
        except Empty as error:
            raise AssertionError(log.read_text()) from error
        assert post.kind == "response", post.body
        check(post.json(), model)


def test_a_container_of_an_image_answers_under_the_runtime_interface_emulator(
    podman: list[str], image: str, model: Path, tmp_path: Path
) -> None:
    program, log = tmp_path / "rie", tmp_path / "log"
    program.write_bytes(emulator().read_bytes())
    program.chmod(0o755)
    port = free_port()
    options = ["--volume", f"{program}:/rie:ro", "--entrypoint", "/rie"]
    addresses = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    addresses += ["--runtime-api-address", f"127.0.0.1:{free_port()}"]
    started = [*addresses, "/usr/local/bin/python3", "-m", "lamella.runtime.client", "lamella.runtime.handler.handle"]
    with running(podman, options, image, *started, log=log):
        deadline = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        connection = HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/2015-03-31/functions/function/invocations", encode_event(Event("1", INPUTS)))
        answer = connection.getresponse().read()
        connection.close()
        check(json.loads(answer), model)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
