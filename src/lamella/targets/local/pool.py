"""The instances of one version of a function: which takes a request, and when one ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from lamella.targets.local.admission import Admission
from lamella.targets.local.host import Host
from lamella.targets.local.instance import Instance
from lamella.targets.local.invocation import Invocation, Request
from lamella.targets.local.logs import LogFile
from lamella.targets.local.spec import FunctionSpec


class Pool:
    """Instances of one version.

    A request goes to the instance that was used last, so that those that are not needed grow old; else to one that is
    starting without a request; else a new one starts for it.

    Args:
        host: What instances share.
        spec: The function.
        version: `$LATEST`, or a number.
        log: Its log.
        admission: What is throttled by.
        make_room: Called before an instance starts; may refuse it.
    """

    def __init__(
        self,
        host: Host,
        spec: FunctionSpec,
        version: str,
        log: LogFile,
        admission: Admission,
        make_room: Callable[[], None],
    ) -> None:
        self._host, self._spec, self._version, self._log = host, spec, version, log
        self._admission, self._make_room = admission, make_room
        self._idle: list[Instance] = []
        self._ahead: deque[Instance] = deque()
        self._all: set[Instance] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._running = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def count(self) -> int:
        """Instances that there are, busy or not."""
        return len(self._all)

    @property
    def oldest_idle(self) -> float | None:
        """Since when the instance is idle that has been so the longest; None if none is."""
        return self._idle[0].idle_since if self._idle else None

    async def invoke(self, request: Request, *, log_tail: bool = False) -> Invocation:
        """Answer a request.

        Raises:
            RefusedError: It is throttled.
        """
        self._admission.enter(self._spec.name)
        self._running += 1
        try:
            instance = self._take()
            return await self._invoke(instance, request, log_tail=log_tail)
        finally:
            self._running -= 1
            self._admission.leave(self._spec.name)
            self._changed.set()

    async def _invoke(self, instance: Instance, request: Request, *, log_tail: bool) -> Invocation:
        try:
            done = await instance.invoke(request, log_tail=log_tail)
        except BaseException:  # the caller has given up: nobody knows what the instance is doing
            self._end(instance)
            raise
        if self._closed or not instance.alive:
            self._end(instance)
        else:
            self._idle.append(instance)
            instance.rest()
        return done

    def _take(self) -> Instance:
        while self._idle:
            instance = self._idle.pop()
            if instance.alive:
                return instance
            self._end(instance)
        return self._ahead.popleft() if self._ahead else self._start()

    def _start(self) -> Instance:
        self._make_room()
        self._admission.start(self._spec.name)
        instance = Instance(self._host, self._spec, self._version, self._log, self._on_exit)
        self._all.add(instance)
        return instance

    async def start(self, count: int) -> int:
        """Start instances without a request, all at once; how many started.

        Raises:
            RefusedError: More than may start in a short time.
            RemoteError: One could not start.
        """
        instances: list[Instance] = []
        try:
            for _ in range(count):
                instances.append(self._start())
                self._ahead.append(instances[-1])
            found = await asyncio.gather(*map(self._rest_when_ready, instances), return_exceptions=True)
        except BaseException:  # refused, or the caller has given up: nobody would ever take them out
            for instance in instances:
                self._leave_ahead(instance, idle=False)
            raise
        for error in found:
            if error is not None:
                raise error
        return count

    async def _rest_when_ready(self, instance: Instance) -> None:
        try:
            await instance.ready()
        except Exception:
            self._leave_ahead(instance, idle=False)
            raise
        self._leave_ahead(instance, idle=instance.alive and not self._closed)

    def _leave_ahead(self, instance: Instance, *, idle: bool) -> None:
        """An instance that was started without a request is ready, or never will be."""
        if instance not in self._ahead:  # a request has taken it already
            return
        self._ahead.remove(instance)
        if not idle:
            self._end(instance)
            return
        instance.idle_since = asyncio.get_running_loop().time()
        self._idle.append(instance)
        instance.rest()

    def _on_exit(self, instance: Instance) -> None:
        """Its process has ended by itself, or somebody has killed it, while it was idle."""
        if instance in self._idle:
            self._idle.remove(instance)
            self._end(instance)

    def evict(self, idle_before: float) -> int:
        """End the instances that have been idle since then; how many."""
        old = [instance for instance in self._idle if instance.idle_since <= idle_before]
        for instance in old:
            self._idle.remove(instance)
            self._end(instance)
        return len(old)

    def _end(self, instance: Instance) -> None:
        if instance not in self._all:
            return
        self._all.discard(instance)
        task = asyncio.get_running_loop().create_task(instance.end())
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        self._changed.set()

    async def retire(self) -> None:
        """Take no more requests: end the idle instances now, and the others after their requests."""
        await self._end_all([*self._idle, *self._ahead])

    async def close(self) -> None:
        """End all instances, whatever they do, and wait until those who asked have been told."""
        await self._end_all(list(self._all))
        await self.drained()

    async def _end_all(self, instances: list[Instance]) -> None:
        self._closed = True
        self._idle.clear()
        self._ahead.clear()
        for instance in instances:
            self._end(instance)
        await asyncio.gather(*self._ending)

    async def drained(self) -> None:
        """Wait until no request runs and no instance is left."""
        while self._running or self._all or self._ending:
            self._changed.clear()
            await self._changed.wait()
