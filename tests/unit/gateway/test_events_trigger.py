"""Triggers as values and as JSON."""

import json
from pathlib import Path
from typing import Any

import pytest

from lamella.errors import UsageError
from lamella.gateway.events.trigger import Trigger, Warming, as_uri, from_json, to_json


@pytest.mark.parametrize(
    "trigger",
    [
        Trigger("bert@dev", "/in", "/out"),
        Trigger("bert@dev", "s3://bucket/in", "sqlite:///results.db?table=t", "json", "/dead", ".npy", 3, 2, 1, "mine"),
        Warming("bert@prod", 60.0),
    ],
)
def test_a_trigger_survives_json(trigger: Trigger | Warming) -> None:
    assert from_json(json.loads(json.dumps(to_json(trigger)))) == trigger


def test_paths_become_absolute_wherever_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trigger = Trigger("a@dev", "in put", "deployment://b?output=../out", dead_letter="dead")
    assert trigger.input == f"{tmp_path.as_uri()}/in%20put"
    assert trigger.output == f"deployment://b?output={tmp_path.parent.as_uri()}/out"
    assert trigger.dead_letter == f"{tmp_path.as_uri()}/dead"
    nested = "deployment://b?output=deployment://c?output=sqlite:///x.db"
    assert as_uri(nested) == nested


def test_looks_into_buckets_are_rarer_since_they_cost_money() -> None:
    assert Trigger("a", "/in", "/out").poll_s < Trigger("a", "s3://in", "/out").poll_s


@pytest.mark.parametrize(
    "given",
    [
        {"form": "xml"},
        {"poll_s": -1},
        {"poll_s": float("nan")},
        {"attempts": 0},
        {"attempts": 1000},
        {"parallel": 0},
        {"id": "../../etc"},
        {"id": ""},
        {"input": ""},
        {"output": "sqlite:results.db"},
        {"output": "deployment://b?output=file:out"},
    ],
)
def test_values_that_make_no_sense_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        Trigger(**{"deployment": "a", "input": "/in", "output": "/out", **given})
    assert caught.value.hint


@pytest.mark.parametrize("interval_s", [0, 0.5, -1, float("inf"), float("nan"), 1e9])
def test_an_interval_has_its_limits(interval_s: float) -> None:
    with pytest.raises(UsageError, match="keep_warm"):
        Warming("a", interval_s)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "lamella.trigger/9"},
        {"kind": "cron"},
        {"kind": ["objects"]},
        {"input": 5},
        {"attempts": "many"},
        {"colour": "red"},
        {"id": "a/b"},
    ],
)
def test_what_is_no_trigger_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        from_json({**to_json(Trigger("a", "/in", "/out")), **change})


@pytest.mark.parametrize("content", [{}, [], 1, None, "text", {"schema": 1}])
def test_no_other_json_is_a_trigger(content: Any) -> None:
    with pytest.raises(UsageError):
        from_json(content)
