"""Settings become options, or errors that say what would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from lamella.errors import UsageError
from lamella.tasks.settings import changed, names_of, picked


@dataclass(frozen=True, slots=True)
class Sample:
    """One option of each kind."""

    count: int = 1
    share: float = 0.5
    on: bool = False
    name: str | None = None
    kind: Literal["a", "b"] = "a"
    pair: tuple[int, int] | None = None
    many: int | tuple[float, ...] = 1


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, Sample()),
        ({"share": 2, "count": 3}, Sample(share=2.0, count=3)),
        ({"name": "x", "kind": "b", "on": True}, Sample(name="x", kind="b", on=True)),
        ({"pair": [1, 2], "many": [1, 2.5]}, Sample(pair=(1, 2), many=(1.0, 2.5))),
        ({"pair": None, "name": None}, Sample()),
    ],
)
def test_values_have_the_types_of_the_options(settings: dict[str, object], wanted: Sample) -> None:
    found = changed(Sample(), settings, "sample")
    assert found == wanted
    assert isinstance(found.share, float)


@pytest.mark.parametrize(
    ("settings", "message", "hint"),
    [
        ({"cuont": 1}, "the task `sample` has no setting `cuont`", "did you mean `count`?"),
        ({"colour": 1}, "has no setting `colour`", "its settings are `count`, `kind`, "),
        ({"count": 1.5}, "the setting `count` cannot be `1.5`", "give an integer"),
        ({"count": True}, "the setting `count` cannot be `True`", "give an integer"),
        ({"share": "0.5"}, "the setting `share` cannot be `'0.5'`", "give a number"),
        ({"on": 1}, "the setting `on` cannot be `1`", "give `true` or `false`"),
        ({"kind": "c"}, "the setting `kind` cannot be `'c'`", "give `a` or `b`"),
        ({"name": 3}, "the setting `name` cannot be `3`", "give text"),
        ({"pair": [1]}, r"the setting `pair` cannot be `\[1\]`", "give a list of an integer, 2 of them"),
        ({"pair": [1, "2"]}, "the setting `pair` cannot be", "give a list"),
        ({"many": ["a"]}, "the setting `many` cannot be", "give an integer or a list of a number"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, object], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        changed(Sample(), settings, "sample")
    assert str(caught.value.hint).startswith(hint)


def test_settings_are_shared_out_by_name() -> None:
    assert picked({"count": 1, "other": 2}, Sample) == {"count": 1}
    assert names_of(Sample)[:2] == ("count", "share")
