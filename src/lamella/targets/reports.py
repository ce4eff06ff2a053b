"""What a function's log says about its requests, on AWS and on this machine alike.

```text
REPORT RequestId: ID    Duration: 15.74 ms    Billed Duration: 16 ms    Memory Size: 128 MB    Max Memory Used: 56 MB
LAMELLA RequestId: ID   Request: NAME
LAMELLA RequestId: ID   Ping
```

The platform writes the first line. The function writes the second one where its invocation has another id than the
request that goes through all slices, and the third one for an invocation that is no request
(`lamella.runtime.slice_function`).

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html (the `REPORT` line)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lamella.platforms.base import Architecture
from lamella.targets.base import LogLine

MARKS = ("REPORT", "LAMELLA")
"""What the lines begin with that are read here."""

_FIELD = re.compile(r"([A-Z][A-Za-z ]+): ([0-9.]+) (?:ms|MB)(?=\s|$)")
_REQUEST = re.compile(r"REPORT RequestId: (\S+)")
_ENDED = re.compile(r"\tStatus: (\w+)(?:\tError Type: (\S+))?")
_NAMED = re.compile(r"LAMELLA RequestId: (\S+)\t(?:Request: (\S+)|Ping$)")


@dataclass(frozen=True)
class Reported:
    """One request of a function.

    Attributes:
        request_id: The platform's id of the invocation.
        duration_ms: From the event to the answer.
        billed_ms: What is charged, with what of a restore is.
        memory_mb: The function's memory.
        max_memory_mb: The most that its instance has used so far.
        init_ms: How long the instance took to start; None if it was there, or restored.
        restore_ms: How long restoring it from a snapshot took; None without one.
        status: How it ended: `success`, `error` or `timeout`.
        error_type: What kind of error it was, such as `Runtime.ExitError`; None without one.
    """

    request_id: str
    duration_ms: float
    billed_ms: float
    memory_mb: float
    max_memory_mb: float
    init_ms: float | None = None
    restore_ms: float | None = None
    status: str = "success"
    error_type: str | None = None

    @property
    def cold_start(self) -> bool:
        """Whether an instance was started or restored for it."""
        return self.init_ms is not None or self.restore_ms is not None


@dataclass(frozen=True)
class Invocation:
    """One run of a deployment's function.

    Attributes:
        request: The request that went through the slices; one of its own, where nobody says.
        model: The function's model; empty for a door.
        slice: The function's slice; None for a door.
        function: The function.
        ended_ms: When it had its answer, in milliseconds since 1970.
        report: What the platform says of it.
        ping: Whether it was no request.
    """

    request: str
    model: str
    slice: int | None
    function: str
    ended_ms: int
    report: Reported
    ping: bool = False


@dataclass(frozen=True)
class Reports:
    """What the functions of a deployment did.

    Attributes:
        architecture: What they run on, which their price goes by.
        invocations: Each run of a function, by time.
        region: Where they run; None on this machine.
    """

    architecture: Architecture
    invocations: tuple[Invocation, ...]
    region: str | None = None


def reports_of(content: Mapping[str, Any]) -> Reports:
    """The inverse of `dataclasses.asdict`."""
    runs = (Invocation(**{**entry, "report": Reported(**entry["report"])}) for entry in content["invocations"])
    return Reports(content["architecture"], tuple(runs), content["region"])


def read_reports(lines: Iterable[str]) -> Iterator[Reported]:
    """The requests that a log tells of."""
    for line in lines:
        found = read_report(line)
        if found is not None:
            yield found


def read_report(text: str) -> Reported | None:
    """The last request that a piece of a log tells of; None if there is none."""
    start = text.rfind("REPORT RequestId:")
    request = _REQUEST.match(text, max(start, 0))
    if request is None:
        return None
    line = text[start:].partition("\n")[0]
    fields = {name: float(value) for name, value in _FIELD.findall(line) if value.count(".") < 2 and value != "."}
    if not {"Duration", "Billed Duration", "Memory Size", "Max Memory Used"} <= fields.keys():
        return None
    ended = _ENDED.search(line)
    return Reported(
        request.group(1),
        fields["Duration"],
        fields["Billed Duration"] + fields.get("Billed Restore Duration", 0.0),
        fields["Memory Size"],
        fields["Max Memory Used"],
        fields.get("Init Duration"),
        fields.get("Restore Duration"),
        "success" if ended is None else ended[1],
        None if ended is None else ended[2],
    )


def read_invocations(
    lines: Iterable[LogLine], models: Mapping[str, str], *, since_ms: int = 0, until_ms: int | None = None
) -> tuple[Invocation, ...]:
    """The runs of functions that ended in a span of time, by time; each once, however often a log tells of it.

    Args:
        lines: Of their logs. Lines without a time are passed over.
        models: The model of each function.
        since_ms: From when on, in milliseconds since 1970.
        until_ms: Until when, not included; None: without end.
    """
    requests: dict[str, str | None] = {}
    found: dict[tuple[str, str, int], tuple[LogLine, Reported]] = {}
    for line in lines:
        if not line.text.startswith(MARKS):
            continue
        named = _NAMED.match(line.text)
        if named is not None:
            requests[named[1]] = named[2]
        report, time_ms = read_report(line.text), line.time_ms
        if report is None or time_ms is None or time_ms < since_ms or (until_ms is not None and time_ms >= until_ms):
            continue
        found[line.function, report.request_id, time_ms] = line, report
    runs = [
        Invocation(
            requests.get(report.request_id) or report.request_id,
            models.get(line.function, ""),
            None if line.slice < 0 else line.slice,
            line.function,
            time_ms,
            report,
            ping=requests.get(report.request_id, "") is None,
        )
        for (_, _, time_ms), (line, report) in found.items()
    ]
    return tuple(sorted(runs, key=lambda run: (run.ended_ms, run.function)))
