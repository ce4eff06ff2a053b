"""The only place that prints. Data goes to stdout, messages to stderr; styling and spinners to a terminal only."""

from __future__ import annotations

import json
import math
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, TextIO

from lamella.errors import LamellaWarning, UsageError

if TYPE_CHECKING:
    from rich.console import Console

_PIPE_WIDTH = 10_000  # nothing is folded where a program reads


def prepare() -> None:
    """Let names that a stream's encoding lacks be printed as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def json_object(schema: str, content: Mapping[str, object]) -> None:
    """Print one JSON object; numbers that JSON lacks become the texts `NaN`, `Infinity` and `-Infinity`."""
    print(json.dumps(_finite({"schema": schema, **content}), indent=2, allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def line(text: str = "") -> None:
    """Print one line of data."""
    print(printable(text))


def text(content: str) -> None:
    """Print text that is data of its own, such as a file's, as it is."""
    sys.stdout.write(content)


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, aligned."""
    _print_table(None, pairs, ())


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print a table.

    Args:
        headers: One a column.
        rows: Cells; a longer row than `headers` is a mistake.
        right: Indices of the columns that are aligned to the right.
    """
    _print_table(headers, rows, right)


def _print_table(headers: Sequence[str] | None, rows: Sequence[Sequence[str]], right: Sequence[int]) -> None:
    from rich.table import Table

    shown = Table(box=None, show_header=headers is not None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for index, header in enumerate(headers or rows[0]):
        style = "dim" if headers is None and index == 0 else None
        shown.add_column(printable(header), justify="right" if index in right else "left", overflow="fold", style=style)
    for row in rows:
        shown.add_row(*(printable(cell) for cell in row))
    console = _console(sys.stdout)
    with console.capture() as captured:
        console.print(shown)
    for text in captured.get().splitlines():
        print(text.rstrip())


def message(text: str) -> None:
    """Say something to the user that is no data."""
    print(printable(text), file=sys.stderr)


def warning(text: str) -> None:
    """Say that something is not as the user may expect."""
    _labelled("warning:", "yellow", text)


@contextmanager
def warnings_said() -> Iterator[None]:
    """Say Lamella's own warnings as messages, each once."""
    said: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, LamellaWarning):
            shown(message, category, filename, lineno, file, line)
        elif str(message) not in said:
            said.add(str(message))
            warning(str(message))

    with warnings.catch_warnings():
        shown = warnings.showwarning
        warnings.simplefilter("always", LamellaWarning)
        warnings.showwarning = show
        yield


def error(text: str, hint: str | None) -> None:
    """Say what failed, and the way out."""
    _labelled("error:", "bold red", text)
    if hint:
        _labelled("hint:", "cyan", hint)


def _labelled(label: str, style: str, text: str) -> None:
    if not sys.stderr.isatty():
        message(f"{label} {text}")
        return
    from rich.text import Text

    _console(sys.stderr).print(Text.assemble((label, style), " ", printable(text)), soft_wrap=True)


def confirmed(question: str) -> bool:
    """Ask on the terminal whether to go on; without one, the answer is no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    print(f"{printable(question)} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def status(text: str) -> Iterator[None]:
    """Show a spinner on a terminal while something takes its time."""
    if not sys.stderr.isatty():
        yield
        return
    with _console(sys.stderr).status(printable(text)):
        yield


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    class PipedConsole(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich would end the process here, with another exit status

    return PipedConsole(
        file=stream, markup=False, emoji=False, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH
    )


def binary_stdout() -> BinaryIO:
    """Standard output for bytes.

    Raises:
        UsageError: It is a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("binary data is not written to a terminal", hint="send it to a file or a pipe: `-o - > FILE`")
    return sys.stdout.buffer


def flush() -> None:
    """Let whoever reads a stream see what it holds so far."""
    sys.stdout.flush()


def finish() -> None:
    """Send everything out.

    Raises:
        OSError: It cannot be written, for instance because nobody reads any more.
    """
    sys.stdout.flush()
    sys.stderr.flush()


def abandon() -> None:
    """Send whatever is still waiting for stdout nowhere, so that the interpreter does not complain at its end."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return  # not a real file: nothing waits
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def printable(text: str) -> str:
    r"""`text` on one line, without what could steer a terminal: names in a model are a stranger's.

    Control characters and lone surrogates become escapes such as `\x1b` and `\n`.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def size(size_bytes: float) -> str:
    """Bytes of data for people: `0 B`, `12.3 KB`, `91.0 MB`, in powers of 1000."""
    for unit in ("B", "KB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def memory(size_bytes: int) -> str:
    """Bytes of memory for people: `161 MiB`, the unit in which limits are set."""
    return f"{size_bytes / (1 << 20):,.0f} MiB"


def count(number: int) -> str:
    """A number with thousands apart: `22,713,216`."""
    return f"{number:,}"


def milliseconds(duration_ms: float) -> str:
    """A duration for people: `0.82 ms`, `1.25 s`."""
    return f"{duration_ms:.2f} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.2f} s"


def number(value: object) -> str:
    """A figure with four significant digits; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
