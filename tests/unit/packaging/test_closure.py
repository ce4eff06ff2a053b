"""What a package holds beside the model."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from lamella.packaging import closure as module
from lamella.packaging.closure import DISTRIBUTIONS, closure_of
from lamella.packaging.records import Record, cached_records, keep_records, shipped_records
from lamella.packaging.wheels import Wheel
from lamella.platforms import Platform

WHEEL = Wheel("numpy", "9.9.9", 1000, 400, 50, (("numpy/core.so", 900), ("numpy", 100)))


def test_shipped_figures_cover_both_architectures_and_are_dated() -> None:
    records = shipped_records()
    for architecture in ("x86_64", "arm64"):
        for python in ("3.13", "3.14"):
            found = [r for r in records if (r.architecture, r.python) == (architecture, python)]
            names = {record.requirement.partition("==")[0] for record in found}
            assert names == {*DISTRIBUTIONS, "ml-dtypes"}
            assert all(date.fromisoformat(record.as_of).year >= 2026 for record in found)
            assert 65e6 < sum(record.wheel.unzipped_bytes for record in found) < 90e6


def test_closure_of_shipped_versions_needs_no_network(aws: Platform, cache: Path, monkeypatch: Any) -> None:
    versions = {r.requirement.partition("==")[0]: r.requirement for r in shipped_records()}
    monkeypatch.setattr(module, "pinned", versions.__getitem__)
    found = closure_of(aws, "arm64")
    assert found.note is None
    assert (found.python, found.architecture) == ("3.13", "arm64")
    assert found.unzipped_bytes == sum(w.unzipped_bytes for w in found.wheels) + found.own_bytes
    assert found.zipped_bytes < found.unzipped_bytes
    assert found.own_bytes > 10_000
    assert "onnxruntime_pybind11_state" in found.heaviest[0][0] or "openblas" in found.heaviest[0][0]
    assert found.engine.startswith("onnxruntime 1.")
    assert not cache.exists()


def test_arm64_takes_less_than_x86_64(aws: Platform) -> None:
    assert closure_of(aws, "arm64").unzipped_bytes < closure_of(aws, "x86_64").unzipped_bytes


def test_versions_that_cannot_be_fetched_are_replaced_by_the_nearest_and_said_so(
    aws: Platform, monkeypatch: Any
) -> None:
    monkeypatch.setattr(module, "pinned", lambda name: f"{name}==0.0.1")
    found = closure_of(aws, "x86_64")
    assert found.note is not None
    assert "cannot be fetched" in found.note
    assert "numpy==0.0.1 is counted as numpy==2" in found.note
    assert found.as_of in found.note
    assert 65e6 < found.unzipped_bytes < 90e6


def test_nothing_is_fetched_where_that_is_not_wanted(aws: Platform, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "pinned", lambda name: f"{name}==0.0.1")
    monkeypatch.setattr(module, "fetch_records", lambda *_, **__: pytest.fail("fetched"))
    found = closure_of(aws, "x86_64", fetch=False)
    assert found.note is not None
    assert found.note.startswith("nothing was fetched; onnxruntime==0.0.1 is counted as onnxruntime==")


def test_what_nobody_measured_is_not_counted_and_said_so(aws: Platform) -> None:
    found = closure_of(aws, "x86_64", extra=["no-such-thing-at-all"])
    assert found.note is not None
    assert found.note.endswith("; no-such-thing-at-all is not counted")
    assert found.unzipped_bytes == closure_of(aws, "x86_64").unzipped_bytes


def test_python_is_the_preferred_one_where_the_platform_offers_it(aws: Platform) -> None:
    assert module.python_of(aws) == "3.13"
    assert module.python_of(replace(aws, python_versions=("3.14",))) == "3.14"
    assert module.python_of(replace(aws, python_versions=())) == "3.13"


def test_measurements_are_kept_and_found_again(aws: Platform, cache: Path, monkeypatch: Any) -> None:
    record = Record("numpy==9.9.9", "3.13", "arm64", "2026-11-21", WHEEL)
    keep_records([record])
    keep_records([replace(record, python="3.14")])
    assert cached_records() == [record, replace(record, python="3.14")]
    assert json.loads(cache.read_text())["schema"] == "lamella.wheels/1"
    shipped = {r.requirement.partition("==")[0]: r.requirement for r in shipped_records()}
    monkeypatch.setattr(module, "pinned", lambda name: {**shipped, "numpy": "numpy==9.9.9"}[name])
    found = closure_of(aws, "arm64")
    assert found.note is None
    assert WHEEL in found.wheels


def test_a_damaged_cache_counts_as_none(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    for text in ("{", '{"schema": "other"}', '{"schema": "lamella.wheels/1", "wheels": [{"wheel": 3}]}', "[]"):
        cache.write_text(text)
        assert cached_records() == []
