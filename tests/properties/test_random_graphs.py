"""Slices of random graphs equal the whole, to the last bit, for every number of slices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given, settings
from onnx import numpy_helper
from tests.conformance.cases import Item
from tests.conformance.whole import run_whole, same
from tests.properties.random_graphs import ROWS, WIDTH, RandomModel, random_models

import lamella
from lamella.planner import Plan


def feeds(model: RandomModel) -> dict[str, np.ndarray]:
    """The inputs, and other numbers for the initializers that are overridden."""
    generator = np.random.default_rng(0)
    given = {name: generator.standard_normal((ROWS, WIDTH)).astype(np.float32) for name in ("x0", "x1")}
    for tensor in model.proto.graph.initializer:
        if tensor.name in model.overridden:
            given[tensor.name] = np.flip(numpy_helper.to_array(tensor)).copy()
    return given


def assert_only_tensors_cross(plan: Plan) -> None:
    made = {name for part in plan.slices for name in part.outputs}
    for part in plan.slices:
        for name in part.inputs:
            kind = plan.values[name].type
            assert name not in made or (kind is not None and kind.is_tensor)


def assert_equal(directory: Path, inputs: Mapping[str, np.ndarray], expected: Mapping[str, Item]) -> None:
    for low_memory in (False, True):
        with lamella.Pipeline(directory, low_memory=low_memory, optimization="none", threads=1) as pipeline:
            actual = pipeline.infer(inputs)
        assert actual.keys() == expected.keys()
        assert [name for name in expected if not same(expected[name], actual[name])] == []


@settings(max_examples=60)
@given(model=random_models())
def test_slices_equal_the_whole_for_every_number_of_slices(model: RandomModel) -> None:
    with TemporaryDirectory() as folder:
        inputs = feeds(model)
        path = model.save(Path(folder))
        expected = run_whole(path, inputs)
        loaded = lamella.load(path)
        most = len(lamella.plan(loaded, slices="max").slices)
        for count in range(1, most + 1):
            plan = lamella.plan(loaded, slices=count)
            assert len(plan.slices) == count
            assert_only_tensors_cross(plan)
            lamella.slice(plan, Path(folder, "slices"), copy_weights=count % 2 == 0, verify=False)
            assert_equal(Path(folder, "slices"), inputs, expected)
