from dataclasses import replace

import pytest

from lamella.targets.local.process import exit_reason
from lamella.targets.local.report import (
    Report,
    billed_ms,
    end_line,
    init_report_line,
    init_start_line,
    start_line,
    timeout_line,
)

WARM = Report("3604209a-e9a3-11e6-939a-754dd98c7be3", 12.34, 13, 128, 18, None, cold_start=False)


def test_lines_are_those_of_aws() -> None:
    assert start_line("ID", "$LATEST") == "START RequestId: ID Version: $LATEST\n"
    assert end_line("ID") == "END RequestId: ID\n"
    assert WARM.line == (
        "REPORT RequestId: 3604209a-e9a3-11e6-939a-754dd98c7be3\tDuration: 12.34 ms\tBilled Duration: 13 ms\t"
        "Memory Size: 128 MB\tMax Memory Used: 18 MB\t\n"
    )
    assert replace(WARM, init_ms=100.0, cold_start=True).line.endswith(
        "\tMax Memory Used: 18 MB\tInit Duration: 100.00 ms\t\n"
    )
    assert replace(WARM, status="timeout", error_type="Sandbox.Timedout").line.endswith("18 MB\tStatus: timeout\t\n")
    assert replace(WARM, status="error", error_type="Runtime.ExitError").line.endswith(
        "18 MB\tStatus: error\tError Type: Runtime.ExitError\t\n"
    )
    assert init_start_line("python:3.13.1", region="us-east-1") == (
        "INIT_START Runtime Version: python:3.13.1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:local\n"
    )
    assert init_report_line(10008.633, phase="init", status="timeout") == (
        "INIT_REPORT Init Duration: 10008.63 ms\tPhase: init\tStatus: timeout\n"
    )
    assert init_report_line(1.5, phase="invoke", status="error", error_type="Runtime.ExitError") == (
        "INIT_REPORT Init Duration: 1.50 ms\tPhase: invoke\tStatus: error\tError Type: Runtime.ExitError\n"
    )
    assert timeout_line("2026-11-21T12:00:00.000Z", "ID", 3) == (
        "2026-11-21T12:00:00.000Z ID Task timed out after 3.00 seconds\n\n"
    )


@pytest.mark.parametrize(
    ("duration_ms", "init_ms", "billed"),
    [(0.01, None, 1), (1.0, None, 1), (1.01, None, 2), (2.34, 100.12, 103), (0.4, 0.4, 1)],
)
def test_begun_milliseconds_are_billed_with_the_start(duration_ms: float, init_ms: float | None, billed: int) -> None:
    assert billed_ms(duration_ms, init_ms) == billed


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (0, "Runtime exited without providing a reason"),
        (1, "Runtime exited with error: exit status 1"),
        (127, "Runtime exited with error: exit status 127"),
        (255, "Runtime exited with error: exit status 255"),
        (-9, "Runtime exited with error: signal: killed"),
        (137, "Runtime exited with error: signal: killed"),
        (139, "Runtime exited with error: signal: segmentation fault"),
        (-6, "Runtime exited with error: signal: aborted"),
        (-40, "Runtime exited with error: signal: signal 40"),
    ],
)
def test_an_exit_reads_as_on_aws(code: int, reason: str) -> None:
    assert exit_reason(code) == reason
