"""Workflows, run as the specification says: which values reach which slice, what is tried again, what is reported."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests import asl
from tests.aws_stacks import chain, release, settings, side_by_side

from lamella.errors import LamellaError
from lamella.targets.aws.release import Model
from lamella.targets.aws.state_machine import INVOKE_BYTES, STATE_BYTES, definition, inline_bytes
from lamella.tensors import TensorSpec
from lamella.workflow.steps import Step, Workflow

Answer = Callable[[str, Any], Any]


def machine(model: Model) -> dict[str, Any]:
    found = release(settings(), model)
    return definition(
        model,
        arn=lambda function: f"arn:{function.slice}",
        function=lambda slice: found.function(model.name, slice),
        store="s3://bucket",
    )


def answering(model: Model, calls: list[tuple[int, Any]]) -> Answer:
    """Functions that insist on the values that their slices take."""
    steps = {step.slice: step for step in model.workflow.steps}

    def invoke(arn: str, payload: Any) -> Any:
        step = steps[int(arn.removeprefix("arn:"))]
        calls.append((step.slice, payload))
        there = {name for part in payload["parts"] for name in part["frame"]}
        assert there.issuperset(step.needs), (step.slice, there)
        return {"frame": list(step.makes), "references": [], "timing": {"infer_ms": step.slice}, "more": "dropped"}

    return invoke


def request(model: Model) -> dict[str, Any]:
    names = [spec.name for spec in model.workflow.inputs]
    return {"request_id": "r1", "input": {"frame": names, "references": []}}


@pytest.mark.parametrize("model", [chain(2), chain(9), side_by_side()], ids=["two", "nine", "side by side"])
def test_every_slice_runs_once_with_its_values_and_the_answer_has_the_outputs(model: Model) -> None:
    calls: list[tuple[int, Any]] = []
    answer = asl.run(machine(model), request(model), answering(model, calls))
    assert sorted(slice for slice, _ in calls) == [step.slice for step in model.workflow.steps]
    found = {name for part in answer["parts"] for name in part["frame"]}
    assert found.issuperset(spec.name for spec in model.workflow.outputs)
    assert answer["request_id"] == "r1"
    assert answer["timings"] == {str(step.slice): {"infer_ms": step.slice} for step in model.workflow.steps}


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Any DAG: each slice takes some values of those before it."""
    made, steps = ["x"], []
    for index in range(draw(st.integers(2, 8))):
        takes = draw(st.lists(st.sampled_from(made), min_size=1, max_size=4, unique=True))
        makes = [f"v{index}-{number}" for number in range(draw(st.integers(1, 2)))]
        steps.append(Step(index, f"f{index}", specs(takes), (), specs(makes)))
        made += makes
    outputs = [made[-1], *draw(st.lists(st.sampled_from(made[1:]), max_size=2, unique=True))]
    return Model("m", Workflow(specs(["x"]), (), specs(outputs), {}, tuple(steps)))


def specs(names: list[str]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, "FP32", (1,)) for name in names)


@given(models())
def test_any_dag_is_run(model: Model) -> None:
    calls: list[tuple[int, Any]] = []
    answer = asl.run(machine(model), request(model), answering(model, calls))
    assert len(calls) == len(model.workflow.steps)
    found = {name for part in answer["parts"] for name in part["frame"]}
    assert found.issuperset(spec.name for spec in model.workflow.outputs)


@given(models())
def test_every_state_exists_and_is_reached(model: Model) -> None:
    assert_complete(machine(model))


def assert_complete(found: dict[str, Any]) -> None:
    states = found["States"]
    reached, waiting = set(), [found["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            state = states[name]
            waiting += [state["Next"]] if "Next" in state else []
            waiting += [catcher["Next"] for catcher in state.get("Catch", [])]
            assert ("Next" in state) + bool(state.get("End")) + (state["Type"] == "Fail") == 1, name
            for branch in state.get("Branches", []):
                assert_complete(branch)
    assert reached == set(states)
    assert all(len(name) <= 80 for name in states)


def failing(error: str, times: int, model: Model, calls: list[tuple[int, Any]], slice: int) -> Answer:
    well = answering(model, calls)

    def invoke(arn: str, payload: Any) -> Any:
        if arn == f"arn:{slice}" and sum(number == slice for number, _ in calls) < times:
            calls.append((slice, payload))
            raise asl.FailedError(error, "it said `no` {and} more")
        return well(arn, payload)

    return invoke


@pytest.mark.parametrize(("error", "most"), [("Runtime.ExitError", 2), ("Lambda.TooManyRequestsException", 10)])
@pytest.mark.parametrize("slice", [0, 2])
def test_what_may_pass_is_tried_again_each_time_at_a_place_of_its_own(error: str, most: int, slice: int) -> None:
    model, calls = side_by_side(), list[tuple[int, Any]]()
    asl.run(machine(model), request(model), failing(error, most, model, calls, slice))
    places = [payload["answer"]["prefix"] for number, payload in calls if number == slice]
    assert places == [f"requests/r1/slice-{slice}/{attempt}/" for attempt in range(most + 1)]
    with pytest.raises(asl.FailedError):
        asl.run(machine(model), request(model), failing(error, most + 1, model, [], slice))


@pytest.mark.parametrize("error", ["InputError", "States.DataLimitExceeded", "EngineError"])
@pytest.mark.parametrize("slice", [0, 1, 3])
def test_what_is_final_is_reported_with_its_slice_at_once(error: str, slice: int) -> None:
    model, calls = side_by_side(), list[tuple[int, Any]]()
    with pytest.raises(asl.FailedError) as failed:
        asl.run(machine(model), request(model), failing(error, 99, model, calls, slice))
    assert sum(number == slice for number, _ in calls) == 1
    assert failed.value.error == error
    where, _, what = failed.value.cause.partition(": ")
    assert where == f"slice {slice}"
    assert json.loads(what) == {"Error": error, "Cause": "it said `no` {and} more"}


@pytest.mark.parametrize("kind", ["express", "standard", "direct"])
@pytest.mark.parametrize("slices", [2, 8, 20])
def test_input_and_answers_together_stay_under_the_payload_limit(kind: Any, slices: int) -> None:
    model = chain(slices)
    encoded = inline_bytes(model, kind) // 3 * 4  # base64
    around = 400 + 300  # a reference for each value, a timing
    assert (slices + 1) * (encoded + around) < (INVOKE_BYTES if kind == "direct" else STATE_BYTES)
    assert inline_bytes(model, kind) > 4096


def test_a_slice_that_nobody_feeds_is_an_error() -> None:
    lost = Model("m", Workflow(specs(["x"]), (), specs(["y"]), {}, (Step(0, "f", specs(["z"]), (), specs(["y"])),)))
    with pytest.raises(LamellaError, match="takes values that no slice makes"):
        _ = lost.levels
