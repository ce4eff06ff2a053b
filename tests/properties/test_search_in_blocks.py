"""The best chain equals that of all segments at all sizes, however few ends and starts are looked at together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.properties.test_search import CLOSE, cost_models, segments

from lamella.errors import PlanError
from lamella.planner.cost import CostModel
from lamella.planner.criteria import CRITERIA
from lamella.planner.functions import Functions, Priced, Rows
from lamella.planner.goal import Objective
from lamella.planner.segments import Floats, Segments
from lamella.planner.shortest import Grid, Path, runs, shortest


def value_of(objective: Objective, before: Floats, priced: Priced, sizes: Floats) -> Floats:
    """What chains come to with rows at sizes, `[layers, rows, sizes]`."""
    before = before[:, :, None]
    if objective == "latency":
        values = np.maximum(before, priced.ready_ms) + priced.ms
    elif objective == "cost":
        values = before + priced.usd
    else:
        values = np.maximum(before, sizes)
    return np.where(priced.possible, values, np.inf)


def all_sizes(functions: Functions, rows: Rows) -> tuple[Priced, Floats]:
    sizes = functions.sizes_of(functions.least_mb(rows.load))
    return functions.priced(rows, sizes), sizes


def least(functions: Functions, grid: Grid, objective: Objective) -> float:
    """The least value, of all rows at all sizes."""
    found = np.full((grid.layers, grid.positions), np.inf)
    found[0, 0] = 0
    for rows in functions.rows():
        for end, index in runs(rows.end):
            some = rows.take(np.arange(index.start, index.stop))
            values = value_of(objective, found[grid.before][:, some.start], *all_sizes(functions, some))
            found[grid.behind, end] = values.min(axis=(1, 2))
    return float(found[-1, -1])


def value_of_path(functions: Functions, path: Path, objective: Objective) -> float:
    """The least value of a chain of segments."""
    value = np.zeros((1, 1))
    for rows in functions.rows():
        for start, end, parts in path:
            some = rows.take((rows.start == start) & (rows.end == end) & (rows.parts == parts))
            if len(some):
                value = value_of(objective, value, *all_sizes(functions, some)).min(axis=2)
    return float(value[0, 0])


@settings(max_examples=300)
@given(
    segments(most=14),
    cost_models,
    st.sampled_from(["latency", "cost", "memory"]),
    st.sampled_from([None, "sequential", "parallel"]),
    st.sampled_from([None, None, None, 130, 210]),
    st.sampled_from([None, None, 2, 3]),
    st.tuples(*[st.integers(1, 5)] * 6),
)
def test_the_best_chain_is_that_of_all_segments_at_all_sizes(
    part: Segments,
    model: CostModel,
    objective: Objective,
    cold: None,
    most_mb: int | None,
    slices: int | None,
    together: tuple[int, ...],
) -> None:
    try:
        functions = Functions(part, model, cold, most_mb)
    except PlanError:
        return
    grid = Grid(functions.positions, slices)
    expected = least(functions, grid, objective)
    with pytest.MonkeyPatch.context() as patch:
        names = ("_ENDS", "_RUN", "_RUNS", "_PAIRS", "_FEW", "_MANY")
        for name, count in zip(names, together, strict=True):
            patch.setattr(f"lamella.planner.shortest.{name}", count)
        patch.setattr("lamella.planner.criteria._ROWS", together[0])
        found = shortest(functions, grid, CRITERIA[objective](functions))
    if found is None:
        assert np.isinf(expected)
        return
    assert found[0] == pytest.approx(expected, rel=CLOSE)
    assert value_of_path(functions, found[1], objective) == pytest.approx(expected, rel=CLOSE)
