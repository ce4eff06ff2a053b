"""Amazon States Language as far as Lamella's workflows use it, run in this process.

A second reading of the specification (https://states-language.net/spec.html), strict: a path that does not resolve, a
state that does not exist, or a member that is not known here is a failure of the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Invoke = Callable[[str, Any], Any]


class FailedError(Exception):
    """An execution or state that failed: `Error` and `Cause`."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(error, cause)
        self.error, self.cause = error, cause


def run(machine: dict[str, Any], data: Any, invoke: Invoke) -> Any:
    """Run a machine: `invoke(function, payload)` answers, or raises `FailedError`."""
    name: str | None = machine["StartAt"]
    while name is not None:
        data, name = _state(machine["States"][name], data, invoke)
    return data


def _state(state: dict[str, Any], data: Any, invoke: Invoke) -> tuple[Any, str | None]:
    following = None if state.get("End") else state.get("Next")
    kind = state["Type"]
    if kind == "Fail":
        raise FailedError(_value(state["ErrorPath"], data, {}), _value(state["CausePath"], data, {}))
    if kind == "Pass":
        return _placed(state, data, _filled(state["Parameters"], data, {})), following
    attempts = [0] * len(state.get("Retry", []))
    while True:
        try:
            context = {"State": {"RetryCount": sum(attempts)}}
            result = _task(state, data, context, invoke) if kind == "Task" else _parallel(state, data, invoke)
            break
        except FailedError as failed:
            if _retried(state, failed, attempts):
                continue
            for catcher in state.get("Catch", []):
                if _matches(catcher["ErrorEquals"], failed.error):
                    found = {"Error": failed.error, "Cause": failed.cause}
                    return _placed(catcher, data, found), catcher["Next"]
            raise
    return _placed(state, data, _filled(state["ResultSelector"], result, {})), following


def _task(state: dict[str, Any], data: Any, context: dict[str, Any], invoke: Invoke) -> Any:
    assert state["Resource"].endswith(":states:::lambda:invoke")
    given = _filled(state["Parameters"], data, context)
    return {"Payload": invoke(given["FunctionName"], given["Payload"]), "StatusCode": 200}


def _parallel(state: dict[str, Any], data: Any, invoke: Invoke) -> Any:
    return [run(branch, deepcopy(data), invoke) for branch in state["Branches"]]


def _retried(state: dict[str, Any], failed: FailedError, attempts: list[int]) -> bool:
    for index, retrier in enumerate(state.get("Retry", [])):
        if _matches(retrier["ErrorEquals"], failed.error):
            attempts[index] += 1
            return attempts[index] <= retrier["MaxAttempts"]
    return False


def _matches(names: list[str], error: str) -> bool:
    return error in names or (names == ["States.ALL"] and error != "States.DataLimitExceeded")


def _placed(state: dict[str, Any], data: Any, result: Any) -> Any:
    """https://states-language.net/spec.html#using-paths (ResultPath)"""
    path = state.get("ResultPath", "$")
    if path == "$":
        return result
    data, (*parents, last) = deepcopy(data), path.removeprefix("$.").split(".")
    place = data
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = result
    return data


def _filled(template: Any, data: Any, context: dict[str, Any]) -> Any:
    if isinstance(template, dict):
        return {
            key.removesuffix(".$"): _value(value, data, context)
            if key.endswith(".$")
            else _filled(value, data, context)
            for key, value in template.items()
        }
    return [_filled(item, data, context) for item in template] if isinstance(template, list) else template


def _value(text: str, data: Any, context: dict[str, Any]) -> Any:
    call = re.fullmatch(r"States\.(\w+)\((.*)\)", text)
    if call is None:
        return _at(text.removeprefix("$"), context) if text.startswith("$$") else _at(text, data)
    arguments = [_argument(part, data, context) for part in _parts(call[2])]
    if call[1] == "Array":
        return arguments
    if call[1] == "JsonToString":
        return json.dumps(arguments[0])
    assert call[1] == "Format", call[1]
    pieces = arguments[0].split("{}")
    assert len(pieces) == len(arguments)
    return pieces[0] + "".join(f"{value}{piece}" for value, piece in zip(arguments[1:], pieces[1:], strict=True))


def _argument(text: str, data: Any, context: dict[str, Any]) -> Any:
    return text[1:-1] if text.startswith("'") else _value(text, data, context)


def _parts(text: str) -> list[str]:
    """Arguments at the commas that are in no quotes or parentheses."""
    found, depth, quoted = [""], 0, False
    for letter in text:
        quoted ^= letter == "'"
        depth += (letter == "(") - (letter == ")") if not quoted else 0
        if letter == "," and not quoted and depth == 0:
            found.append("")
        else:
            found[-1] += letter
    return [part.strip() for part in found if part.strip()]


def _at(path: str, data: Any) -> Any:
    assert path.startswith("$"), path
    for name, index in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        data = data[int(index)] if index else data[name]
    return data
