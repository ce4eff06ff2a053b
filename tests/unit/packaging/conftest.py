"""A platform to package for, and a cache of its own for every test; nothing is fetched."""

from pathlib import Path

import pytest

from lamella.platforms import Platform, load_platform


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache" / "lamella" / "wheels.json"


@pytest.fixture
def aws() -> Platform:
    return load_platform("aws-lambda")
