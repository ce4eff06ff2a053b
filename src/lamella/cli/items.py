"""What a task is given on the command line, and its answers as they are shown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.cli import output
from lamella.errors import InputError, ItemError, UsageError

if TYPE_CHECKING:
    from lamella.tasks import TaskChoice
    from lamella.tasks.base import Answer, Item

_LONGEST_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Named:
    """An item, and what it is called in answers and errors."""

    name: str
    item: Item


def task_choice(name: str, folder: Path | None, settings: Sequence[str]) -> TaskChoice:
    """The task that flags ask for.

    Args:
        name: Its name.
        folder: Where the model's files lie; None for beside the model.
        settings: Each `KEY=VALUE`; a value that is JSON is taken as such, and as text otherwise.

    Raises:
        UsageError: A setting has no value, or comes twice.
    """
    from lamella.tasks import TaskChoice

    found: dict[str, object] = {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator or not key:
            raise UsageError(f"`--task-setting {setting}` has no value", hint="write `--task-setting KEY=VALUE`")
        if key in found:
            raise UsageError(f"the setting `{key}` is given twice", hint="give each setting once")
        found[key] = _value(value)
    return TaskChoice(name, folder, found)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_items(files: Sequence[str], texts: Sequence[str]) -> list[Named]:
    """Items from files and texts: of a `.json` file an item an element of its list, of another file its bytes.

    Raises:
        UsageError: There is none.
        InputError: A file cannot be read.
    """
    found = [named for file in files for named in _of_file(file)]
    found += [Named(f"text {index}", text) for index, text in enumerate(texts)]
    if not found:
        raise UsageError(
            "the task is given nothing", hint="give files with `--input FILE`, or texts with `--text TEXT`"
        )
    return found


def _of_file(file: str) -> list[Named]:
    from lamella.cli.inputs import read_json, unreadable

    if Path(file).suffix.lower() != ".json":
        try:
            return [Named(file, Path(file).read_bytes())]
        except OSError as error:
            raise unreadable(file, error) from error
    value = read_json(file, hint="give an object, or a list of objects or texts")
    if not isinstance(value, list):
        return [Named(file, _item(value, file))]
    return [Named(f"{file}[{index}]", _item(one, f"{file}[{index}]")) for index, one in enumerate(value)]


def _item(value: object, name: str) -> Item:
    if isinstance(value, (str, dict)):
        return value
    raise InputError(
        f"`{name}` is neither an object nor text", hint="give what the task takes; see `docs/guides/tasks.md`"
    )


def of_file(error: ItemError, items: Sequence[Named]) -> ItemError:
    """The same error, which says what the user called the item."""
    return ItemError(error.reason, item=error.item, hint=error.hint, name=f"`{items[error.item].name}`")


def answers_view(items: Sequence[Named], answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Answers, each with what it answers."""
    return [{"input": item.name, **answer} for item, answer in zip(items, answers, strict=True)]


def print_answers(items: Sequence[Named], answers: Sequence[Answer]) -> None:
    """Print answers: lists of classes or objects as tables, and others on a line."""
    for index, (item, answer) in enumerate(zip(items, answers, strict=True)):
        if index:
            output.line()
        output.line(item.name)
        for name, value in answer.items():
            if isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
                output.table(list(value[0]), [[_cell(cell) for cell in row.values()] for row in value])
            else:
                output.line(f"{name}: {_short(value)}")


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {output.number(one)}" for key, one in value.items())
    return output.number(value)


def _short(value: object) -> str:
    if isinstance(value, list) and all(isinstance(one, (int, float)) for one in value):
        more = f", ... ({len(value)} numbers)" if len(value) > 4 else ""
        return f"[{', '.join(output.number(one) for one in value[:4])}{more}]"
    text = value if isinstance(value, str) else output.number(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
