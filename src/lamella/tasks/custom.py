"""`custom`: a user's own `preprocess` and `postprocess`, from a Python file that is named, and only then loaded."""

from __future__ import annotations

import inspect
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from lamella.errors import LamellaError, TaskError, UsageError
from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.files import ModelFiles
from lamella.tasks.settings import check_names
from lamella.tasks.specs import fixed
from lamella.tensors import Tensors, TensorSpec

NAME = "custom"
_FUNCTIONS = ("preprocess", "postprocess")


class Custom:
    """Calls a user's functions.

    `preprocess(items)` returns the model's inputs by name, or a pair of these and a list with what `postprocess` must
    know of each item. `postprocess(outputs)` returns a list with an answer an item; with two parameters,
    `postprocess(outputs, states)`, it is given that list. States and answers are what JSON can hold; an answer that is
    no object becomes `{"answer": ...}`.

    Args:
        inputs: The model's inputs.
        outputs: The model's outputs.
        beside: The model's files.
        settings: `file`, the Python file, beside the model or anywhere.

    Raises:
        UsageError: No file is named, or a setting makes no sense.
        TaskError: The file cannot be read, fails, or lacks a function.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        beside: ModelFiles,
        settings: Mapping[str, object],
    ) -> None:
        check_names(settings, ("file",), NAME)
        if not isinstance(named := settings.get("file"), str):
            raise UsageError("the task `custom` needs a Python file", hint="name it with the setting `file`")
        self._file = beside.resolve(named).absolute()
        module = _loaded(self._file)
        self._preprocess, self._postprocess = (self._function(module, name) for name in _FUNCTIONS)
        self._takes_states = _takes_two(self._postprocess)
        self.batch = next((size for spec in inputs if (size := fixed(spec, 0)) is not None), None)

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """What the user's `preprocess` makes of items."""
        made = self._called(self._preprocess, list(items))
        inputs, states = made if isinstance(made, tuple) and len(made) == 2 else (made, [None] * len(items))
        if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
            raise self._wrong("preprocess", "returns no inputs by name", "return a `dict` of arrays")
        if not isinstance(states, Sequence) or len(states) != len(items):
            raise self._wrong("preprocess", "returns no state for each item", "return a pair: inputs, and a list")
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        return Prepared(arrays, [{"state": _plain(state)} for state in states])

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """What the user's `postprocess` makes of outputs."""
        given = [state.get("state") for state in states]
        arguments = (dict(outputs), given) if self._takes_states else (dict(outputs),)
        made = self._called(self._postprocess, *arguments)
        if not isinstance(made, Sequence) or isinstance(made, str | bytes) or len(made) != len(states):
            counted = "1 item" if len(states) == 1 else f"{len(states)} items"
            raise self._wrong("postprocess", f"returns no list of answers to {counted}", "return an answer an item")
        answers: list[Answer] = [_object(answer) for answer in made]
        try:
            json.dumps(answers, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise self._wrong(
                "postprocess", f"returns what JSON cannot hold: {error}", "return numbers, text, lists"
            ) from error
        return answers

    def _called(self, function: Callable[..., object], *arguments: object) -> object:
        try:
            return function(*arguments)
        except LamellaError:  # raised there on purpose
            raise
        except Exception as error:
            raise _failed(self._file, error, f"`{function.__name__}`") from error

    def _function(self, module: ModuleType, name: str) -> Callable[..., object]:
        function = getattr(module, name, None)
        if not callable(function):
            raise TaskError(f"`{self._file}` has no function `{name}`", hint=f"define `{name}` there")
        return function  # type: ignore[no-any-return]

    def _wrong(self, name: str, said: str, hint: str) -> TaskError:
        return TaskError(f"`{name}` in `{self._file}` {said}", hint=hint)


def _loaded(file: Path) -> ModuleType:
    """Run a file as a module of its own, under no name that others could import."""
    try:
        source = file.read_bytes()
    except OSError as error:
        raise TaskError(f"`{file}` cannot be read: {error.strerror or error}", hint="check the path") from error
    module = ModuleType(f"lamella_task_{file.stem}")
    module.__file__ = str(file)
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)  # noqa: S102 - the user named this file to be run
    except Exception as error:
        raise _failed(file, error, "it") from error
    return module


def _failed(file: Path, error: Exception, what: str) -> TaskError:
    """What went wrong, and where in the user's file."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
    line = error.lineno if isinstance(error, SyntaxError) and error.filename == str(file) else (lines or [None])[-1]
    where = f"`{file}`" if line is None else f"`{file}`, line {line}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return TaskError(f"{what} failed in {where}: {type(error).__name__}: {said}", hint="correct it there")


def _takes_two(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind({}, [])
    except (TypeError, ValueError):
        return False
    return True


def _object(answer: object) -> dict[str, object]:
    plain = _plain(answer)
    return plain if isinstance(plain, dict) else {"answer": plain}


def _plain(value: object) -> object:
    """Arrays and NumPy's numbers as Python's."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
