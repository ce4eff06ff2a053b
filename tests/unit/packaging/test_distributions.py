"""Files of distributions: installed ones, and wheels."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from lamella.errors import PackageError, UsageError
from lamella.packaging import shared
from lamella.packaging.installed import installed_files, installed_key, is_portable
from lamella.packaging.interpreter import Interpreter, interpreter_for, running_python
from lamella.packaging.shared import engine_layer, own_layer
from lamella.packaging.wheels import WheelsError, is_unused, unpack_wheel
from lamella.platforms import Platform

WHEEL = "Wheel-Version: 1.0\nTag: py3-none-any\n"
METADATA = "Metadata-Version: 2.1\nName: some-engine\nVersion: 1.2.3\n"
FILES = {
    "some_engine/__init__.py": "from some_engine.core import answer\n",
    "some_engine/core.py": "def answer() -> int:\n    return 42\n",
    "some_engine/core.pyi": "def answer() -> int: ...\n",
    "some_engine/tests/test_core.py": "",
    "some_engine-1.2.3.data/purelib/some_data/numbers.json": "[42]",
    "some_engine-1.2.3.data/scripts/some-engine": "#!python\n",
    "some_engine-1.2.3.dist-info/METADATA": METADATA,
    "some_engine-1.2.3.dist-info/WHEEL": WHEEL,
    "some_engine-1.2.3.dist-info/RECORD": "",
}
KEPT = {
    "some_engine/__init__.py",
    "some_engine/core.py",
    "some_data/numbers.json",
    "some_engine-1.2.3.dist-info/METADATA",
    "some_engine-1.2.3.dist-info/WHEEL",
}


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    (tmp_path / "wheels").mkdir()
    return write_wheel(tmp_path / "wheels" / "some_engine-1.2.3-py3-none-any.whl", FILES)


def write_wheel(path: Path, files: dict[str, str]) -> Path:
    record = "".join(f"{name},,\n" for name in files)
    with ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, record if name.endswith("RECORD") else text)
    return path


@pytest.fixture
def engine(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`some-engine`, installed by pip into a folder on the path."""
    folder = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", str(folder)]
    subprocess.run([*command, str(wheel)], check=True)
    monkeypatch.syspath_prepend(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_wheel_is_unpacked_as_an_installer_would(wheel: Path, tmp_path: Path) -> None:
    unpack_wheel(wheel, tmp_path / "unpacked")
    assert files_of(tmp_path / "unpacked").keys() == KEPT


@pytest.mark.parametrize("name", ["../outside.py", "/outside.py", "x-1.data/purelib/../../outside.py"])
def test_a_wheel_that_names_a_file_outside_is_refused(name: str, tmp_path: Path) -> None:
    path = write_wheel(tmp_path / "x-1-py3-none-any.whl", {name: "x"})
    with pytest.raises(WheelsError, match="outside of where it is unpacked"):
        unpack_wheel(path, tmp_path / "a" / "b" / "c")
    assert not list(tmp_path.rglob("outside.py"))


def test_installed_files_are_those_of_the_wheel(engine: Path, wheel: Path, tmp_path: Path) -> None:
    found = installed_files("some-engine")
    assert found.keys() == KEPT
    unpack_wheel(wheel, tmp_path / "unpacked")
    assert {path: source.read_bytes() for path, source in found.items()} == files_of(tmp_path / "unpacked")
    assert is_portable("some-engine")
    assert installed_key("some-engine").startswith("some-engine==1.2.3 ")
    assert engine in found["some_data/numbers.json"].parents


def test_another_installation_of_the_same_version_has_another_key(engine: Path) -> None:
    before = installed_key("some-engine")
    record = engine / "some_engine-1.2.3.dist-info" / "RECORD"
    record.write_text(record.read_text() + "some_engine/more.py,,\n")
    assert installed_key("some-engine") != before


def test_an_installation_that_lost_a_file_is_refused(engine: Path) -> None:
    (engine / "some_engine" / "core.py").unlink()
    with pytest.raises(
        PackageError, match=r"`some-engine` 1\.2\.3 is installed without its file `some_engine/core.py`"
    ):
        installed_files("some-engine")


def test_an_editable_installation_is_refused(engine: Path) -> None:
    record = engine / "some_engine-1.2.3.dist-info" / "RECORD"
    record.write_text("some_engine.pth,,\n")
    (engine / "some_engine.pth").touch()
    with pytest.raises(PackageError, match="has no list of its files") as caught:
        installed_files("some-engine")
    assert "pip install" in (caught.value.hint or "")


def test_what_is_not_installed_is_refused() -> None:
    for question in (installed_files, installed_key):
        with pytest.raises(PackageError, match="`no-such-thing` is not installed"):
            question("no-such-thing")
    assert not is_portable("no-such-thing")


def test_what_was_built_here_is_not_portable(engine: Path) -> None:
    path = engine / "some_engine-1.2.3.dist-info" / "WHEEL"
    path.write_text(WHEEL.replace("py3-none-any", "cp313-cp313-linux_x86_64"))
    assert not is_portable("some-engine")
    path.write_text(WHEEL.replace("py3-none-any", "cp313-cp313-manylinux_2_28_x86_64"))
    assert is_portable("some-engine")


@pytest.mark.parametrize(
    ("path", "unused"),
    [
        ("onnxruntime/tools/convert.py", True),
        ("onnxruntime/capi/libonnxruntime.so.1.31.1", True),
        ("onnxruntime/capi/libonnxruntime_providers_shared.so", False),
        ("numpy/lib/tests/data/x.npy", True),
        ("numpy/_core/_multiarray_umath.cpython-313-x86_64-linux-gnu.so", False),
        ("numpy/_core/_umath_tests.cpython-313-x86_64-linux-gnu.so", True),
        ("numpy-2.4.6.dist-info/licenses/LICENSE.txt", False),
    ],
)
def test_what_stays_out_of_packages(path: str, unused: bool) -> None:
    assert is_unused(path) == unused


class TestLayers:
    """The shared layers, with a small distribution in place of the engine."""

    @pytest.fixture(autouse=True)
    def small(self, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(shared, "DISTRIBUTIONS", ("some-engine",))

    def test_installed_and_fetched_files_are_the_same(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
        here = Interpreter(running_python(), "x86_64", here=True)
        first = engine_layer(here, cache=tmp_path / "a")
        monkeypatch.setattr(shared, "is_portable", lambda _: False)
        second = engine_layer(replace(here, here=False), cache=tmp_path / "b")
        assert first.files == second.files
        assert {file.path for file in first.files} > KEPT
        assert sum(file.path.endswith(".pyc") for file in first.files) == 2

    def test_for_another_python_nothing_is_compiled(
        self, wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
        layer = engine_layer(Interpreter("3.99", "arm64", here=False), cache=tmp_path)
        assert {file.path for file in layer.files} == KEPT

    def test_what_cannot_be_fetched_is_an_error_with_the_reason(self, tmp_path: Path) -> None:
        with pytest.raises(PackageError, match=r"Python 3\.99 on arm64: the wheels cannot be fetched: .*some-engine"):
            engine_layer(Interpreter("3.99", "arm64", here=False), cache=tmp_path)
        assert list((tmp_path / "closures").iterdir()) == []

    def test_a_layer_is_built_once(self, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        here = Interpreter(running_python(), "x86_64", here=True)
        first = engine_layer(here, cache=tmp_path)
        monkeypatch.setattr(shared, "_write_installed", lambda *_: pytest.fail("built again"))
        assert engine_layer(here, cache=tmp_path) == first
        monkeypatch.undo()
        monkeypatch.setattr(shared, "DISTRIBUTIONS", ("some-engine",))
        monkeypatch.syspath_prepend(engine)
        (first.folder / "some_engine").chmod(0o755)
        (first.folder / "some_engine" / "core.py").unlink()
        assert engine_layer(here, cache=tmp_path) == first
        assert (first.folder / "some_engine" / "core.py").is_file()

    def test_sources_that_do_not_compile_are_an_error(self, engine: Path, tmp_path: Path) -> None:
        (engine / "some_engine" / "core.py").write_text("def answer(:\n")
        with pytest.raises(PackageError, match="the sources cannot be compiled: "):
            engine_layer(Interpreter(running_python(), "x86_64", here=True), cache=tmp_path)


def test_the_function_side_speaks_s3_only_where_it_must(tmp_path: Path) -> None:
    here = Interpreter(running_python(), "x86_64", here=True)
    paths, with_s3 = ({file.path for file in own_layer(here, cache=tmp_path, s3=s3).files} for s3 in (False, True))
    sources = {Path(path).name for path in with_s3 - paths if path.endswith(".py")}
    assert sources == {f"s3_{name}.py" for name in ("parts", "reasons", "requests", "signed", "xml")}
    assert paths < with_s3
    assert not any("openvino" in path or "/graph/" in path for path in with_s3)


def test_functions_are_for_this_machine_unless_another_is_named(aws: Platform) -> None:
    found = interpreter_for(aws, architecture=None, python=None)
    assert (found.here, found.compiles, found.python) == (True, True, running_python())
    named = interpreter_for(aws, architecture="arm64", python="3.14")
    assert (named.python, named.architecture, named.here) == ("3.14", "arm64", False)
    assert named.compiles == (running_python() == "3.14")
    anywhere = replace(aws, python_versions=())
    same = interpreter_for(anywhere, architecture=found.architecture, python=running_python())
    assert same.is_running == (sys.platform == "linux")
    with pytest.raises(UsageError, match=r"has no Python `3\.2`"):
        interpreter_for(aws, architecture=None, python="3.2")
    others = replace(aws, python_versions=("3.2",))
    with pytest.raises(UsageError, match=f"has no Python `{running_python()}`"):  # the bytes are for that platform
        interpreter_for(others, architecture="arm64", python=None)


def test_an_unknown_machine_must_be_told_what_functions_run_on(aws: Platform, monkeypatch: Any) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UsageError, match="this machine has riscv64 processors"):
        interpreter_for(aws, architecture=None, python=None)
    assert interpreter_for(aws, architecture="arm64", python="3.13").architecture == "arm64"
