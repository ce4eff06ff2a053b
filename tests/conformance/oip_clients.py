"""Runs scripts with other people's clients, in the environment that has these."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def clients_python() -> Path:
    """The interpreter that has the clients: of `LAMELLA_CLIENTS`, an environment, or of `clients` in this one's."""
    given = os.environ.get("LAMELLA_CLIENTS")
    found = (Path(given) if given else Path(sys.prefix) / "clients") / "bin" / "python"
    if not found.exists():
        pytest.skip("there is no environment with other people's clients (`make test` makes `.venv/clients`)")
    return found


def checks_of(script: str) -> list[str]:
    """Names of what a script checks."""
    return re.findall(r"^def (check_\w+)", (HERE / script).read_text(), re.MULTILINE)


def outcomes(script: str, *arguments: str) -> dict[str, str]:
    """What came of each check of a script; empty where it is well."""
    if "kserve" in (HERE / script).read_text():
        needs_kserve()
    finished = subprocess.run(
        [clients_python(), HERE / script, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert finished.returncode == 0, finished.stderr
    found: dict[str, str] = json.loads(finished.stdout.splitlines()[-1])
    assert sorted(found) == sorted(checks_of(script))
    return found


@cache
def needs_kserve() -> None:
    """Skip where it cannot be installed."""
    asked = [clients_python(), "-c", "import importlib.util, sys; sys.exit(importlib.util.find_spec('kserve') is None)"]
    if subprocess.run(asked, check=False).returncode:
        pytest.skip("KServe's client is not installed (it does not run with Python 3.14)")
