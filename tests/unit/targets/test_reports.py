"""`REPORT` lines as AWS documents them.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
"""

import json
from dataclasses import asdict

from lamella.runtime.slice_function import PING_LINE, REQUEST_LINE
from lamella.targets.base import LogLine
from lamella.targets.reports import Reports, read_invocations, read_report, read_reports, reports_of

WARM = (
    "REPORT RequestId: 8f507cfc-xmpl-4697-b07a-ac58fc914c95\tDuration: 15.74 ms\tBilled Duration: 16 ms\t"
    "Memory Size: 128 MB\tMax Memory Used: 56 MB\n"
)
COLD = WARM.replace("Max Memory Used: 56 MB", "Max Memory Used: 56 MB\tInit Duration: 130.49 ms")
RESTORED = WARM.replace(
    "Max Memory Used: 56 MB", "Max Memory Used: 56 MB\tRestore Duration: 536.45 ms\tBilled Restore Duration: 85 ms"
)


def test_the_fields_of_a_report() -> None:
    found = read_report(f"START RequestId: x\n{WARM}")
    assert found is not None
    assert found.request_id == "8f507cfc-xmpl-4697-b07a-ac58fc914c95"
    assert (found.duration_ms, found.billed_ms, found.memory_mb, found.max_memory_mb) == (15.74, 16, 128, 56)
    assert (found.init_ms, found.restore_ms) == (None, None)


def test_a_start_and_a_restore_are_told_apart() -> None:
    cold, restored = read_report(COLD), read_report(RESTORED)
    assert cold is not None
    assert restored is not None
    assert (cold.init_ms, cold.restore_ms) == (130.49, None)
    assert (restored.init_ms, restored.restore_ms) == (None, 536.45)


def test_lines_that_are_no_reports_are_passed_over() -> None:
    assert read_report("REPORT RequestId: x Duration: 1 ms") is None
    assert [found.billed_ms for found in read_reports(["START RequestId: x", WARM, "END RequestId: x", COLD])] == [
        16,
        16,
    ]


def test_what_is_charged_for_a_restore_is_charged() -> None:
    restored = read_report(RESTORED)
    assert restored is not None
    assert restored.billed_ms == 16 + 85


def test_how_a_request_ended() -> None:
    timed_out = read_report(WARM.rstrip("\n") + "\tStatus: timeout\n")
    assert timed_out is not None
    assert (timed_out.status, timed_out.error_type) == ("timeout", None)
    failed = read_report(WARM.rstrip("\n") + "\tStatus: error\tError Type: Runtime.ExitError\n")
    assert failed is not None
    assert (failed.status, failed.error_type) == ("error", "Runtime.ExitError")


def report(request: str, ms: int = 16) -> str:
    return WARM.replace("8f507cfc-xmpl-4697-b07a-ac58fc914c95", request).replace("15.74", str(ms)).rstrip("\n")


def test_runs_of_one_request_are_joined_by_what_functions_say() -> None:
    """In the very lines that functions write."""
    lines = [
        LogLine(0, "f-0", REQUEST_LINE.format(invocation="a", request="r").rstrip("\n"), 10),
        LogLine(0, "f-0", report("a"), 20),
        LogLine(1, "f-1", REQUEST_LINE.format(invocation="b", request="r").rstrip("\n"), 30),
        LogLine(1, "f-1", report("b"), 40),
        LogLine(0, "f-0", PING_LINE.format(invocation="c").rstrip("\n"), 50),
        LogLine(0, "f-0", report("c"), 60),
        LogLine(-1, "door", report("d"), 70),
    ]
    found = read_invocations(lines, {"f-0": "m", "f-1": "m"})
    assert [(run.request, run.model, run.slice, run.ended_ms, run.ping) for run in found] == [
        ("r", "m", 0, 20, False),
        ("r", "m", 1, 40, False),
        ("c", "m", 0, 60, True),
        ("d", "", None, 70, False),
    ]


def test_only_what_ended_in_the_span_of_time_counts() -> None:
    lines = [LogLine(0, "f", report(str(time)), time) for time in (9, 10, 19, 20)] + [LogLine(0, "f", report("?"))]
    found = read_invocations(lines, {}, since_ms=10, until_ms=20)
    assert [run.ended_ms for run in found] == [10, 19]


def test_reports_survive_being_json() -> None:
    found = Reports("arm64", read_invocations([LogLine(0, "f", report("a"), 1)], {"f": "m"}), "eu-central-1")
    assert reports_of(json.loads(json.dumps(asdict(found)))) == found
