"""What is deployed: functions with their versions and aliases, each version with its instances."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from lamella.errors import UsageError
from lamella.targets.local.admission import Admission
from lamella.targets.local.host import Host, function_arn
from lamella.targets.local.invocation import not_found, throttled
from lamella.targets.local.logs import LogFile
from lamella.targets.local.pool import Pool
from lamella.targets.local.spec import FunctionSpec, check_spec

LATEST = "$LATEST"
_ALIAS = re.compile(r"(?!\d+$)[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True)
class Version:
    """One version of a function.

    Attributes:
        label: `$LATEST`, or a number.
        spec: What it is.
        modified: When it was made.
        pool: Its instances.
    """

    label: str
    spec: FunctionSpec
    modified: datetime
    pool: Pool


@dataclass(frozen=True)
class FunctionStatus:
    """A function as others see it.

    Attributes:
        name: Its name.
        versions: Numbers of its versions, the oldest first.
        aliases: The version that each stands for.
        instances: How many there are, of all versions, busy or not.
    """

    name: str
    versions: tuple[str, ...]
    aliases: Mapping[str, str]
    instances: int


@dataclass
class Function:
    """A function.

    Attributes:
        name: Its name.
        log: The log of all its versions.
        versions: By label, the oldest first, `$LATEST` among them.
        aliases: The version that each stands for.
    """

    name: str
    log: LogFile
    versions: dict[str, Version] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)

    @property
    def numbered(self) -> list[Version]:
        """Its versions but `$LATEST`, the oldest first."""
        return [version for label, version in self.versions.items() if label != LATEST]

    @property
    def status(self) -> FunctionStatus:
        """As others see it."""
        labels = tuple(version.label for version in self.numbered)
        instances = sum(version.pool.count for version in self.versions.values())
        return FunctionStatus(self.name, labels, dict(self.aliases), instances)

    def version(self, qualifier: str | None) -> Version:
        """The version that a number, an alias or `$LATEST` stands for; without one, `$LATEST`.

        Raises:
            RefusedError: There is none.
        """
        label = qualifier or LATEST
        found = self.versions.get(self.aliases.get(label, label))
        if found is None:
            raise not_found(function_arn(self.name, qualifier))
        return found


class Functions:
    """All functions of a platform. Used in the event loop's thread only.

    Args:
        host: What instances share.
        admission: What is throttled by.
        logs: The folder for logs.
        most_instances: As many instances of all functions together; idle ones make room for others.
    """

    def __init__(self, host: Host, admission: Admission, logs: Path, *, most_instances: int) -> None:
        self._host, self._admission, self._logs = host, admission, logs
        self._most_instances = most_instances
        self._functions: dict[str, Function] = {}
        self._pools: set[Pool] = set()
        self._draining: set[asyncio.Task[None]] = set()

    def create(self, spec: FunctionSpec, number: str | None) -> str:
        """Make a new version, which is `$LATEST` as well from now on; its number.

        Raises:
            UsageError: The platform has no such functions, less concurrency than it reserves, or the number is taken.
        """
        check_spec(spec, self._host.limits)
        mounts = tuple(replace(mount, source=mount.source.absolute()) for mount in spec.mounts)
        spec = replace(spec, folder=spec.folder.absolute(), mounts=mounts)
        self._check_mounts(spec)
        function = self._functions.get(spec.name)
        taken = [int(version.label) for version in function.numbered] if function is not None else []
        number = number or str(max(taken, default=0) + 1)
        if not number.isdecimal() or int(number) in taken:
            raise UsageError(f"`{spec.name}` cannot have a version `{number}`", hint="give a number that is not taken")
        self._admission.reserve(spec.name, spec.reserved_concurrency)
        if function is None:
            function = Function(spec.name, LogFile(self._logs / f"{spec.name}.log"))
            self._functions[spec.name] = function
        latest = function.versions.pop(LATEST, None)
        if latest is not None:
            self._let_drain([latest.pool], None)
        for label in (number, LATEST):
            pool = Pool(self._host, spec, label, function.log, self._admission, self._make_room)
            self._pools.add(pool)
            function.versions[label] = Version(label, spec, datetime.now(UTC), pool)
        return number

    def _check_mounts(self, spec: FunctionSpec) -> None:
        for mount in spec.mounts:
            if self._host.means.isolation == "none" and mount.path != str(mount.source):
                raise UsageError(
                    f"`{spec.name}` cannot mount {mount.source} at {mount.path} here",
                    hint=f"without namespaces it can only be seen at {mount.source}; see `lamella doctor`",
                )

    def set_alias(self, name: str, alias: str, number: str | None) -> None:
        """Let an alias stand for a version, or for none any more.

        Raises:
            UsageError: The alias is no name.
            RefusedError: There is no such function or version.
        """
        if not _ALIAS.fullmatch(alias):
            raise UsageError(f"`{alias}` is no alias", hint="use letters, digits, `-` and `_`, not digits alone")
        function = self.function(name)
        if number is None:
            function.aliases.pop(alias, None)
            return
        if number not in function.versions:
            raise not_found(function_arn(name, number))
        function.aliases[alias] = number

    def function(self, name: str) -> Function:
        """A function.

        Raises:
            RefusedError: There is none.
        """
        found = self._functions.get(name)
        if found is None:
            raise not_found(function_arn(name))
        return found

    def all(self) -> Mapping[str, Function]:
        """All functions by name."""
        return dict(sorted(self._functions.items()))

    async def delete(self, name: str, number: str | None) -> None:
        """Delete a function, or one version of it with its aliases. Requests that run come to their end.

        Raises:
            RefusedError: There is none.
        """
        function = self.function(name)
        if number is not None:
            if number == LATEST or number not in function.versions:
                raise not_found(function_arn(name, number))
            gone = [function.versions.pop(number)]
            function.aliases = {alias: label for alias, label in function.aliases.items() if label != number}
        else:
            gone = list(function.versions.values())
            del self._functions[name]
            self._admission.forget(name)
        pools = [version.pool for version in gone]
        await asyncio.gather(*(pool.retire() for pool in pools))
        self._let_drain(pools, function.log if number is None else None)

    def _make_room(self) -> None:
        """End the instance that has been idle the longest if there are as many as there may be.

        Raises:
            RefusedError: None is idle.
        """
        if sum(pool.count for pool in self._pools) < self._most_instances:
            return
        idle = [(since, pool) for pool in self._pools if (since := pool.oldest_idle) is not None]
        if not idle:
            raise throttled("ConcurrentInvocationLimitExceeded")
        since, pool = min(idle, key=itemgetter(0))
        pool.evict(since)

    def evict(self, idle_before: float) -> int:
        """End instances that have been idle since then; how many."""
        return sum(pool.evict(idle_before) for pool in self._pools)

    def _let_drain(self, pools: list[Pool], log: LogFile | None) -> None:
        """Let requests come to their end that still run in pools which take no more."""

        async def drain() -> None:
            for pool in pools:
                await pool.retire()
                await pool.drained()
                self._pools.discard(pool)
            if log is not None:
                log.close()

        task = asyncio.get_running_loop().create_task(drain())
        self._draining.add(task)
        task.add_done_callback(self._draining.discard)

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
        await asyncio.gather(*self._draining)
        for function in self._functions.values():
            function.log.close()
        self._functions.clear()
