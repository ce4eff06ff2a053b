"""The logs of a deployment's functions, as CloudWatch keeps them.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_FilterLogEvents.html
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from lamella.targets.aws.account import Account
from lamella.targets.aws.release import Function
from lamella.targets.base import LogLine

_LATE_MS = 10_000
"""Lines may arrive so much later than others with later times."""


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
            text = str(event["message"]).rstrip("\n")
            name = self._shown.get(function.name, function.name)
            yield moment, LogLine(-1 if function.slice is None else function.slice, name, text)
        last = self._since_ms[function.name] - 2 * _LATE_MS
        self._seen[function.name] = {name: moment for name, moment in seen.items() if moment >= last}
