"""What starting up may cost: the heavy libraries come in when something needs them, and not before."""

import subprocess
import sys

import pytest

import lamella

ENGINES_AND_CLOUDS = {
    "aiohttp",
    "boto3",
    "google",
    "grpc",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "openvino",
    "ray",
    "tokenizers",
    "torch",
}
REPORT = "import sys; print('modules:', *sys.modules)"


def modules_after(code: str) -> set[str]:
    """Top-level modules of a fresh interpreter once it has run `code`."""
    finished = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    listing = finished.stdout.rsplit("modules: ", 1)[1]
    return {name.partition(".")[0] for name in listing.split()}


def test_importing_lamella_imports_no_engine_and_no_numpy() -> None:
    loaded = modules_after(f"import lamella; {REPORT}")
    assert "lamella" in loaded
    assert loaded.isdisjoint({*ENGINES_AND_CLOUDS, "numpy", "ml_dtypes", "rich", "typer"})


@pytest.mark.parametrize("arguments", [["--help"], ["inspect", "--help"], ["slice", "--help"], ["deploy", "--help"]])
def test_help_imports_no_engine(arguments: list[str]) -> None:
    run = f"import runpy, sys; sys.argv = ['lamella', *{arguments!r}]"
    loaded = modules_after(
        f"{run}\ntry: runpy.run_module('lamella', run_name='__main__')\nexcept SystemExit as end: assert not end.code\n"
        + REPORT
    )
    assert "typer" in loaded
    assert loaded.isdisjoint(ENGINES_AND_CLOUDS)


@pytest.mark.parametrize("name", lamella.__all__)
def test_every_public_name_loads(name: str) -> None:
    assert getattr(lamella, name) is not None
    assert name in dir(lamella)


def test_a_name_that_lamella_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lamella' has no attribute 'shard'"):
        _ = lamella.shard  # type: ignore[attr-defined]
