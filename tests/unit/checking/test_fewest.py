"""The fewest slices that fit are the fewest of all cuts."""

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from onnx import helper
from tests import models
from tests.unit.checking.conftest import Settings

from lamella.checking.fewest import _memory_factors, fewest, fewest_slices
from lamella.checking.measuring import measure
from lamella.checking.subject import Subject, open_subjects
from lamella.graph import load
from lamella.planner import plan
from lamella.platforms.base import MB


def tied(path: Path) -> Path:
    """Seven layers of three weights, which take turns irregularly."""
    names = ["a", "b", "a", "c", "b", "c", "a"]
    nodes = [
        helper.make_node("MatMul", [f"h{index}" if index else "x", name], [f"h{index + 1}"])
        for index, name in enumerate(names)
    ]
    weights = [models.weight("a", 16, 16), models.weight("b", 16, 16, seed=1), models.weight("c", 16, 16, seed=2)]
    outputs = [models.floats(f"h{len(names)}", ["batch", 16])]
    return models.save(path, helper.make_graph(nodes, "tied", [models.floats("x", ["batch", 16])], outputs, weights))


@pytest.mark.parametrize("builder", [models.mlp, tied])
@pytest.mark.parametrize("limit", [1_300, 2_300, 3_000, 3_400, 4_500, 5_000, 9_000, 13_000, 20_000])
def test_equal_to_trying_every_set_of_cuts(tmp_path: Path, builder: Callable[[Path], Path], limit: int) -> None:
    cuts = Subject(load(builder(tmp_path / "model.onnx")), None, {}, ()).cuts

    def fits(weights: int, activations: int) -> bool:
        return weights + 2 * activations <= limit

    best = None
    for count in range(len(cuts.positions) + 1):
        for chosen in combinations(cuts.positions, count):
            edges = (0, *chosen, len(cuts.order))
            if best is None and all(fits(*cuts.needs(a, b)) for a, b in pairwise(edges)):
                best = count + 1
    assert fewest(cuts, fits) == best


def test_a_model_that_fits_takes_one(tmp_path: Path, setting: Settings) -> None:
    subjects = open_subjects(models.mlp(tmp_path / "mlp.onnx"), batch=1, custom_ops=())
    where = setting()
    figures = measure(subjects, where.cost_model, 1769, run=False).figures[0]
    assert fewest_slices(where, figures).count == 1


def test_a_package_without_room_for_the_whole_is_cut_as_said(tmp_path: Path, setting: Settings) -> None:
    path = models.mlp(tmp_path / "mlp.onnx", layers=8, width=256)
    subjects = open_subjects(path, batch=1, custom_ops=())
    structure = len(subjects.parts[0].model.structure)
    room = 3 * (256 * 256 + 256) * 4  # three layers of eight
    where = setting(package_unzipped_bytes=setting().closure.unzipped_bytes + structure + room)
    found = fewest_slices(where, measure(subjects, where.cost_model, 1769, run=False).figures[0])
    assert found.count == 3
    planned = plan(path, max_memory_bytes=found.max_memory_bytes)
    assert len(planned.slices) >= 3
    assert all(part.weights_bytes <= room for part in planned.slices)


def test_none_where_the_closure_alone_is_too_large(tmp_path: Path, setting: Settings) -> None:
    subjects = open_subjects(models.mlp(tmp_path / "mlp.onnx"), batch=1, custom_ops=())
    where = setting(package_unzipped_bytes=MB)
    assert fewest_slices(where, measure(subjects, where.cost_model, 1769, run=False).figures[0]).count is None


@pytest.mark.parametrize("builder", [models.residual_conv, models.lookup, models.mlp])
def test_what_was_measured_too_large_does_not_fit_as_a_whole(
    tmp_path: Path, setting: Settings, builder: Callable[[Path], Path]
) -> None:
    subjects = open_subjects(builder(tmp_path / "model.onnx"), batch=1, custom_ops=())
    where = setting(memory_mb=128)
    figures = measure(subjects, where.cost_model, 128, run=False).figures[0]
    too_large = replace(figures, measured=True, peak_bytes=128 * MB + 1)
    floor, weight, activation = _memory_factors(where, too_large)
    load = figures.load
    taken = floor + weight * float(load.weights_bytes) + activation * float(load.activations_bytes)
    assert taken == pytest.approx(too_large.peak_bytes)
    assert fewest_slices(where, too_large).count != 1


def test_an_error_of_the_engine_makes_no_slices_and_a_kill_does(tmp_path: Path, setting: Settings) -> None:
    subjects = open_subjects(models.mlp(tmp_path / "mlp.onnx"), batch=1, custom_ops=())
    where = setting()
    figures = measure(subjects, where.cost_model, 1769, run=False).figures[0]
    assert fewest_slices(where, replace(figures, error="no such operator")).count == 1
    assert fewest_slices(where, replace(figures, error="signal 9", killed=True)).count == 2


def test_activations_that_no_cut_makes_smaller_are_told_apart(tmp_path: Path, setting: Settings) -> None:
    path = models.mlp(tmp_path / "mlp.onnx")
    where = setting(memory_mb=128)
    few, many = (open_subjects(path, batch=batch, custom_ops=()) for batch in (1, 1_000_000))
    assert fewest_slices(where, measure(few, where.cost_model, 128, run=False).figures[0]).activations_fit
    found = fewest_slices(where, measure(many, where.cost_model, 128, run=False).figures[0])
    assert (found.count, found.activations_fit) == (None, False)
