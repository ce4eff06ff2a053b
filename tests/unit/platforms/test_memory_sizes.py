"""The memory sizes that a platform has: equal to a plain count of them, and quick where there are many."""

from collections.abc import Callable
from itertools import product
from time import process_time

from lamella.platforms.base import Limits


def counted(limits: Limits, least_mb: int, step_mb: int) -> list[int]:
    every = range(limits.memory_min_mb, limits.memory_max_mb + 1, limits.memory_step_mb)
    possible = [size for size in every if size >= least_mb]
    if not possible:
        return []
    wide = max(limits.memory_step_mb, step_mb)
    multiples = range(wide, limits.memory_max_mb + 1, wide)
    below = {max((size for size in every if size <= multiple), default=0) for multiple in multiples}
    return sorted({possible[0], limits.memory_max_mb} | {size for size in below if size > possible[0]})


def test_sizes_are_the_counted_ones() -> None:
    several = product((1, 7, 20), (0, 1, 13, 60), (1, 2, 7, 10, 90), (0, 5, 33, 64, 200), (1, 3, 10, 14, 64))
    for smallest, more, step, least_mb, step_mb in several:
        limits = Limits(memory_min_mb=smallest, memory_max_mb=smallest + more, memory_step_mb=step)
        found = limits.memory_sizes(least_mb, step_mb=step_mb)
        assert found == counted(limits, least_mb, step_mb), (limits, least_mb, step_mb)


def test_sizes_in_single_steps_take_no_longer_than_counting_to_them() -> None:
    limits = Limits(memory_min_mb=128, memory_max_mb=1 << 20)
    assert seconds(limits.memory_sizes) < 3 * seconds(lambda: [size for size in range(1 << 20) if size >= 128])


def seconds(call: Callable[[], object]) -> float:
    """The quickest of five calls."""
    times = []
    for _ in range(5):
        started = process_time()
        call()
        times.append(process_time() - started)
    return min(times)
