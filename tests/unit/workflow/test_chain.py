"""Slices over something that invokes them: the answer is the pipeline's, whatever fails on the way."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Event, Thread
from time import monotonic

import numpy as np
import onnx
import pytest
from onnx import helper
from tests import models
from tests.functions import Before, Call, InProcess

import lamella
from lamella.errors import InputError, RemoteError, UnsupportedModelError, UsageError
from lamella.runtime.payload import decode_event
from lamella.runtime.retrying import Retries
from lamella.stores.directory import DirectoryStore
from lamella.workflow.chain import Chain, delete_expired
from lamella.workflow.invoking import Answered

X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
QUICK = Retries(attempts=3, throttled_s=5, first_pause_s=0.001, longest_pause_s=0.01)

KILLED = Answered(b"", "Runtime.ExitError", "the instance was killed", retriable=True)
THROTTLED = Answered(b"", "TooManyRequestsException", "Rate Exceeded.", retriable=True, throttled=True)

Make = Callable[..., tuple[Chain, InProcess]]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A chain through slices of a model."""

    def build(
        model: Callable[[Path], Path] = models.mlp, *, slices: int = 3, before: Before | None = None, **options: object
    ) -> tuple[Chain, InProcess]:
        sliced = lamella.slice(model(tmp_path / "model.onnx"), tmp_path / "slices", slices=slices)
        invoker = InProcess(sliced.directory, tmp_path / "functions", before)
        options = {"store": DirectoryStore(tmp_path / "store"), "retries": QUICK, **options}
        return Chain(invoker.workflow, invoker, **options), invoker

    return build


def expected(tmp_path: Path, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    with lamella.Pipeline(tmp_path / "slices") as pipeline:
        return pipeline.infer(inputs)


def objects(tmp_path: Path) -> list[str]:
    return [entry.key for entry in DirectoryStore(tmp_path / "store").list()]


def test_a_chain_answers_as_the_pipeline_does(make: Make, tmp_path: Path) -> None:
    chain, invoker = make()
    answer = chain.infer({"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], expected(tmp_path, x=X)["y"])
    assert [run.slice for run in answer.timeline] == [0, 1, 2]
    assert [run.cold_start for run in answer.timeline] == [True] * 3
    assert all(run.load_ms is not None and run.init_ms is not None for run in answer.timeline)
    assert all(0 <= run.begin_ms < run.end_ms <= answer.latency_ms for run in answer.timeline)
    assert all(run.infer_ms > 0 and run.transfer_ms >= 0 and run.billed_ms == 1 for run in answer.timeline)
    warm = chain.infer({"x": X})
    assert [(run.cold_start, run.init_ms) for run in warm.timeline] == [(False, None)] * 3
    assert invoker.counts == {"slice-0": 2, "slice-1": 2, "slice-2": 2}


def test_values_travel_by_reference_above_the_limit_and_are_deleted(make: Make, tmp_path: Path) -> None:
    seen: list[list[str]] = []
    inside, _ = make(before=lambda _: seen.append(objects(tmp_path)), inline_bytes=100)
    rows = np.tile(X, (50, 1))
    answer = inside.infer({"x": rows})
    np.testing.assert_array_equal(answer.outputs["y"], expected(tmp_path, x=rows)["y"])
    assert [len(keys) for keys in seen] == [1, 2, 3]  # the input, and the output of each slice before
    assert objects(tmp_path) == []


def test_nothing_is_stored_below_the_limit(make: Make, tmp_path: Path) -> None:
    chain, invoker = make(inline_bytes=X.nbytes)
    chain.infer({"x": X})
    assert not (tmp_path / "store").exists()
    assert max(invoker.payload_bytes) > X.nbytes


def test_an_answer_that_is_wanted_whole_goes_on_as_it_came(make: Make) -> None:
    chain, invoker = make()
    chain.infer({"x": X})
    for (_, answer), (event, _) in pairwise(invoker.exchanged):
        frame = json.loads(answer)["frame"]
        assert [part["frame"] for part in json.loads(event)["parts"]] == [frame]


def test_of_an_answer_only_what_is_taken_goes_on(make: Make, tmp_path: Path) -> None:
    chain, invoker = make(two_of_one, slices=3)
    x = np.ones((4, 8), np.float32)
    np.testing.assert_array_equal(chain.infer({"x": x}).outputs["y"], expected(tmp_path, x=x)["y"])
    for step, (event, _) in zip(invoker.workflow.steps, invoker.exchanged, strict=True):
        decoded = decode_event(event)
        assert {name for part in (decoded, *decoded.parts) for name in part.tensors} == set(step.needs)


def test_a_damaged_answer_is_told(make: Make) -> None:
    answers: dict[str, bytes] = {}

    def cut(call: Call) -> Answered | None:
        if call.function != "slice-2" or not answers:
            return None
        document = json.loads(answers["slice-2"])
        return Answered(json.dumps({**document, "frame": document["frame"][:-8]}).encode())

    chain, invoker = make(before=cut)
    chain.infer({"x": X})
    answers["slice-2"] = invoker.exchanged[-1][1]
    with pytest.raises(RemoteError, match="answer is damaged") as caught:
        chain.infer({"x": X})
    assert caught.value.hint


def two_of_one(path: Path) -> Path:
    """A node with two outputs, each of which another slice takes."""
    nodes = [
        helper.make_node("Split", ["x"], ["a", "b"], "split", axis=1),
        helper.make_node("MatMul", ["a", "w0"], ["c"], "first"),
        helper.make_node("MatMul", ["b", "w1"], ["d"], "second"),
        helper.make_node("Add", ["c", "d"], ["y"], "sum"),
    ]
    inputs, outputs = [models.floats("x", ["batch", 8])], [models.floats("y", ["batch", 4])]
    weights = [models.weight("w0", 4, 4), models.weight("w1", 4, 4)]
    return models.save(path, helper.make_graph(nodes, "two", inputs, outputs, weights))


def test_a_value_that_two_slices_take_is_stored_once(tmp_path: Path, make: Make) -> None:
    puts: list[int] = []
    chain, invoker = make(diamond, slices=3, before=lambda _: puts.append(len(objects(tmp_path))), inline_bytes=1)
    x = np.ones((4, 8), np.float32)
    np.testing.assert_array_equal(chain.infer({"x": x}).outputs["y"], expected(tmp_path, x=x)["y"])
    takers = [step for step in invoker.workflow.steps if "x" in step.needs]
    assert len(takers) > 1
    assert puts[0] == 1
    assert max(puts) <= 1 + sum(len(step.makes) for step in invoker.workflow.steps)


def diamond(path: Path) -> Path:
    """`x` through two independent branches that are added."""
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["left"], "left"),
        helper.make_node("MatMul", ["x", "w1"], ["right"], "right"),
        helper.make_node("Add", ["left", "right"], ["y"], "sum"),
    ]
    shape = ["batch", 8]
    weights = [models.weight("w0", 8, 8), models.weight("w1", 8, 8)]
    graph = helper.make_graph(nodes, "diamond", [models.floats("x", shape)], [models.floats("y", shape)], weights)
    return models.save(path, graph)


def test_slices_that_do_not_wait_for_each_other_run_side_by_side(make: Make, tmp_path: Path) -> None:
    met = Barrier(2, timeout=20)

    def meet(call: Call) -> None:
        if call.function in ("slice-0", "slice-1"):
            met.wait()  # fails unless the other one comes before this one has ended

    chain, _ = make(diamond, slices=3, before=meet)
    x = np.ones((1, 8), np.float32)
    answer = chain.infer({"x": x})
    np.testing.assert_array_equal(answer.outputs["y"], expected(tmp_path, x=x)["y"])
    assert {run.slice for run in answer.timeline[:2]} == {0, 1}


def test_text_and_an_if_travel(make: Make, tmp_path: Path) -> None:
    words = np.array(["cat", "größe", "dog"], object)
    chain, _ = make(models.strings, slices=2, inline_bytes=1)
    answer = chain.infer({"words": words})
    want = expected(tmp_path, words=words)
    assert answer.outputs["names"].tolist() == want["names"].tolist()
    assert answer.outputs["squares"].tolist() == [1, 0, 4]
    assert objects(tmp_path) == []


def test_requests_do_not_see_each_other(make: Make, tmp_path: Path) -> None:
    chain, _ = make(inline_bytes=64)
    given = [np.full((rows % 5 + 1, 32), rows / 10, np.float32) for rows in range(64)]
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda x: chain.infer({"x": x}, request_id="the-same").outputs["y"], given))
    for x, y in zip(given, found, strict=True):
        np.testing.assert_allclose(y, expected(tmp_path, x=x)["y"], rtol=1e-5, atol=1e-6)
    assert objects(tmp_path) == []


def test_what_may_pass_is_tried_again(make: Make, tmp_path: Path) -> None:
    def flaky(call: Call) -> Answered | None:
        if call.function == "slice-1" and call.count < 3:
            return KILLED
        return THROTTLED if call.function == "slice-2" and call.count < 8 else None

    chain, invoker = make(before=flaky)
    answer = chain.infer({"x": X})
    np.testing.assert_array_equal(answer.outputs["y"], expected(tmp_path, x=X)["y"])
    assert [run.attempts for run in answer.timeline] == [1, 3, 8]
    assert invoker.counts == {"slice-0": 1, "slice-1": 3, "slice-2": 8}


def test_a_slice_that_keeps_failing_is_named_and_leaves_nothing(make: Make, tmp_path: Path) -> None:
    chain, invoker = make(before=lambda call: KILLED if call.function == "slice-1" else None, inline_bytes=1)
    with pytest.raises(RemoteError, match=re.escape("slice 1 (`slice-1`) failed after 3 attempts")) as caught:
        chain.infer({"x": X})
    assert (caught.value.slice, caught.value.function) == (1, "slice-1")
    assert caught.value.hint
    assert invoker.counts == {"slice-0": 1, "slice-1": 3}
    assert objects(tmp_path) == []


def test_an_error_that_stays_is_not_tried_again(make: Make) -> None:
    broken = Answered(b"", "EngineError", "no such operator\nhint: cut elsewhere")
    chain, invoker = make(before=lambda call: broken if call.function == "slice-0" else None)
    with pytest.raises(RemoteError, match="EngineError: no such operator") as caught:
        chain.infer({"x": X})
    assert caught.value.hint == "cut elsewhere"
    assert invoker.counts == {"slice-0": 1}


def test_throttling_ends_after_its_time(make: Make) -> None:
    chain, _ = make(before=lambda _: THROTTLED, retries=Retries(throttled_s=0.05, first_pause_s=0.001))
    with pytest.raises(RemoteError, match="TooManyRequestsException"):
        chain.infer({"x": X})


def test_a_failure_does_not_wait_for_the_other_branch_which_still_cleans_up(make: Make, tmp_path: Path) -> None:
    began, failed, ended = Event(), Event(), Event()

    def branches(call: Call) -> Answered | None:
        if call.function == "slice-0":
            assert began.wait(20)
            return Answered(b"", "EngineError", "broken")
        began.set()
        assert failed.wait(20)
        return None

    chain, invoker = make(diamond, slices=3, before=branches, inline_bytes=1)
    function = invoker.functions["slice-1"]
    whole = function.answer_bytes

    def answer(payload: bytes) -> bytes:
        try:
            return whole(payload)
        finally:
            ended.set()

    function.answer_bytes = answer  # type: ignore[method-assign]  # to know when it has ended
    with pytest.raises(RemoteError, match="slice 0"):
        chain.infer({"x": np.ones((1, 8), np.float32)})
    failed.set()
    chain.close()
    assert ended.is_set()
    assert objects(tmp_path) == []


@pytest.mark.parametrize("inputs", [{}, {"x": X, "z": X}, {"x": X.astype(np.float64)}, {"x": X[0]}])
def test_wrong_inputs_are_refused_before_anything_runs(make: Make, inputs: dict[str, np.ndarray]) -> None:
    chain, invoker = make()
    with pytest.raises(InputError):
        chain.infer(inputs)
    assert not invoker.counts


@pytest.mark.parametrize("request_id", ["", "a/b", "../x", "x" * 129, "größe"])
def test_a_request_id_that_could_leave_its_place_is_refused(make: Make, request_id: str) -> None:
    chain, _ = make()
    with pytest.raises(UsageError, match="request id"):
        chain.infer({"x": X}, request_id=request_id)


def test_one_slice_alone(make: Make, tmp_path: Path) -> None:
    chain, invoker = make()
    first = chain.infer_slice(0, {"x": X})
    step = invoker.workflow.steps[0]
    assert set(first.outputs) == set(step.makes)
    second = chain.infer_slice(1, first.outputs)
    third = chain.infer_slice(2, second.outputs)
    np.testing.assert_array_equal(third.outputs["y"], expected(tmp_path, x=X)["y"])
    assert invoker.counts == {"slice-0": 1, "slice-1": 1, "slice-2": 1}
    with pytest.raises(UsageError, match="no slice 3"):
        chain.infer_slice(3, {})
    with pytest.raises(InputError):
        chain.infer_slice(1, {"x": X})


def test_parallel_starts_come_with_the_first_request_and_after_a_pause(make: Make) -> None:
    chain, invoker = make(cold="parallel", idle_s=3600)
    chain.infer({"x": X})
    assert invoker.started == ["slice-1", "slice-2"]
    chain.infer({"x": X})
    assert len(invoker.started) == 2
    impatient, other = Chain(invoker.workflow, invoker, cold="parallel", idle_s=0), invoker
    impatient.infer({"x": X})
    impatient.infer({"x": X})
    assert len(other.started) == 6


def test_an_output_that_is_an_input_is_a_copy(make: Make) -> None:
    def passing(path: Path) -> Path:
        model = onnx.load(models.mlp(path))
        model.graph.output.append(model.graph.input[0])
        onnx.save(model, path)
        return path

    chain, _ = make(passing)
    given = X.copy()
    found = chain.infer({"x": given}).outputs["x"]
    np.testing.assert_array_equal(found, given)
    assert not np.shares_memory(found, given)


def test_what_is_no_tensor_cannot_be_deployed(tmp_path: Path) -> None:
    sliced = lamella.slice(models.sequence(tmp_path / "model.onnx"), tmp_path / "slices", slices=1)
    with pytest.raises(UnsupportedModelError, match="parts"):
        InProcess(sliced.directory, tmp_path / "functions")


def test_only_old_references_expire(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    store.put("requests/a/0", b"1")
    store.put("weights/b", b"2")
    assert delete_expired(store, older_than_s=3600) == 0
    assert delete_expired(store, older_than_s=-1) == 1
    assert objects(tmp_path) == ["weights/b"]


def test_closing_waits_for_requests_under_way_and_takes_no_more(make: Make) -> None:
    began, go_on, order = Event(), Event(), list[str]()

    def hold(call: Call) -> None:
        if call.function == "slice-0":
            began.set()
            assert go_on.wait(20)

    chain, _ = make(diamond, slices=3, before=hold)
    asking = Thread(target=lambda: (chain.infer({"x": np.ones((1, 8), np.float32)}), order.append("answered")))
    closing = Thread(target=lambda: (chain.close(), order.append("closed")))
    asking.start()
    assert began.wait(20)
    closing.start()
    said, deadline = "", monotonic() + 20
    while "chain is closed" not in said:
        assert monotonic() < deadline
        with pytest.raises(UsageError) as refused:
            chain.infer_slice(9, {})
        said = str(refused.value)
    go_on.set()
    asking.join(20)
    closing.join(20)
    assert sorted(order) == ["answered", "closed"]


FORKING = """
import os
from lamella.errors import UsageError
from lamella.workflow.chain import Chain
from lamella.workflow.steps import Workflow

chain = Chain(Workflow((), (), (), {}, ()), None)
assert chain.infer({}).outputs == {}
child = os.fork()
if child:
    os.waitpid(child, 0)
else:
    try:
        chain.infer({})
    except UsageError as error:
        print(error.message, flush=True)
    os._exit(0)
"""


def test_a_forked_child_is_told_that_the_chain_is_not_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "this chain belongs to the process that this one was forked from\n", done.stderr
