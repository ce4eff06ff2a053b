"""Wheels are measured from their central directory, without what a function never imports."""

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
from tests import models

import lamella
from lamella.packaging.closure import closure_of, fetch_records
from lamella.packaging.wheels import UNUSED, WheelsError, fetch_wheels, measure_wheel
from lamella.platforms import Platform


def wheel(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "some_engine-1.2.3-cp313-cp313-manylinux_2_28_x86_64.whl"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_size_is_that_of_the_files_that_a_function_may_import(tmp_path: Path) -> None:
    kept = {"some_engine/__init__.py": b"x" * 100, "some_engine/capi/state.so": b"y" * 4000}
    unused = {"some_engine/core/tests/test_core.py": b"z" * 300, "onnxruntime/tools/convert.py": b"z" * 20}
    found = measure_wheel(wheel(tmp_path, {**kept, **unused}))
    assert (found.name, found.version) == ("some_engine", "1.2.3")
    assert found.unzipped_bytes == 4100
    assert found.unused_bytes == 320
    assert 0 < found.zipped_bytes < 200
    assert found.heaviest[0] == ("some_engine/capi/state.so", 4000)
    assert found.heaviest[1] == ("some_engine", 100)


def test_a_file_that_is_no_wheel_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "broken-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(WheelsError, match=r"`broken-1.0-py3-none-any.whl` is no wheel"):
        measure_wheel(path)


def test_wheels_that_cannot_be_fetched_are_an_error_with_the_reason() -> None:
    with pytest.raises(WheelsError, match=r"No matching distribution found for onnxruntime==0\.0\.1"):
        fetch_wheels(["onnxruntime==0.0.1"], python="3.13", architecture="arm64")


def test_the_wheel_for_the_function_is_fetched_and_not_this_machine_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(tmp_path, x86_64=10, aarch64=2000)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (found,) = fetch_wheels(["some-engine==1.2.3"], python="3.13", architecture="arm64")
    assert found.heaviest[0] == ("some_engine/state.so", 2000)
    (record,) = fetch_records(["some-engine==1.2.3"], python="3.13", architecture="x86_64")
    assert record.wheel.heaviest[-1] == ("some_engine/state.so", 10)
    with pytest.raises(WheelsError, match="some-engine"):
        fetch_wheels(["some-engine==1.2.3"], python="3.14", architecture="arm64")


def test_what_was_fetched_once_is_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws: Platform
) -> None:
    published(tmp_path, x86_64=5000)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    first = closure_of(aws, "x86_64", extra=["some-engine"])
    assert first.note is None
    assert first.unzipped_bytes - closure_of(aws, "x86_64").unzipped_bytes > 5000
    monkeypatch.delenv("PIP_FIND_LINKS")
    assert closure_of(aws, "x86_64", extra=["some-engine"]) == first


def published(folder: Path, **sizes: int) -> None:
    """Wheels of one distribution for several machines, as an index has them."""
    for machine, size in sizes.items():
        path = folder / f"some_engine-1.2.3-cp313-cp313-manylinux_2_28_{machine}.whl"
        described = "Metadata-Version: 2.1\nName: some-engine\nVersion: 1.2.3\nRequires-Dist: not-asked-for\n"
        with ZipFile(path, "w") as archive:
            archive.writestr("some_engine/state.so", b"x" * size)
            archive.writestr("some_engine-1.2.3.dist-info/METADATA", described)
            archive.writestr("some_engine-1.2.3.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            archive.writestr("some_engine-1.2.3.dist-info/RECORD", "")


def test_a_function_infers_without_what_is_left_out(tmp_path: Path) -> None:
    """What `UNUSED` names cannot be imported in this process, and a model still runs."""
    model = models.mlp(tmp_path / "mlp.onnx")
    program = f"""
import fnmatch, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        place = name.replace(".", "/") + "/"
        if any(fnmatch.fnmatchcase(place, pattern) for pattern in {UNUSED!r}):
            raise ImportError(f"{{name}} was left out")
sys.meta_path.insert(0, Blocked())
import numpy, lamella
with lamella.Pipeline({str(model)!r}) as pipeline:
    print(pipeline.infer({{"x": numpy.ones((1, 32), numpy.float32)}})["y"].shape)
try:
    import onnxruntime.quantization
except ImportError as error:
    print(error)
"""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(lamella.__file__).parents[1])}
    finished = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env=surroundings
    )
    assert finished.stdout.splitlines() == ["(1, 32)", "onnxruntime.quantization was left out"], finished.stderr
