"""The schedule: pings that keep instances of functions from ending, answered without an inference."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from threading import Event, Lock, Thread
from time import monotonic
from types import TracebackType
from urllib.parse import quote

from lamella.errors import LamellaError, RemoteError
from lamella.gateway.events.deployed import Target
from lamella.gateway.events.trigger import Warming
from lamella.targets.addresses import read_address
from lamella.targets.base import LIVE

PING = b'{"lamella": "ping"}'
_ANSWER = "pong"
_TIMEOUT_S = 900.0  # no function takes longer, its start included
_STOP_S = 5.0
_MOST_AT_ONCE = 16
_log = logging.getLogger("lamella.events")


class KeepWarm:
    """Pings every function when no request has come for an interval, in a thread of its own, from `start` on.

    The first ping comes at the start, so that functions are warm from then on. A request warms them as well, and one
    that is under way would make a ping start another instance: therefore pings wait for an interval without any.

    Args:
        warming: What is wanted.
        functions: Names the functions, anew each time, since deployments change.
        ping: Sends one to a function.
    """

    def __init__(self, warming: Warming, functions: Callable[[], Sequence[str]], ping: Callable[[str], None]) -> None:
        self.warming = warming
        self._functions, self._ping = functions, ping
        self._lock, self._stopping = Lock(), Event()
        self._used_s = float("-inf")
        self._pings, self._last_error = 0, ""
        self._thread = Thread(target=self._run, name=f"lamella-warm-{warming.id}", daemon=True)

    @property
    def pings(self) -> int:
        """How often a function was pinged, and answered."""
        return self._pings

    @property
    def last_error(self) -> str | None:
        """Why the last ping failed; None if it did not."""
        return self._last_error or None

    def used(self) -> None:
        """A request has come, which keeps functions warm by itself."""
        with self._lock:
            self._used_s = monotonic()

    def start(self) -> None:
        """Begin. Once only."""
        self._thread.start()

    def stop(self) -> None:
        """End it; a ping that a function does not answer is not waited for."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.wait(self._due_in_s()):
            if self._due_in_s() <= 0:  # no request came meanwhile
                self.used()
                self._round()

    def _due_in_s(self) -> float:
        with self._lock:
            return max(0.0, self._used_s + self.warming.interval_s - monotonic())

    def _round(self) -> None:
        """Ping all functions at once: each may have to start."""
        try:
            names = list(self._functions())
            with ThreadPoolExecutor(_MOST_AT_ONCE, thread_name_prefix="lamella-ping") as pool:
                list(pool.map(self._ping, names))
        except LamellaError as error:
            self._last_error = error.message
            _log.warning("`%s` cannot be kept warm: %s", self.warming.deployment, error.message)
        except Exception as error:  # noqa: BLE001  # a defect must not end it silently
            self._last_error = repr(error)
            _log.exception("a defect while `%s` was kept warm", self.warming.deployment)
        else:
            self._last_error, self._pings = "", self._pings + len(names)

    def __enter__(self) -> KeepWarm:
        """Start it."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self.stop()


def keep_warm(warming: Warming, target: Target) -> KeepWarm:
    """Keep a model of a target warm, over the API that everybody uses."""
    to = read_address(warming.deployment)
    return KeepWarm(
        warming,
        lambda: [step.function for step in target.find(to.name, stage=to.stage).model(to.model).workflow.steps],
        lambda function: ping(target.url_of(to.name, stage=to.stage), function, qualifier=LIVE),
    )


def ping(url: str, function: str, *, qualifier: str | None = None) -> None:
    """Ping one function, and wait until it answers.

    Args:
        url: Of the AWS Lambda API.
        function: Its name.
        qualifier: A version or alias.

    Raises:
        RemoteError: It does not answer, or not as a function of Lamella's does.
    """
    path = f"/2015-03-31/functions/{quote(function)}/invocations"
    path += "" if qualifier is None else f"?Qualifier={quote(qualifier)}"
    try:
        with closing(HTTPConnection(url.removeprefix("http://"), timeout=_TIMEOUT_S)) as connection:
            connection.request("POST", path, PING, {"Content-Type": "application/json"})
            answer = connection.getresponse().read()
        found = json.loads(answer)
    except (OSError, HTTPException, ValueError) as error:
        raise RemoteError(f"`{function}` cannot be pinged: {error!r}", hint="see its logs") from error
    if not isinstance(found, dict) or found.get("lamella") != _ANSWER:
        raise RemoteError(f"`{function}` answers a ping with `{answer[:200]!r}`", hint="see its logs")
