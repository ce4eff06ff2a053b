"""Reading log files while they are written, and begun anew when they are full."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import sleep
from typing import TextIO

from lamella.targets.base import LogLine
from lamella.targets.local.logs import OLDER_FILES, read_stamp

_POLL_S = 0.2


@dataclass
class _Log:
    """One function's log, and how far it has been read."""

    slice: int
    function: str
    path: Path
    file: TextIO | None = None
    rest: str = ""

    def read(self) -> list[str]:
        """Whole lines since the last look."""
        if self.file is None:
            with suppress(FileNotFoundError):
                self.file = self.path.open(encoding="utf-8", errors="replace")
        if self.file is None:
            return []
        text = self.file.read()
        if self._is_replaced():
            text += self.file.read()  # what came in between
            self.file.close()
            with suppress(FileNotFoundError):
                self.file = self.path.open(encoding="utf-8", errors="replace")
                text += self.file.read()
        *whole, self.rest = (self.rest + text).split("\n")
        return whole

    def _is_replaced(self) -> bool:
        assert self.file is not None
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self.file.fileno()))
        except FileNotFoundError:
            return False


class LogTail:
    """Several logs, read from their beginnings on.

    Args:
        logs: Slice, function and file of each; a file may not exist yet.
    """

    def __init__(self, logs: Sequence[tuple[int, str, Path]]) -> None:
        self._logs = [_Log(part, function, path) for part, function, path in logs]

    def read(self) -> list[LogLine]:
        """Whole lines that have come since the last time, log by log."""
        return [_line(log.slice, log.function, text) for log in self._logs for text in log.read()]

    def rests(self) -> list[LogLine]:
        """The beginnings of lines that are not whole yet."""
        return [_line(log.slice, log.function, log.rest) for log in self._logs if log.rest]

    def close(self) -> None:
        """Close the files."""
        for log in self._logs:
            if log.file is not None:
                log.file.close()


def kept_lines(part: int, function: str, path: Path) -> Iterator[LogLine]:
    """All whole lines that are kept of one function's log, also in older files, the oldest first."""
    for number in range(OLDER_FILES, -1, -1):
        kept = path.with_name(f"{path.name}.{number}") if number else path
        with suppress(FileNotFoundError), kept.open(encoding="utf-8", errors="replace") as file:
            yield from (_line(part, function, line[:-1]) for line in file if line.endswith("\n"))


def _line(part: int, function: str, written: str) -> LogLine:
    time_ms, text = read_stamp(written)
    return LogLine(part, function, text, time_ms)


def log_lines(tail: LogTail, *, follow: bool) -> Iterator[LogLine]:
    """What the logs hold; with `follow`, what comes as well, without end."""
    try:
        yield from tail.read()
        while follow:
            sleep(_POLL_S)
            yield from tail.read()
        yield from tail.rests()
    finally:
        tail.close()
