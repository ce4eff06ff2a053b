"""Names of classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from lamella.errors import TaskError
from lamella.json_files import read_object
from lamella.tasks.files import ModelFiles, read_text

COCO_90, COCO_80 = "coco-90", "coco-80"


@dataclass(frozen=True, slots=True)
class Labels:
    """Names by class; a class without one is shown by its number."""

    names: Mapping[int, str]

    def name(self, index: int) -> str:
        """The name of a class."""
        return self.names.get(index, str(index))

    def __len__(self) -> int:
        """How many classes there must be at least: one more than the largest that has a name."""
        return max(self.names, default=-1) + 1


def read_labels(wanted: str | None, beside: ModelFiles) -> Labels:
    """Labels from what a setting names, or from what lies beside the model.

    Args:
        wanted: `coco-80`, `coco-90`, a `.txt` file with a name a line, a `.json` file with a name by class, or None for
            `labels.txt`, `config.json`, and then none at all.
        beside: The model's files.

    Raises:
        TaskError: The file cannot be read.
        MalformedModelError: It is no JSON object.
    """
    if wanted in (COCO_80, COCO_90):
        return Labels(_coco(wanted))
    if wanted is not None:
        path = beside.resolve(wanted)
        return Labels(_by_class(read_object(path), wanted) if path.suffix == ".json" else _lines(path))
    if (path_beside := beside.find("labels.txt")) is not None:
        return Labels(_lines(path_beside))
    named = beside.read("config.json").get("id2label")
    return Labels(_by_class(named, "config.json") if isinstance(named, dict) else {})


def _lines(path: Path) -> dict[int, str]:
    lines = read_text(path, "the file of labels").splitlines()
    return {index: line.strip() for index, line in enumerate(lines)}


def _by_class(named: Mapping[str, object], file: str) -> dict[int, str]:
    try:
        return {int(index): str(name) for index, name in named.items()}
    except ValueError as error:
        raise TaskError(f"`{file}` names a class that is no number", hint="write `0`, `1`, ... as its keys") from error


def _coco(kind: str) -> dict[int, str]:
    """The 80 categories of COCO: by their ids, from 1 to 90 with gaps, or counted from 0 on.

    Ids and names: https://cocodataset.org/#explore and the annotations of 2014 and 2017.
    """
    text = files("lamella.tasks").joinpath("coco.txt").read_text("utf-8")
    pairs = [line.split(" ", 1) for line in text.splitlines()]
    if kind == COCO_80:
        return {index: name for index, (_, name) in enumerate(pairs)}
    return {int(number): name for number, name in pairs}
