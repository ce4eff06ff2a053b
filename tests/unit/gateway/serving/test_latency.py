"""Which number of rows pays, by what was measured."""

from lamella.gateway.serving.latency import Curve, Curves


def test_a_batch_that_takes_as_long_as_its_rows_alone_does_not_pay() -> None:
    curve = Curve(64, {1: 10, 2: 20, 4: 40, 8: 80})
    assert curve.best() == 1


def test_rows_that_cost_little_more_together_pay() -> None:
    curve = Curve(64, {1: 10, 2: 11, 4: 12, 8: 14, 16: 28})
    assert curve.best() == 8


def test_more_is_tried_while_the_largest_size_that_was_measured_is_the_best() -> None:
    curve = Curve(64, {1: 10, 2: 11, 4: 12})
    assert curve.best() == 8
    assert Curve(6, {1: 10, 2: 11, 4: 12}).best() == 6


def test_what_is_assumed_is_scaled_by_the_first_measurement() -> None:
    curve = Curve(64, {1: 10, 2: 11, 4: 22})
    assert curve.ms(1) is None
    curve.add(1, 1.0)
    assert curve.ms(2) == 1.1
    assert curve.best() == 2


def test_a_larger_batch_is_tried_again_now_and_then() -> None:
    curve = Curve(64, {1: 10, 2: 20})
    assert sorted({curve.best() for _ in range(200)}) == [1, 2]


def test_what_disturbs_a_measurement_does_not_count_as_the_least_time() -> None:
    curve = Curve(64)
    for ms in (0.1, 0.1, 9.0, 0.1):
        curve.add(1, ms)
    assert curve.least_ms(1) == 0.1


def test_curves_are_apart_by_shape_and_bounded() -> None:
    curves = Curves(8, adaptive=True)
    curves.add("a", 1, 1.0)
    assert curves.ms("b", 1) is None
    for number in range(500):
        curves.add(number, 1, 1.0)
    assert curves.ms("a", 1) is None


def test_a_size_that_was_asked_for_is_not_adapted() -> None:
    curves = Curves(8, adaptive=False)
    for rows in (1, 2, 4, 8):
        curves.add("a", rows, 10.0 * rows)
    assert {curves.best("a") for _ in range(100)} == {8}
