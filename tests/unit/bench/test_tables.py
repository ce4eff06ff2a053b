import csv
from pathlib import Path

from tests.measurements import made_up

from lamella.bench.tables import COLUMNS, write_csv


def test_a_row_is_a_run_by_time(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    write_csv(made_up(), path)
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header) == COLUMNS
    assert len(rows) == 2 * 10 + 3
    found = [dict(zip(header, row, strict=True)) for row in rows]
    assert found[0]["time"] == "2026-11-22T00:06:40.420Z"
    assert [found[0][name] for name in ("request", "whole", "slice", "cold_start")] == ["r0", "true", "0", "true"]
    assert (found[0]["init_ms"], found[2]["init_ms"]) == ("400.0", "")
    assert {one["request_latency_ms"] for one in found if one["request"] == "r0"} == {"855.0"}
    assert (found[-1]["slice"], found[-1]["whole"]) == ("door", "false")
    assert [one["time"] for one in found] == sorted(one["time"] for one in found)
