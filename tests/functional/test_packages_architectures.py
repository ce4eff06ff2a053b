"""Packages for processors that this machine need not have: what is in them says whom it is for."""

import re
import struct
from pathlib import Path
from typing import Literal

import pytest
from tests import models

import lamella
from lamella.packaging.door import build_door
from lamella.packaging.package import build_packages
from lamella.packaging.wheels import WheelsError, fetch_wheels
from lamella.platforms import load_platform
from lamella.workflow.manifest import read_manifest
from lamella.workflow.steps import workflow_of

MACHINES = {"x86_64": 62, "arm64": 183}
"""`e_machine` of an ELF file. https://www.sco.com/developers/gabi/latest/ch4.eheader.html, and its registry."""

GLIBC = (2, 34)
"""Of Amazon Linux 2023, which functions run on. https://docs.aws.amazon.com/linux/al2023/ug/compare-with-al2.html"""

_VERSION = re.compile(rb"GLIBC_(\d+)\.(\d+)\0")


@pytest.fixture(scope="module", params=["x86_64", "arm64"])
def architecture(request: pytest.FixtureRequest) -> Literal["x86_64", "arm64"]:
    try:
        fetch_wheels(["numpy"], python="3.13", architecture=request.param)
    except WheelsError as error:
        pytest.skip(f"wheels of other machines cannot be had here: {error}")
    return request.param


def assert_runs_on(architecture: str, folder: Path) -> None:
    """Every library is for these processors, and for the C library that is there."""
    libraries = [path for path in folder.rglob("*") if path.is_file() and path.read_bytes().startswith(b"\x7fELF")]
    assert libraries
    for path in libraries:
        content = path.read_bytes()
        bits, (machine,) = content[4], struct.unpack_from("<H", content, 18)
        assert (bits, machine) == (2, MACHINES[architecture]), path
        wanted = [tuple(map(int, found)) for found in _VERSION.findall(content)]
        assert max(wanted, default=(0, 0)) <= GLIBC, path


def test_a_package_holds_what_its_processors_run(architecture: Literal["x86_64", "arm64"], tmp_path: Path) -> None:
    directory = lamella.slice(models.mlp(tmp_path / "model.onnx"), tmp_path / "slices", slices=2).directory
    chosen = {
        "platform": load_platform("aws-lambda"),
        "architecture": architecture,
        "python": "3.13",
        "store": "s3://bucket",
        "cache": tmp_path / "cache",
    }
    packages = build_packages(directory, name="mlp", **chosen)  # type: ignore[arg-type]
    assert {(package.architecture, package.python) for package in packages} == {(architecture, "3.13")}
    for package in packages:
        assert_runs_on(architecture, package.folder)
        assert next(package.folder.glob("onnxruntime/capi/onnxruntime_pybind11_state*.so"))
    workflow = workflow_of(read_manifest(directory), [package.function for package in packages])
    door = build_door({"mlp": workflow}, **chosen)  # type: ignore[arg-type]
    assert_runs_on(architecture, door.folder)
