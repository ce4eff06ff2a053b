"""What the command line prints, by itself."""

import json

import pytest

from lamella.cli import output


def test_names_from_a_model_cannot_steer_the_terminal() -> None:
    assert output.printable("a\x1b[2Jb\nc\r\u202ed\udc80") == "a\\x1b[2Jb\\nc\\r\\u202ed\\udc80"
    assert output.printable("größe 図") == "größe 図"


def test_numbers_that_json_lacks_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    values = [float("nan"), float("inf"), -float("inf"), 1.5]
    output.json_object("lamella.test/1", {"values": values, "inner": {"tuple": (1, None)}})
    shown = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert shown == {
        "schema": "lamella.test/1",
        "values": ["NaN", "Infinity", "-Infinity", 1.5],
        "inner": {"tuple": [1, None]},
    }


def test_table_in_a_pipe_is_plain_aligned_and_never_folded(capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 300
    output.table(["name", "bytes"], [("[red]a[/red] :smile:", "1"), (long, "1,000")], right=(1,))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "[red]a[/red]", long]
    assert [len(line) for line in lines] == [307, 307, 307]
    assert lines[1].endswith(":smile:" + " " * 286 + "1")


def test_errors_and_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("it failed\nbadly", "try again")
    output.error("no way out", None)
    output.warning("odd")
    output.message("done")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "error: it failed\\nbadly\nhint: try again\nerror: no way out\nwarning: odd\ndone\n"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (90_868_736, "90.9 MB"), (5 * 10**12, "5.0 TB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert output.size(size) == text


def test_other_figures_for_people() -> None:
    assert output.memory(161 << 20) == "161 MiB"
    assert output.count(22_713_216) == "22,713,216"
    assert output.milliseconds(0.8249) == "0.82 ms"
    assert output.milliseconds(1250) == "1.25 s"
    assert [output.number(value) for value in (None, 3, 0.123456, float("nan"))] == ["-", "3", "0.1235", "nan"]
