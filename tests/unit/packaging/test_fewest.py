"""The fewest slices that fit are the fewest of all cuts."""

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from onnx import helper
from tests import models
from tests.unit.packaging.conftest import Settings

from lamella.graph import load
from lamella.packaging.fewest import fewest, fewest_slices
from lamella.packaging.measuring import measure
from lamella.packaging.subject import Subject, open_subjects
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
