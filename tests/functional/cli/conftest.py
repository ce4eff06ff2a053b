"""The command line, run in this process and in one of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import models

import lamella as package
from lamella.cli import main


@dataclass
class Result:
    """What one call of the command line gave."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out, parse_constant=pytest.fail)


Lamella = Callable[..., Result]
Process = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with `mlp.onnx` in it, and an environment without settings."""
    for name in [*os.environ]:
        if name.startswith("LAMELLA_") or name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(package.__file__).parents[1]))  # which may have been relative
    monkeypatch.chdir(tmp_path)
    models.mlp(tmp_path / "mlp.onnx")
    return tmp_path


@pytest.fixture
def lamella(folder: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Lamella:
    """Run the command line in this process, in `folder`."""
    assert Path.cwd() == folder

    def run(*arguments: str) -> Result:
        capfdbinary.readouterr()
        status = main(arguments)
        sys.stdout.flush()
        shown = capfdbinary.readouterr()
        return Result(status, shown.out.decode("utf-8", "surrogateescape"), shown.err.decode())

    return run


@pytest.fixture
def process(folder: Path) -> Process:
    """Run `python -m lamella` in a process of its own."""

    def run(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[bytes]":
        command = [sys.executable, "-m", "lamella", *arguments]
        return subprocess.run(command, capture_output=True, check=False, cwd=folder, timeout=60, **options)

    return run
