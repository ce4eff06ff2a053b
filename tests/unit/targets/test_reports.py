"""`REPORT` lines as AWS documents them.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html
https://docs.aws.amazon.com/lambda/latest/dg/snapstart-monitoring.html
"""

from lamella.targets.reports import read_report, read_reports

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
