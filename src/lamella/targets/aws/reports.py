"""What a function's log on AWS says about its requests.

https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html (the `REPORT` line)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_FIELD = re.compile(r"([A-Z][A-Za-z ]+): ([0-9.]+) (?:ms|MB)")
_REQUEST = re.compile(r"REPORT RequestId: (\S+)")


@dataclass(frozen=True)
class Reported:
    """One request of a function.

    Attributes:
        request_id: AWS's id of the invocation.
        duration_ms: From the event to the answer.
        billed_ms: What is charged.
        memory_mb: The function's memory.
        max_memory_mb: The most that its instance has used so far.
        init_ms: How long the instance took to start; None if it was there, or restored.
        restore_ms: How long restoring it from a snapshot took; None without one.
    """

    request_id: str
    duration_ms: float
    billed_ms: float
    memory_mb: float
    max_memory_mb: float
    init_ms: float | None = None
    restore_ms: float | None = None


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
    fields = {name: float(value) for name, value in _FIELD.findall(text[start:].partition("\n")[0])}
    if not {"Duration", "Billed Duration", "Memory Size", "Max Memory Used"} <= fields.keys():
        return None
    return Reported(
        request.group(1),
        fields["Duration"],
        fields["Billed Duration"],
        fields["Memory Size"],
        fields["Max Memory Used"],
        fields.get("Init Duration"),
        fields.get("Restore Duration"),
    )
