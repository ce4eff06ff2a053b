"""A function's log: one file, and what was said during one request."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LARGEST_BYTES = 10 << 20
OLDER_FILES = 3
TAIL_BYTES = 4096
"""What `LogType: Tail` returns. https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"""

_LONGEST_LINE = 1 << 16
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ")


class LogFile:
    """A log that begins anew when it is full: `NAME.log`, then `NAME.log.1` and so on, the oldest last.

    What cannot be written, as on a full disk, is lost; what logs goes on.

    Args:
        path: The file.
        largest_bytes: When it is full.
        older: Full ones that are kept.
    """

    def __init__(self, path: Path, *, largest_bytes: int = LARGEST_BYTES, older: int = OLDER_FILES) -> None:
        self.path = path
        self._largest_bytes, self._older = largest_bytes, older
        self._closed = False
        self._file = self._open()

    def _open(self) -> int:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(file).st_size
        return file

    def write(self, content: bytes) -> None:
        """Append whole lines."""
        if self._closed:
            return
        with suppress(OSError):
            if self._file < 0:  # it could not be opened anew
                self._file = self._open()
            if self._size and self._size + len(content) > self._largest_bytes:
                self._rotate()
            self._size += os.write(self._file, content)

    def _rotate(self) -> None:
        self._close_file()
        for number in range(self._older, 0, -1):
            source = self.path if number == 1 else self.path.with_name(f"{self.path.name}.{number - 1}")
            if source.exists():
                source.replace(self.path.with_name(f"{self.path.name}.{number}"))
        self._file = self._open()

    def close(self) -> None:
        """Close the file; what is written later is lost."""
        self._closed = True
        self._close_file()

    def _close_file(self) -> None:
        if self._file >= 0:
            file, self._file = self._file, -1  # first: its number may be another file's soon
            os.close(file)


def read_stamp(line: str) -> tuple[int | None, str]:
    """When a line of the file was written, in milliseconds since 1970, and the line; None where it does not say."""
    found = _STAMP.match(line)
    if found is None:
        return None, line
    moment = datetime.fromisoformat(found[1])
    return round(moment.timestamp() * 1000), line[found.end() :]


def _stamped(content: bytes) -> bytes:
    """Whole lines with the time in front of each, as in Kubernetes' logs."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z ").encode()
    return b"".join(moment + line + b"\n" for line in content.split(b"\n")[:-1])


class InstanceLog:
    """What one instance says. Lines of several instances may alternate in the file, but none is torn.

    The file has the time in front of each line; what callers get as the end of a log does not, as on AWS.

    Args:
        file: Its function's log.
    """

    def __init__(self, file: LogFile) -> None:
        self._file = file
        self._partial = b""
        self._tail = bytearray()

    def begin(self) -> None:
        """Forget what was said for an earlier request."""
        self._tail.clear()

    @property
    def tail(self) -> str:
        """The end of what was said since then."""
        return bytes(self._tail[-TAIL_BYTES:]).decode(errors="replace")

    def output(self, content: bytes) -> None:
        """The instance has written this."""
        self._tail += content
        if len(self._tail) > 16 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]
        content = self._partial + content
        end = content.rfind(b"\n") + 1
        if len(content) - end > _LONGEST_LINE:  # it is broken, as CloudWatch breaks what is too long for an event
            content += b"\n"
            end = len(content)
        self._partial = content[end:]
        if end:
            self._file.write(_stamped(content[:end]))

    def say(self, line: str) -> None:
        """The platform says this of it: whole lines."""
        if self._partial:
            self._tail += b"\n"
            self._file.write(_stamped(self._partial + b"\n"))
            self._partial = b""
        self._tail += line.encode()
        self._file.write(_stamped(line.encode()))
