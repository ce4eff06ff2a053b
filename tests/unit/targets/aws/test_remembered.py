from pathlib import Path

import pytest

from lamella.errors import LamellaError
from lamella.targets.aws.remembered import Remembered, Somewhere


def test_places_are_kept_by_name_and_stage_and_forgotten(tmp_path: Path) -> None:
    remembered = Remembered(tmp_path)
    assert list(remembered.places()) == []
    here, there = Somewhere("eu-central-1", "work"), Somewhere("us-east-1")
    for name, stage, place in (("bert", "dev", here), ("bert", "prod", there), ("ner", "dev", here)):
        remembered.keep(name, stage, place)
    again = Remembered(tmp_path)
    assert (again.find("bert", "dev"), again.find("bert", "prod"), again.find("x", "dev")) == (here, there, None)
    assert list(again.places()) == [here, there]
    again.forget("bert", "prod")
    again.forget("bert", "prod")
    assert remembered.find("bert", "prod") is None


@pytest.mark.parametrize("text", ["", "[]", '{"area": 1}'])
def test_a_damaged_pointer_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "aws").mkdir()
    (tmp_path / "aws" / "bert@dev.json").write_text(text)
    with pytest.raises(LamellaError, match=r"bert@dev\.json` is damaged") as caught:
        Remembered(tmp_path).find("bert", "dev")
    assert caught.value.hint
