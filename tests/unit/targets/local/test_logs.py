import os
from pathlib import Path
from time import time

import pytest

from lamella.targets.local.logs import InstanceLog, LogFile, read_stamp
from lamella.targets.local.tail import kept_lines


def test_a_full_log_begins_anew_and_keeps_some_older_ones(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "f.log", largest_bytes=100, older=2)
    for number in range(6):
        log.write(f"{number:02}-".encode() * 20)
    log.write(b"short")
    log.close()
    log.write(b"too late")
    assert {path.name: path.read_text()[:2] for path in tmp_path.iterdir()} == {
        "f.log": "05",
        "f.log.1": "04",
        "f.log.2": "03",
    }
    assert (tmp_path / "f.log").read_text().endswith("short")
    again = LogFile(tmp_path / "f.log", largest_bytes=100, older=2)
    again.write(b"more" * 20)
    again.close()
    assert (tmp_path / "f.log").read_bytes() == b"more" * 20


def test_lines_of_two_instances_are_not_torn(tmp_path: Path) -> None:
    file, began_ms = LogFile(tmp_path / "f.log"), time() * 1000
    one, two = InstanceLog(file), InstanceLog(file)
    one.output(b"one says ")
    two.output(b"two says this\nand ")
    one.output(b"that\n")
    two.say("END\n")
    file.close()
    lines = [read_stamp(line) for line in (tmp_path / "f.log").read_text().splitlines()]
    assert [text for _, text in lines] == ["two says this", "one says that", "and ", "END"]
    times = [moment for moment, _ in lines if moment is not None]
    assert began_ms - 1 <= times[0] <= times[-1] <= time() * 1000
    assert len(times) == 4
    assert two.tail == "two says this\nand \nEND\n"
    two.begin()
    assert two.tail == ""


def test_a_line_without_an_end_does_not_fill_memory(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "f.log")
    log = InstanceLog(file)
    for _ in range(300):
        log.output(b"x" * 1000)
    assert (tmp_path / "f.log").stat().st_size > 200_000
    assert log.tail == "x" * 4096
    file.close()


def test_a_line_that_is_too_long_is_broken_and_no_byte_is_lost(tmp_path: Path) -> None:
    file = LogFile(tmp_path / "f.log")
    log = InstanceLog(file)
    log.output(b"short\n" + b"x" * 70_000)
    log.output(b"x" * 10 + b"\nlast\n")
    file.close()
    lines = [read_stamp(line)[1] for line in (tmp_path / "f.log").read_text().splitlines()]
    assert lines == ["short", "x" * 70_000, "x" * 10, "last"]
    assert log.tail.endswith("xxx\nlast\n")


def test_a_line_without_a_time_is_read_as_it_is() -> None:
    assert read_stamp("2026-11-22T00:06:40.420Z START") == (1_795_306_000_420, "START")
    assert read_stamp("2026-11-22 START") == (None, "2026-11-22 START")


def test_older_files_are_read_before_newer_ones(tmp_path: Path) -> None:
    log = InstanceLog(LogFile(tmp_path / "f.log", largest_bytes=60, older=3))
    for number in range(6):
        log.say(f"line {number}\n")
    found = list(kept_lines(1, "f", tmp_path / "f.log"))
    assert [line.text for line in found] == [f"line {number}" for number in range(6)][-len(found) :]
    assert len(found) >= 4
    assert {(line.slice, line.function) for line in found} == {(1, "f")}
    assert list(kept_lines(1, "f", tmp_path / "gone.log")) == []


def test_a_log_that_cannot_begin_anew_loses_lines_and_goes_on_later(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    log = LogFile(tmp_path / "folder" / "f.log", largest_bytes=10)
    log.write(b"1234567\n")
    (tmp_path / "folder").rename(tmp_path / "away")
    log.write(b"lost line\n")
    mine = os.open("/dev/null", os.O_WRONLY)  # takes the number of the file that was closed
    log.write(b"lost too\n")
    (tmp_path / "folder").mkdir()
    log.write(b"there\n")
    log.close()
    os.close(mine)  # fails if the log has closed it
    assert (tmp_path / "folder" / "f.log").read_bytes() == b"there\n"


def test_a_full_disk_is_no_error(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full")
    (tmp_path / "f.log").symlink_to("/dev/full")
    log = LogFile(tmp_path / "f.log")
    log.write(b"lost\n")
    log.close()
