"""Workflows that are started, and their failures, as Step Functions tells of them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lamella.errors import InputError, RemoteError, UsageError
from lamella.runtime.answered import Answered
from lamella.runtime.calling import AwsError
from lamella.runtime.frames import encode_frame
from lamella.runtime.models import Model, SliceNames
from lamella.runtime.payload import AnswerPlace, encode_parts, timing_document
from lamella.runtime.references import ReferencedTensors
from lamella.runtime.running import Place, Running, read_places
from lamella.runtime.timing import Timing
from lamella.stores.opening import open_store
from lamella.tensors import TensorSpec

X, Y = TensorSpec("x", "FP32", ("n",)), TensorSpec("y", "FP32", ("n",))
MODEL = Model("m", (X,), (), (Y,), (SliceNames(0, "f0", ("x",), ("h",)), SliceNames(2, "f2", ("h", "x"), ("y",))))
ONES = np.ones(4, np.float32)
LAMBDA = {"errorMessage": "no such dimension\nhint: change it", "errorType": "InputError", "stackTrace": []}


class Recorded:
    """A caller that answers as recorded."""

    def __init__(self, *answers: Mapping[str, object] | Exception | Callable[[Mapping[str, Any]], Any]) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, Mapping[str, Any]]]()

    def invoke(self, function: str, payload: bytes, *, wait: bool = True, timeout_s: float = 1) -> Answered:
        raise AssertionError(function)

    def states(self, action: str, content: Mapping[str, object], *, timeout_s: float = 1) -> Mapping[str, object]:
        self.asked.append((action, content))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(content) if callable(answer) else answer


def running(caller: Recorded, folder: Path, kind: Any = "express", inline_bytes: int = 1000) -> Running:
    return Running(MODEL, Place(kind, "arn:machine", inline_bytes), caller, folder.as_uri(), ReferencedTensors())


def output(put_bytes: int = 0, **tensors: Any) -> dict[str, object]:
    timings = {"0": timing_document(Timing(put_bytes=put_bytes)), "2": timing_document(Timing(infer_ms=3.0))}
    parts = encode_parts([(encode_frame(tensors, kind="outputs"), ())], {"request_id": "r", "timings": timings})
    return {"status": "SUCCEEDED", "output": parts.decode()}


def test_an_express_workflow_gets_its_input_and_gives_its_outputs(tmp_path: Path) -> None:
    caller = Recorded(output(y=ONES * 2, other=ONES))
    ran = running(caller, tmp_path).infer({"x": ONES})
    np.testing.assert_array_equal(ran.outputs["y"], ONES * 2)
    assert (list(ran.outputs), ran.timings[2].infer_ms) == (["y"], 3.0)
    ((action, content),) = caller.asked
    assert (action, content["stateMachineArn"]) == ("StartSyncExecution", "arn:machine")
    given = json.loads(content["input"])
    assert given.keys() == {"request_id", "input"}
    assert given["request_id"] == content["name"]
    assert given["input"].keys() == {"frame", "references"}


def test_large_inputs_go_through_the_store_and_are_deleted(tmp_path: Path) -> None:
    seen = []

    def answer(content: Mapping[str, Any]) -> Mapping[str, object]:
        (reference,) = json.loads(content["input"])["input"]["references"]
        seen.extend(entry.key for entry in open_store(tmp_path.as_uri()).list())
        assert reference["uri"].endswith(seen[0])
        return output(y=ONES)

    running(Recorded(answer), tmp_path, inline_bytes=8).infer({"x": ONES})
    assert seen[0].startswith("requests/")
    assert list(open_store(tmp_path.as_uri()).list()) == []


def test_what_slices_have_put_is_deleted_and_large_outputs_are_fetched(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())

    def answer(content: Mapping[str, Any]) -> Mapping[str, object]:
        prefix = f"requests/{content['name']}/slice-2/0/"
        outputs = {"y": ONES * 3}
        references = ReferencedTensors().put(outputs, AnswerPlace(0, tmp_path.as_uri(), prefix))
        parts = encode_parts([(encode_frame({}, kind="outputs"), references)], {"request_id": "r", "timings": {}})
        return {"status": "SUCCEEDED", "output": parts.decode()}

    runner = running(Recorded(answer), tmp_path)
    ran = runner.infer({"x": ONES})
    assert (ran.outputs, [reference.name for reference in ran.references]) == ({}, ["y"])
    assert len(list(store.list())) == 1
    np.testing.assert_array_equal(runner.fetched(ran).outputs["y"], ONES * 3)
    assert list(store.list()) == []


def test_a_standard_workflow_is_looked_at_until_it_ends(tmp_path: Path) -> None:
    running_now = {"status": "RUNNING"}
    caller = Recorded({"executionArn": "arn:run"}, running_now, running_now, output(y=ONES))
    assert list(running(caller, tmp_path, "standard").infer({"x": ONES}).outputs) == ["y"]
    assert [action for action, _ in caller.asked] == ["StartExecution", *["DescribeExecution"] * 3]
    assert caller.asked[-1][1] == {"executionArn": "arn:run"}
    caller = Recorded({"executionArn": "arn:run"}, running_now)
    with pytest.raises(RemoteError, match="did not end within"):
        running(caller, tmp_path, "standard").infer({"x": ONES}, timeout_s=0.01)


def failed(error: str, cause: str) -> dict[str, object]:
    return {"status": "FAILED", "error": error, "cause": cause}


def reported(error: str, cause: str) -> dict[str, object]:
    return failed(error, f"slice 2: {json.dumps({'Error': error, 'Cause': cause})}")


def test_a_slice_that_refuses_its_input_is_the_caller_s_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"slice 2 \(`f2`\): no such dimension") as caught:
        running(Recorded(reported("InputError", json.dumps(LAMBDA))), tmp_path).infer({"x": ONES})
    assert caught.value.hint == "change it"


@pytest.mark.parametrize(
    ("answer", "said", "slice"),
    [
        (reported("Runtime.ExitError", '{"errorType":"Runtime.ExitError","errorMessage":"killed"}'), "ExitError", 2),
        (reported("States.Timeout", ""), "States.Timeout", 2),
        (reported("Lambda.TooManyRequestsException", "Rate Exceeded."), "Rate Exceeded", 2),
        (failed("States.DataLimitExceeded", "too large"), "DataLimitExceeded: too large", None),
        ({"status": "TIMED_OUT"}, "ended as TIMED_OUT", None),
    ],
)
def test_a_failure_says_which_slice_and_why(
    answer: Mapping[str, object], said: str, slice: int | None, tmp_path: Path
) -> None:
    with pytest.raises(RemoteError) as caught:
        running(Recorded(answer), tmp_path).infer({"x": ONES})
    assert said in caught.value.message
    assert (caught.value.slice, caught.value.function) == (slice, None if slice is None else "f2")
    assert caught.value.hint


def test_what_passes_is_tried_again_and_what_does_not_is_told(tmp_path: Path) -> None:
    caller = Recorded(AwsError("slow down", code="ThrottlingException"), output(y=ONES))
    running(caller, tmp_path).infer({"x": ONES})
    assert len(caller.asked) == 2
    with pytest.raises(AwsError, match="refused"):
        running(Recorded(AwsError("refused", code="AccessDeniedException")), tmp_path).infer({"x": ONES})


def test_an_output_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="answered without `y`"):
        running(Recorded(output(other=ONES)), tmp_path).infer({"x": ONES})


def test_each_slice_knows_what_those_behind_it_need() -> None:
    assert MODEL.later() == {"0": ["y", "h", "x"], "2": ["y"]}


def test_places_are_read() -> None:
    text = json.dumps({"m": {"kind": "direct", "arn": "a", "inline_bytes": 7}})
    assert read_places(text) == {"m": Place("direct", "a", 7)}
    for wrong in ("[]", "{", '{"m":{"kind":"other","arn":"a","inline_bytes":1}}', '{"m":{"kind":"direct"}}'):
        with pytest.raises(UsageError, match="LAMELLA_WORKFLOW"):
            read_places(wrong)
