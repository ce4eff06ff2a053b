"""Asynchronous requests: taken at once, run when there is room, repeated when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from lamella.targets.local.invocation import Invocation, RefusedError, throttled

RETRY_AFTER_S = (60.0, 120.0)
"""AWS repeats an event that failed after a minute, and once more after two."""

MAX_AGE_S = 6 * 3600.0
"""A throttled event is tried for as long. https://docs.aws.amazon.com/lambda/latest/dg/invocation-async.html"""

QUEUE_BYTES = 256 << 20
_EVENT_BYTES = 4096  # what an event takes beside its payload
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 300.0


class EventQueue:
    """Events that wait or run. They live in memory: what has not run when the platform closes is lost.

    Args:
        retry_after_s: How long after each failure an event is tried again.
    """

    def __init__(self, retry_after_s: Sequence[float] = RETRY_AFTER_S) -> None:
        self._retry_after_s = retry_after_s
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, size_bytes: int, invoke: Callable[[], Awaitable[Invocation]]) -> None:
        """Take an event.

        Args:
            size_bytes: Of its payload.
            invoke: Runs it once.

        Raises:
            RefusedError: Too many wait.
        """
        size_bytes += _EVENT_BYTES
        if self._bytes + size_bytes > QUEUE_BYTES:
            raise throttled("CallerRateLimitExceeded")
        self._bytes += size_bytes
        task = asyncio.get_running_loop().create_task(self._run(size_bytes, invoke))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, size_bytes: int, invoke: Callable[[], Awaitable[Invocation]]) -> None:
        try:
            for delay_s in (*self._retry_after_s, None):
                done = await self._until_admitted(invoke)
                if done is None or done.function_error is None or delay_s is None:
                    return
                await asyncio.sleep(delay_s)
        finally:
            self._bytes -= size_bytes

    async def _until_admitted(self, invoke: Callable[[], Awaitable[Invocation]]) -> Invocation | None:
        """Try until it is not throttled; None if that never ends, or the function is no more."""
        loop = asyncio.get_running_loop()
        ends, delay_s = loop.time() + MAX_AGE_S, _FIRST_DELAY_S
        while loop.time() < ends:
            try:
                return await invoke()
            except RefusedError as refused:
                if refused.status != 429:
                    return None
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _LONGEST_DELAY_S)
        return None

    async def close(self) -> None:
        """Forget what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
