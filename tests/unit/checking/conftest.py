"""A platform to check against, and a cache of its own for every test; nothing is fetched."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lamella.checking.setting import Setting
from lamella.packaging.closure import closure_of
from lamella.platforms import Platform, load_platform

Settings = Callable[..., Setting]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return tmp_path / "cache" / "lamella" / "wheels.json"


@pytest.fixture
def aws() -> Platform:
    return load_platform("aws-lambda")


@pytest.fixture
def setting(aws: Platform) -> Settings:
    """A function of AWS Lambda, some of its limits replaced."""

    def make(*, architecture: Any = "x86_64", memory_mb: int = 10_240, batch: int = 1, **limits: Any) -> Setting:
        platform = replace(aws, limits=replace(aws.limits, **limits))
        closure = closure_of(platform, architecture)
        return Setting(platform, architecture, memory_mb, memory_mb == 10_240, closure, batch)

    return make
