"""Images in containers: podman loads what was packaged, and the function answers from inside."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import models
from tests.functional.registries import need
from tests.functional.runtime_api import runtime_api

import lamella
from lamella.packaging.blobs import CONFIG, INDEX, MANIFEST, TAR, Blobs
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


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """podman with images and containers of its own; it must be able to run something."""
    need("podman", "runc", "ldd")
    if os.geteuid() != 0:
        pytest.skip("podman needs root here")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # podman takes no long names
        yield [
            *("podman", "--root", str(tmp_path / "storage"), "--runroot", short),
            *("--storage-driver", "vfs", "--runtime", "runc", "--cgroup-manager", "cgroupfs"),
        ]
    shutil.rmtree(tmp_path / "storage", ignore_errors=True)


@contextmanager
def running(podman: list[str], options: list[str], image: str, log: Path) -> Iterator[None]:
    command = [*podman, "run", "--name", "function", *options, image]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield
        finally:
            subprocess.run([*podman, "rm", "--force", "--time", "0", "function"], check=True, capture_output=True)
            process.wait(30)


def test_podman_runs_what_was_packaged(podman: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LAMELLA_HOME", str(tmp_path / "home"))
    model = models.mlp(tmp_path / "mlp.onnx", width=64)
    base = base_of_this_python(tmp_path / "base")
    (made,) = lamella.package(model, tmp_path / "images", format="oci-archive", slices=1, base_image=str(base))
    assert made.path is not None
    loaded = subprocess.run([*podman, "load", "-i", str(made.path)], capture_output=True, text=True, check=False)
    assert loaded.returncode == 0, loaded.stderr
    name = loaded.stdout.split()[-1]
    inspected = json.loads(subprocess.check_output([*podman, "image", "inspect", name]))
    assert inspected[0]["Digest"] == f"sha256:{made.digest}"
    with runtime_api() as api, lamella.Pipeline(model) as pipeline:
        log = tmp_path / "log"
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]
        surroundings = ["--network", "host", "--read-only", "--env", f"AWS_LAMBDA_RUNTIME_API={api.address}"]
        with running(podman, [*limits, *surroundings], name, log):
            try:
                post = api.ask(encode_event(Event("a-request", INPUTS)))
            except Exception as error:
                raise AssertionError(log.read_text()) from error
        assert post.kind == "response", post.body
        np.testing.assert_allclose(decode_answer(post.json()).tensors["y"], pipeline.infer(INPUTS)["y"], rtol=1e-6)
