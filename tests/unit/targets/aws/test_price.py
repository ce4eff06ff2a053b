"""Prices: sums that can be done by hand."""

from typing import Any

import pytest
from tests.aws_stacks import chain, release, settings, side_by_side

from lamella.platforms import load_platform
from lamella.targets.aws.price import MONTH_S, Estimate, Usage, copying_usd, estimate, prices
from lamella.targets.aws.release import Model

AWS = load_platform("aws-lambda")
SECOND = 1769 / 1024 * 0.0000166667


def priced(model: Model, requests: int = 1000, ms: float = 100, **chosen: Any) -> dict[str, float]:
    return {line.what: line.estimated_month_usd for line in estimated(model, requests, ms, **chosen).lines}


def estimated(model: Model, requests: int = 1000, ms: float = 100, **chosen: Any) -> Estimate:
    setup = settings(**chosen)
    found = release(setup, model)
    usage = Usage(requests, {function.name: ms for function in found.functions if not function.is_door}, 0.01, 2)
    return estimate(setup, found, usage, platform=AWS)


def test_functions_are_paid_for_their_time_and_for_each_request() -> None:
    found = priced(chain(3))
    assert found["functions: time"] == pytest.approx(1000 * 3 * 0.1 * SECOND)
    assert found["functions: requests"] == pytest.approx(1000 * 3 * 0.0000002)
    assert found["objects: requests"] == pytest.approx(1000 * 2 * (0.000005 + 0.0000004))


def test_slices_that_invoke_each_other_are_paid_while_they_wait() -> None:
    assert priced(chain(3), workflow="direct")["functions: time"] == pytest.approx(1000 * 0.1 * (3 + 2 + 1) * SECOND)


def test_workflows_are_paid_by_run_and_time_or_by_state() -> None:
    express = 0.000001 + 0.3 * 64 / 1024 * 0.00001667
    assert priced(chain(3))["workflows"] == pytest.approx(1000 * express)
    states = 3 + 1 + 1  # the slices, the answer, the start
    assert priced(chain(3), workflow="standard")["workflows"] == pytest.approx(1000 * states * 0.000025)
    assert "workflows" not in priced(chain(3), workflow="direct")
    assert "workflows" not in priced(chain(1))


def test_slices_side_by_side_take_the_time_of_one() -> None:
    usual, wide = priced(chain(4))["workflows"], priced(side_by_side())["workflows"]
    assert wide < usual


def test_what_stands_by_is_paid_without_requests() -> None:
    idle = estimated(chain(2), 0, provisioned_concurrency=3)
    gb = 2 * 1769 / 1024
    assert idle.idle_month_usd == pytest.approx(3 * gb * MONTH_S * 0.0000041667, rel=1e-3)
    assert idle.idle_month_usd == idle.month_usd
    assert idle.per_1000_usd == 0
    snapshots = {line.what: line.estimated_month_usd for line in estimated(chain(2), 0, snap_start=True).lines}
    assert snapshots["snapshots: kept"] == pytest.approx(gb * MONTH_S * 0.0000015046)


def test_the_largest_item_comes_first_and_1000_requests_are_what_1000_more_would_cost() -> None:
    small, large = estimated(chain(2), 10_000), estimated(chain(2), 11_000)
    amounts = [line.estimated_month_usd for line in small.lines]
    assert amounts == sorted(amounts, reverse=True)
    assert large.month_usd - small.month_usd == pytest.approx(small.per_1000_usd)


def test_images_are_paid_for_what_the_repository_holds() -> None:
    chosen = settings(delivery="image")
    found = release(chosen, chain(2), package_bytes=1 << 30)
    lines = estimate(chosen, found, Usage(requests=0), platform=AWS, kept=3).lines
    assert [(line.what, line.estimated_month_usd) for line in lines] == [("images", pytest.approx(3 * 2 * 0.10))]


def test_a_file_system_is_paid_for_what_is_on_it_and_what_cold_starts_read() -> None:
    chosen = settings(delivery="mount", mount="efs")
    usage = Usage(1000, cold_share=0.1, weights_bytes=2 << 30)
    lines = estimate(chosen, release(chosen, chain(2)), usage, platform=AWS).lines
    found = {line.what: line.estimated_month_usd for line in lines}
    assert found["file system: stored"] == pytest.approx(2 * 0.30)
    assert found["file system: read"] == pytest.approx(1000 * 0.1 * 2 * 0.03)
    packages_gb = 2 * 50_000_000 / (1 << 30)
    assert found["objects: stored"] == pytest.approx(packages_gb * 0.023), "the bucket only passes the model"
    assert copying_usd(chosen, 2 << 30) == pytest.approx(2 * 0.06)
    assert copying_usd(settings(delivery="mount", mount="s3-files"), 2 << 30) == 0


def test_every_price_is_above_nothing() -> None:
    assert min(prices().values()) > 0
