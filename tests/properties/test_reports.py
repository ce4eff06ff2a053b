"""What is written as a `REPORT` line is read as it was, whatever else is in the log; and no text is an accident."""

from hypothesis import given
from hypothesis import strategies as st

from lamella.targets.base import LogLine
from lamella.targets.local.report import Report
from lamella.targets.reports import read_invocations, read_report

HUNDREDTHS = st.integers(0, 10**8).map(lambda number: number / 100)
IDS = st.uuids().map(str)
REPORTS = st.builds(
    Report,
    IDS,
    HUNDREDTHS,
    st.integers(1, 10**6),
    st.integers(128, 10240),
    st.integers(1, 10240),
    st.none() | HUNDREDTHS,
    st.booleans(),
    st.sampled_from(["success", "error", "timeout"]),
    st.none() | st.sampled_from(["Runtime.ExitError", "Runtime.OutOfMemory"]),
)
PROGRAM = st.text(max_size=40).filter(lambda text: "REPORT" not in text and "LAMELLA" not in text)


@given(REPORTS, st.text(max_size=60).filter(lambda text: "REPORT" not in text))
def test_a_line_of_the_local_platform_is_read_as_it_was_written(report: Report, before: str) -> None:
    found = read_report(f"{before}\n{report.line}")
    assert found is not None
    assert found.request_id == report.request_id
    assert (found.duration_ms, found.billed_ms) == (report.duration_ms, report.billed_ms)
    assert (found.memory_mb, found.max_memory_mb) == (report.memory_mb, report.max_memory_mb)
    assert (found.init_ms, found.restore_ms, found.status) == (report.init_ms, None, report.status)
    assert found.error_type == (report.error_type if report.status == "error" else None)


@given(st.text() | st.text(alphabet="REPORT Requstd:LAML0.\tDuation ms\n").map("REPORT RequestId: ".__add__))
def test_no_text_is_an_accident(text: str) -> None:
    found = read_report(text)
    assert found is None or found.request_id
    read_invocations([LogLine(0, "f", line, 1) for line in text.split("\n")], {})


@given(
    st.lists(st.tuples(REPORTS, IDS, PROGRAM), unique_by=lambda entry: entry[0].request_id, max_size=8), st.randoms()
)
def test_runs_are_joined_to_requests_in_whatever_order_lines_come(
    entries: list[tuple[Report, str, str]], random: object
) -> None:
    lines = []
    for number, (report, request, said) in enumerate(entries):
        named = f"LAMELLA RequestId: {report.request_id}\tRequest: {request}"
        lines += [LogLine(0, "f", text, number) for text in (named, said, report.line.rstrip("\n"))]
    random.shuffle(lines)  # type: ignore[attr-defined]
    found = read_invocations([*lines, *lines], {"f": "model"})
    assert [(run.request, run.ended_ms) for run in found] == [
        (request, number) for number, (_, request, _) in enumerate(entries)
    ]
    assert {run.model for run in found} <= {"model"}
