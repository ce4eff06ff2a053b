"""What is kept of a deployment on AWS: it reads back as it was written, and what is damaged is said."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.aws_stacks import DOORS, NAMES, chain, release, settings

from lamella.errors import LamellaError
from lamella.targets.aws.record import Record, read_record, written
from lamella.targets.aws.template import published
from lamella.targets.base import DeployedModel, Deployment, Version


def record(**chosen: Any) -> Record:
    how, model = settings(**{**DOORS, **chosen}), chain(2)
    made = {number: published(NAMES, how, release(how, model, number=number)) for number in (1, 2)}
    deployed = (DeployedModel(model.name, "bert.onnx", model.workflow),)
    versions = tuple(
        Version(number, "2026-01-01T00:00:00+00:00", deployed, "package", None, {}, None, "s3://bucket", ())
        for number in made
    )
    deployment = Deployment("bert", "dev", "aws", "aws-lambda", versions, 2, {"canary": 1})
    return Record(
        deployment,
        {1: replace(how, log_retention_days=7), 2: how},
        {number: each.functions for number, each in made.items()},
    )


@pytest.mark.parametrize("chosen", [{}, {"http_api": None, "s3_events": None, "budget": None}, {"delivery": "image"}])
def test_a_record_reads_back_as_it_was_written(chosen: dict[str, Any]) -> None:
    kept = record(**chosen)
    found = read_record(written(kept), "s3://bucket/key")
    assert found == kept
    assert found.settings == kept.chosen[2]
    assert found.at("canary").release.number == 1


def without_versions(content: dict[str, Any]) -> None:
    content["functions"].pop("1")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content.pop("settings"), "is damaged"),
        (lambda content: content["deployment"].update(live=9), "is damaged: .*version 9 is missing"),
        (without_versions, "is damaged: .*different versions"),
        (lambda content: content.update(schema="lamella.aws/9"), "of another version of Lamella"),
    ],
)
def test_a_damaged_record_is_said(damage: Any, said: str) -> None:
    content = json.loads(written(record()))
    damage(content)
    with pytest.raises(LamellaError, match=said) as caught:
        read_record(json.dumps(content).encode(), "s3://bucket/key")
    assert "s3://bucket/key" in str(caught.value)
    assert caught.value.hint


def test_what_is_no_json_is_said() -> None:
    with pytest.raises(LamellaError, match="is damaged"):
        read_record(b"{", "s3://bucket/key")
