import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from tests.measurements import made_up

from lamella.bench import read_results, write_results
from lamella.bench.results import Results, Verdict
from lamella.bench.results_file import written
from lamella.errors import UsageError

NOTHING = replace(made_up(), samples=(), verdict=Verdict(False, ("nothing ran",)))
SCHEMA = json.loads(files("lamella.bench").joinpath("results.schema.json").read_text())


@pytest.mark.parametrize(
    "results",
    [made_up(), replace(made_up(), samples=(), verdict=Verdict(False, ("nothing ran",)))],
    ids=["some", "none"],
)
def test_a_file_follows_its_schema_and_is_read_as_it_was_written(results: Results, tmp_path: Path) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    path = tmp_path / "results.json"
    write_results(results, path)
    jsonschema.validate(json.loads(path.read_text()), SCHEMA)
    assert read_results(path) == results
    assert [each.name for each in tmp_path.iterdir()] == ["results.json"]


def test_each_sample_is_a_line() -> None:
    lines = [line for line in written(made_up()).splitlines() if line.startswith('  {"request"')]
    assert len(lines) == 13
    assert json.loads(lines[0].rstrip(","))["cold_start"] is True


def damaged(change: Any) -> str:
    content = json.loads(written(made_up()))
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is no results file"),
        ("[]", "is no results file: expected an object"),
        ('{"schema": "lamella.results/2"}', "has the schema `lamella.results/2`, not `lamella.results/1`"),
        (damaged(lambda c: c.pop("samples")), "is damaged: 'samples' is missing"),
        (damaged(lambda c: c["samples"][0].update(whole=1)), "is damaged: expected true or false, found 1"),
        (damaged(lambda c: c["samples"][0]["runs"][0].update(usd="much")), "is damaged: expected a number"),
        (damaged(lambda c: c["settings"].update(seeds=[1])), "is damaged: expected a plain value, found list"),
    ],
)
def test_what_is_no_results_file_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(UsageError, match="results") as caught:
        read_results(path)
    assert said in caught.value.message
    assert caught.value.hint


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_results(tmp_path / "gone.json")
