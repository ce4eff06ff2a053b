"""The logs of a deployment's functions, as CloudWatch keeps them.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lamella.errors import UsageError
from lamella.targets.aws.account import Account
from lamella.targets.aws.naming import Names
from lamella.targets.aws.record import Record
from lamella.targets.aws.release import Function
from lamella.targets.base import LogLine
from lamella.targets.reports import MARKS

_LATE_MS = 10_000
"""Lines may arrive so much later than others with later times."""


_PATTERN = " ".join(f"?{mark}" for mark in MARKS)  # any of these words


def logging_functions(
    names: Names, record: Record, model: str | None, slice: int | None
) -> tuple[list[Function], dict[str, str]]:
    """The functions of a deployment, of one model or of one slice, and how the deployment calls them.

    Raises:
        NotDeployedError: There is no such model.
        UsageError: There is no such slice, or there are several models, and none is named.
    """
    if model is not None or slice is not None:
        model = record.deployment.model(model).name
    every = record.release.functions
    functions = [one for one in every if model in (None, one.model) and slice in (None, one.slice)]
    if not functions:
        known = ", ".join(str(function.slice) for function in every if not function.is_door)
        raise UsageError(f"there is no slice {slice}", hint=f"the slices are {known}")
    return functions, {names.function(one.name): one.name for one in record.deployment.version.functions}


def report_lines(
    account: Account,
    functions: Sequence[Function],
    shown: Mapping[str, str],
    *,
    since_ms: int,
    until_ms: int | None,
) -> Iterator[LogLine]:
    """The lines of functions' logs that tell what a request took; CloudWatch leaves out the others.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html

    Args:
        account: Whose they are.
        functions: Of whom.
        shown: How the deployment calls them, where it does not as AWS does.
        since_ms: From when on, in milliseconds since 1970.
        until_ms: Until when; None: without end.

    Raises:
        RemoteError: AWS refuses, or goes on throttling.
    """
    span = {"startTime": since_ms, **({} if until_ms is None else {"endTime": until_ms})}
    for function in functions:
        group = f"/aws/lambda/{function.name}"
        for event in account.pages(
            "logs", "filter_log_events", "events", logGroupName=group, filterPattern=_PATTERN, **span
        ):
            yield _line(function, shown, event)


def _line(function: Function, shown: Mapping[str, str], event: Mapping[str, Any]) -> LogLine:
    text, name = str(event["message"]).rstrip("\n"), shown.get(function.name, function.name)
    return LogLine(-1 if function.slice is None else function.slice, name, text, int(event["timestamp"]))


class LogFollower:
    """Reads logs from their beginning, and what is added to them.

    Args:
        account: Whose they are.
        functions: Of whom.
        shown: How the deployment calls them, where it does not as AWS does.
        since_ms: From when on, in milliseconds since 1970.
    """

    def __init__(
        self, account: Account, functions: Sequence[Function], shown: Mapping[str, str], *, since_ms: int = 0
    ) -> None:
        self._account, self._functions, self._shown = account, functions, shown
        self._since_ms = {function.name: since_ms for function in functions}
        self._seen: dict[str, dict[str, int]] = {function.name: {} for function in functions}

    def read(self) -> list[LogLine]:
        """What was not read before, function by function, each by time.

        Raises:
            RemoteError: AWS refuses.
        """
        found = (sorted(self._new(function), key=lambda entry: entry[0]) for function in self._functions)
        return [line for entries in found for _, line in entries]

    def lines(self, *, follow: bool, poll_s: float) -> Iterator[LogLine]:
        """All lines; with `follow`, without end."""
        yield from self.read()
        while follow:
            time.sleep(poll_s)
            yield from self.read()

    def _new(self, function: Function) -> Iterator[tuple[int, LogLine]]:
        seen, since_ms = self._seen[function.name], self._since_ms[function.name]
        pages = self._account.pages(
            "logs",
            "filter_log_events",
            "events",
            logGroupName=f"/aws/lambda/{function.name}",
            startTime=max(0, since_ms - _LATE_MS),
        )
        for event in pages:
            if event["eventId"] in seen:
                continue
            moment = int(event["timestamp"])
            seen[event["eventId"]] = moment
            self._since_ms[function.name] = max(self._since_ms[function.name], moment)
            yield moment, _line(function, self._shown, event)
        last = self._since_ms[function.name] - 2 * _LATE_MS
        self._seen[function.name] = {name: moment for name, moment in seen.items() if moment >= last}
