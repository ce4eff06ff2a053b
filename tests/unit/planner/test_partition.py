"""The simple criteria choose what they promise, on orders made up for the purpose."""

from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamella.errors import PlanError
from lamella.planner.cuts import Cuts
from lamella.planner.partition import BALANCE_TOLERANCE, balanced, under_memory

Weights = list[list[tuple[str, int]]]


def cuts(
    weights: Weights,
    *,
    crossing: list[int] | None = None,
    alive: list[int] | None = None,
    illegal: frozenset[int] | set[int] = frozenset(),
) -> Cuts:
    count = len(weights)
    inner = crossing or [1] * (count - 1)
    return Cuts(
        order=tuple(range(count)),
        crossing=[0, *inner, 0],
        splits=[False] * (count + 1),
        legal=[position not in illegal for position in range(count + 1)],
        alive=alive or [0] * count,
        weights=[tuple(pairs) for pairs in weights],
    )


def own(*sizes: int) -> Weights:
    return [[(f"w{index}", size)] for index, size in enumerate(sizes)]


def largest(found: Cuts, positions: tuple[int, ...]) -> int:
    return max(sum(found.needs(a, b)) for a, b in pairwise((0, *positions, len(found.order))))


orders = st.integers(2, 9).flatmap(
    lambda n: st.builds(
        cuts,
        st.lists(
            st.lists(st.tuples(st.sampled_from("abcdefgh"), st.just(0)), max_size=2).map(
                lambda pairs: [(name, (ord(name) - 96) * 10) for name, _ in dict.fromkeys(pairs)]
            ),
            min_size=n,
            max_size=n,
        ),
        crossing=st.lists(st.integers(1, 50), min_size=n - 1, max_size=n - 1),
        alive=st.lists(st.integers(0, 30), min_size=n, max_size=n),
        illegal=st.sets(st.integers(1, n - 1), max_size=2),
    )
)


@given(orders, st.integers(1, 200))
def test_a_memory_limit_gives_the_fewest_slices_and_of_those_the_smallest_crossing(found: Cuts, limit: int) -> None:
    possible = [
        chosen
        for count in range(len(found.positions) + 1)
        for chosen in combinations(found.positions, count)
        if largest(found, chosen) <= limit
    ]
    if not possible:
        with pytest.raises(PlanError, match="cannot be cut"):
            under_memory(found, limit)
        return
    fewest = min(map(len, possible))
    best = min(sum(found.crossing[p] for p in chosen) for chosen in possible if len(chosen) == fewest)
    partition = under_memory(found, limit)
    assert partition.largest_bytes <= limit
    assert len(partition.positions) == fewest
    assert partition.crossing_bytes == best


@example(cuts([[], [], [], [], [("a", 10)], [("b", 20)]], crossing=[1, 1, 1, 1, 2]), 4)
@given(orders, st.integers(1, 5))
def test_slices_are_as_many_as_asked_for_at_legal_cuts_and_nearly_balanced(found: Cuts, count: int) -> None:
    if len(found.positions) + 1 < count:
        with pytest.raises(PlanError, match="too few"):
            balanced(found, count)
        return
    partition = balanced(found, count)
    assert len(partition.positions) == count - 1
    assert set(partition.positions) <= set(found.positions)
    best = min(largest(found, chosen) for chosen in combinations(found.positions, count - 1))
    room = max(found.alive)  # what a chosen position may differ by from its neighbours without weights between them
    assert partition.largest_bytes <= int(best * 1.01 * BALANCE_TOLERANCE) + 1 + room


def test_a_part_that_cannot_be_cut_does_not_set_the_measure_for_the_others() -> None:
    found = cuts(own(1000, 10, 10, 10, 10, 10, 10, 10, 10))
    others = [sum(found.needs(a, b)) for a, b in pairwise((*balanced(found, 5).positions, 9))]
    assert max(others) <= 20 * BALANCE_TOLERANCE


def test_of_balanced_partitions_the_one_with_the_smallest_crossing_is_taken() -> None:
    assert balanced(cuts(own(10, 10, 1, 10, 10), crossing=[9, 9, 2, 9]), 2).positions == (3,)


def test_a_cut_behind_an_activation_is_preferred_to_one_before_it() -> None:
    found = cuts([[("a", 10)], [], [("b", 10)]], crossing=[4, 4])
    assert balanced(found, 2).positions == (2,)


def test_a_shared_weight_counts_once_in_a_slice() -> None:
    shared = cuts([[("table", 100)], [("w", 1)], [("table", 100)]])
    assert under_memory(shared, 101).positions == ()


def test_the_message_names_the_weight_that_is_too_large() -> None:
    with pytest.raises(PlanError, match="most of it in `w1`") as error:
        under_memory(cuts(own(10, 500, 10)), 100)
    assert error.value.hint == "raise `--max-memory` by at least 400 bytes"
