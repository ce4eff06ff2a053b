"""Rows of a batch must not depend on each other; the node that mixes them is named."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests import models
from tests.unit.checking.conftest import Settings

import lamella
from lamella.checking.measuring import measure
from lamella.checking.report import Check
from lamella.checking.rows import batch_check
from lamella.checking.subject import open_subjects
from lamella.graph import samples


def chain(path: Path, nodes: Sequence[Any], *, weights: Sequence[Any] = (), width: int = 8) -> Path:
    inputs, outputs = [models.floats("x", ["batch", width])], [models.floats("y", ["rows", "columns"])]
    return models.save(path, helper.make_graph(list(nodes), "chain", inputs, outputs, list(weights)))


def reshaped(path: Path, shape: list[int]) -> Path:
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], "relu"),
        helper.make_node("Reshape", ["positive", "shape"], ["flat"], "bake"),
        helper.make_node("MatMul", ["flat", "w"], ["y"], "matmul"),
    ]
    return chain(path, nodes, weights=[numpy_helper.from_array(np.array(shape), "shape"), models.weight("w", 8, 4)])


def checked(setting: Settings, path: Path, *, batch: int = 1, run: bool = True) -> list[Check]:
    where = setting(batch=batch)
    subjects = open_subjects(path, batch=batch, custom_ops=())
    measurement = measure(subjects, where.cost_model, 1769, run=run)
    return list(batch_check(where, subjects, measurement, run=run))


@pytest.mark.parametrize("builder", [models.mlp, models.lookup])
def test_rows_that_do_not_mix_are_fine(tmp_path: Path, setting: Settings, builder: Any) -> None:
    (check,) = checked(setting, builder(tmp_path / "model.onnx"), batch=3)
    assert (check.verdict, check.value) == ("ok", 3)
    assert check.detail == "1, 2, 5 rows give equal rows"


@pytest.mark.parametrize(("batch", "verdict"), [(1, "warning"), (2, "violated")])
@pytest.mark.parametrize("shape", [[1, 8], [1, -1]])
def test_a_fixed_reshape_is_named_even_where_a_later_node_fails(
    tmp_path: Path, setting: Settings, shape: list[int], batch: int, verdict: str
) -> None:
    (check,) = checked(setting, reshaped(tmp_path / "model.onnx", shape), batch=batch)
    assert (check.verdict, check.value, check.allowed) == (verdict, batch, 1)
    assert check.detail is not None
    assert "5 rows do not run" in check.detail
    assert check.detail.endswith("; Reshape 'bake' bakes the batch in")


def test_a_mean_over_all_rows_is_found_by_its_values(tmp_path: Path, setting: Settings) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["bent"], "tanh"),
        helper.make_node("ReduceMean", ["bent"], ["mean"], "mean of all", axes=[0], keepdims=1),
        helper.make_node("Sub", ["bent", "mean"], ["y"], "centre"),
    ]
    (check,) = checked(setting, chain(tmp_path / "model.onnx", nodes))
    assert check.verdict == "warning"
    assert check.detail is not None
    assert "differs by" in check.detail
    assert "ReduceMean 'mean of all' mixes the rows" in check.detail


def test_an_output_without_rows_is_no_batch(tmp_path: Path, setting: Settings) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], "total", keepdims=1)]
    (check,) = checked(setting, chain(tmp_path / "model.onnx", nodes))
    assert check.detail == ("output `y` has shape [1, 1] for 5 rows, [1, 1] for one; ReduceSum 'total' mixes the rows")


@pytest.mark.parametrize(("batch", "verdict"), [(1, "warning"), (4, "violated")])
def test_a_fixed_first_dimension_takes_one_row(tmp_path: Path, setting: Settings, batch: int, verdict: str) -> None:
    (check,) = checked(setting, models.residual_conv(tmp_path / "model.onnx"), batch=batch)
    assert (check.verdict, check.allowed) == (verdict, 1)
    assert check.detail == "the first dimension of input `image` is fixed at 1"


def test_a_model_that_answers_at_random_is_not_blamed(tmp_path: Path, setting: Settings) -> None:
    nodes = [
        helper.make_node("RandomUniformLike", ["x"], ["noise"], "noise"),
        helper.make_node("Add", ["x", "noise"], ["y"], "add"),
    ]
    (check,) = checked(setting, chain(tmp_path / "model.onnx", nodes))
    assert check.verdict == "skipped"
    assert check.detail == "no output answers the same way twice, so no rows were compared"


def test_nothing_is_claimed_without_a_run(tmp_path: Path, setting: Settings) -> None:
    (check,) = checked(setting, models.mlp(tmp_path / "model.onnx"), run=False)
    assert (check.verdict, check.value) == ("skipped", None)


@pytest.mark.parametrize("run", [True, False])
def test_several_rows_that_were_not_tried_are_a_warning(tmp_path: Path, setting: Settings, run: bool) -> None:
    path = models.mlp(tmp_path / "model.onnx") if not run else quarter(tmp_path / "model.onnx")
    (check,) = checked(setting, path, batch=8, run=run)
    assert (check.verdict, check.value) == ("warning", 8)
    assert check.hint is not None


def quarter(path: Path) -> Path:
    """A model with an input of four bits an element, which does not travel."""
    given = helper.make_tensor_value_info("x", TensorProto.UINT4, ["batch", 8])
    nodes = [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)]
    return models.save(path, helper.make_graph(nodes, "quarter", [given], [models.floats("y", ["batch", 8])]), {"": 21})


@pytest.mark.parametrize(("batch", "verdict"), [(1, "warning"), (3, "violated"), (8, "ok"), (9, "violated")])
def test_a_model_of_eight_rows_takes_eight(tmp_path: Path, setting: Settings, batch: int, verdict: str) -> None:
    inputs, outputs = [models.floats("x", [8, 4])], [models.floats("y", [8, 4])]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "eight", inputs, outputs)
    (check,) = checked(setting, models.save(tmp_path / "eight.onnx", graph), batch=batch)
    assert (check.verdict, check.value, check.allowed) == (verdict, batch, 8)


@pytest.mark.parametrize(
    ("builder", "verdict"),
    [
        (models.residual_conv, "violated"),
        (lambda path: reshaped(path, [1, 8]), "violated"),
        (models.mlp, "ok"),
    ],
)
def test_slices_take_as_many_rows_as_their_model(tmp_path: Path, setting: Settings, builder: Any, verdict: str) -> None:
    lamella.slice(builder(tmp_path / "model.onnx"), tmp_path / "model.slices", slices=2)
    (check,) = checked(setting, tmp_path / "model.slices", batch=4)
    assert (check.verdict, check.value) == (verdict, 4)


def test_rows_that_are_too_many_to_make_up_are_told(
    tmp_path: Path, setting: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "_MOST_ELEMENTS", 64)  # five rows of 32 are more
    (check,) = checked(setting, models.mlp(tmp_path / "model.onnx"))
    assert (check.verdict, check.value) == ("skipped", None)
    assert "cannot be made up" in (check.detail or "")
