"""A user's own functions: loaded when named, and what goes wrong in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.errors import ItemError, TaskError, UsageError
from lamella.tasks.custom import Custom
from lamella.tasks.files import ModelFiles
from lamella.tensors import TensorSpec

SPECS = [TensorSpec("x", "FP32", ("batch", 1))]
PREPROCESS = "def preprocess(items):\n    return {'x': [[len(item)] for item in items]}\n"
POSTPROCESS = "def postprocess(outputs):\n    return [float(row[0]) for row in outputs['y']]\n"


def custom(tmp_path: Path, source: str = PREPROCESS + POSTPROCESS, **settings: Any) -> Custom:
    (tmp_path / "own.py").write_text(source)
    return Custom(SPECS, SPECS, ModelFiles(tmp_path), {"file": "own.py", **settings})


def test_functions_make_inputs_and_answers(tmp_path: Path) -> None:
    own = custom(tmp_path)
    prepared = own.preprocess(["a", "bb"])
    np.testing.assert_array_equal(prepared.inputs["x"], [[1], [2]])
    assert own.postprocess({"y": np.array([[1.5], [2.5]])}, prepared.states) == [{"answer": 1.5}, {"answer": 2.5}]


def test_states_go_from_one_function_to_the_other(tmp_path: Path) -> None:
    source = (
        "import numpy as np\n"
        "def preprocess(items):\n"
        "    return {'x': np.zeros((len(items), 1))}, [{'state': np.int64(len(i))} for i in items]\n"
        "def postprocess(outputs, states):\n    return [{'length': s['state']} for s in states]\n"
    )
    own = custom(tmp_path, source)
    prepared = own.preprocess(["a", "bb"])
    assert prepared.states == [{"state": {"state": 1}}, {"state": {"state": 2}}]
    assert own.postprocess({}, prepared.states) == [{"length": 1}, {"length": 2}]


def test_arrays_in_answers_become_lists(tmp_path: Path) -> None:
    source = (
        PREPROCESS + "def postprocess(outputs):\n    return [{'row': row, 'first': row[0]} for row in outputs['y']]\n"
    )
    own = custom(tmp_path, source)
    (found,) = own.postprocess({"y": np.array([[1, 2]])}, [{}])
    assert found == {"row": [1, 2], "first": 1}


def test_the_file_is_run_once_and_leaves_no_module(tmp_path: Path) -> None:
    import sys

    before = set(sys.modules)
    own = custom(tmp_path, "calls = []\n" + PREPROCESS.replace("return", "calls.append(1); return") + POSTPROCESS)
    own.preprocess(["a"])
    own.preprocess(["a"])
    assert not any("own" in name for name in set(sys.modules) - before)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def preprocess(:\n", "it failed in `{file}`, line 1: SyntaxError: "),
        ("import os\nimport no_such_module\n", "it failed in `{file}`, line 2: ModuleNotFoundError: "),
        (PREPROCESS, "`{file}` has no function `postprocess`"),
        ("preprocess = 1\n" + POSTPROCESS, "`{file}` has no function `preprocess`"),
    ],
)
def test_a_file_that_is_of_no_use_is_refused(source: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(TaskError) as caught:
        custom(tmp_path, source)
    assert caught.value.message.startswith(message.format(file=tmp_path / "own.py"))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", "`preprocess` failed in `{file}`, line 2: ZeroDivisionError: division by zero"),
        ("import json\n    json.loads('x')", "`preprocess` failed in `{file}`, line 3: JSONDecodeError: "),
        ("return [1]", "`preprocess` in `{file}` returns no inputs by name"),
        ("return {'x': 1}, []", "`preprocess` in `{file}` returns no state for each item"),
    ],
)
def test_what_goes_wrong_in_it_is_said_with_the_line(body: str, message: str, tmp_path: Path) -> None:
    own = custom(tmp_path, f"def preprocess(items):\n    {body}\n{POSTPROCESS}")
    with pytest.raises(TaskError) as caught:
        own.preprocess(["a"])
    assert caught.value.message.startswith(message.format(file=tmp_path / "own.py"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1", "returns no list of answers to 1 item"),
        ("'a'", "returns no list of answers to 1 item"),
        ("[1, 2]", "returns no list of answers to 1 item"),
        ("[{1, 2}]", "returns what JSON cannot hold"),
        ("[float('nan')]", "returns what JSON cannot hold"),
    ],
)
def test_answers_that_are_none_are_refused(value: str, message: str, tmp_path: Path) -> None:
    own = custom(tmp_path, f"{PREPROCESS}def postprocess(outputs):\n    return {value}\n")
    with pytest.raises(TaskError, match=message):
        own.postprocess({}, [{}])


def test_errors_of_lamella_go_through_as_they_are(tmp_path: Path) -> None:
    source = (
        "from lamella.errors import ItemError\n"
        "def preprocess(items):\n    raise ItemError('is too short', item=0, hint='write more')\n"
    )
    with pytest.raises(ItemError, match="item 0 is too short"):
        custom(tmp_path, source + POSTPROCESS).preprocess(["a"])


def test_a_file_must_be_named_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs a Python file"):
        Custom(SPECS, SPECS, ModelFiles(tmp_path), {})
    with pytest.raises(TaskError, match="cannot be read"):
        Custom(SPECS, SPECS, ModelFiles(tmp_path), {"file": "missing.py"})
    with pytest.raises(UsageError, match="has no setting `files`"):
        custom(tmp_path, files="x")
