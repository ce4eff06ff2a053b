"""The embedded serverless platform as a Python object."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from lamella.errors import UsageError
from lamella.platforms.base import Limits
from lamella.runtime.cpu import MB_PER_VCPU
from lamella.targets.local.claim import LOGS, Claim
from lamella.targets.local.events import RETRY_AFTER_S
from lamella.targets.local.functions import FunctionStatus
from lamella.targets.local.guardian import Guardian, remove_stale_cgroups
from lamella.targets.local.host import Host, instances_for
from lamella.targets.local.invocation import Invocation, Kind, RefusedError, Request, new_request_id
from lamella.targets.local.invoke_api import InvokeApi
from lamella.targets.local.report import Report
from lamella.targets.local.sandbox import Means, detect
from lamella.targets.local.service import Service
from lamella.targets.local.serving import require_aiohttp
from lamella.targets.local.spec import FunctionSpec, Mount
from lamella.targets.local.surroundings import prepare_runtime

__all__ = ["FunctionSpec", "FunctionStatus", "Invocation", "LocalPlatform", "Mount", "RefusedError", "Report"]

_Result = TypeVar("_Result")
_HTTP_KEEP_ALIVE_S = 600.0
_READ_BUFFER_BYTES = 1 << 20
_SHUTDOWN_S = 0.1
_FORKED = "invoke over its `url`, or make the platform in the process that uses it"


class LocalPlatform:
    """A serverless platform that lives as long as this object does. Thread-safe.

    It runs in a thread of its own, and each instance of a function in a process of its own. When it is closed, nothing
    of it is left but its logs and an empty lock file; where this process ends without that, a guardian process cleans
    up.

    Example:
        ```python
        with LocalPlatform(folder, limits=load_platform("aws-lambda").limits) as local:
            local.create(FunctionSpec("echo", package, memory_mb=512, timeout_s=3, handler="app.handle"))
            print(local.invoke("echo", b"{}").payload)
        ```

    Attributes:
        url: The AWS Lambda API over HTTP, on the loopback interface: an `endpoint_url` for `boto3`.
        means: What limits are enforced with here.

    Args:
        folder: For logs and temporary files; made if it is missing. One platform at a time uses it.
        limits: What a function may have and take: those of a platform.
        mb_per_vcpu: Memory that comes with one processor.
        keep_alive_s: Seconds after which an instance ends that is not used.
        concurrency: Requests at the same time, all functions together; by default as the platform has it.
        most_instances: Instances at the same time, those that run no request among them; idle ones make room for
            others. By default twice the concurrency, as far as this process may have so many files open.
        burst: Instances of one function that may start in ten seconds; by default as the platform has it.
        retry_after_s: How long after each failure an asynchronous request is tried again.
        port: Of the API; 0 takes a free one.
        means: What to enforce limits with; by default the best there is.

    Raises:
        MissingDependencyError: aiohttp is not installed.
        UsageError: The folder is in use by another platform or cannot be written to, or the port is in use.
    """

    def __init__(  # noqa: PLR0913 - what a platform is
        self,
        folder: Path,
        *,
        limits: Limits,
        mb_per_vcpu: float = MB_PER_VCPU,
        keep_alive_s: float = 600.0,
        concurrency: int | None = None,
        most_instances: int | None = None,
        burst: int | None = None,
        retry_after_s: Sequence[float] = RETRY_AFTER_S,
        port: int = 0,
        means: Means | None = None,
    ) -> None:
        require_aiohttp()
        self._folder = folder.absolute()
        self._concurrency = concurrency if concurrency is not None else limits.concurrency or 1_000
        self._most_instances = most_instances or instances_for(self._concurrency)
        self._burst = burst if burst is not None else limits.init_concurrency
        self._keep_alive_s, self._retry_after_s, self._port = keep_alive_s, retry_after_s, port
        self.means = means if means is not None else detect()
        self._process = os.getpid()
        self._closing = threading.RLock()  # not to lock up where a signal's handler closes it
        self._closed = False
        self._claim = Claim(self._folder)
        self._temporary = self._claim.temporary
        try:
            self._host = self._make_host(limits, mb_per_vcpu)
            self._open()
        except BaseException:
            self._remove_files()
            raise
        atexit.register(self.close)

    def _make_host(self, limits: Limits, mb_per_vcpu: float) -> Host:
        parents = {parent.folder for parent in self.means.hierarchy.values()}
        remove_stale_cgroups(parents)
        (self._temporary / "root").mkdir()
        prepare_runtime("lamella", self._temporary)
        return Host(
            means=self.means,
            limits=limits,
            mb_per_vcpu=mb_per_vcpu,
            guardian=Guardian(self._temporary, parents),
            folder=self._temporary,
        )

    def _open(self) -> None:
        opened: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="lamella-platform", daemon=True)
        self._thread.start()
        try:
            opened.result()
        except BaseException as error:
            self._thread.join()
            self._host.guardian.close()
            if not isinstance(error, OSError):
                raise
            raise UsageError(f"the platform cannot listen on port {self._port}: {error}") from error

    def _serve(self, opened: Future[None]) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._run(opened))
        except BaseException as error:
            if opened.done():
                raise
            opened.set_exception(error)

    async def _run(self, opened: Future[None]) -> None:
        from aiohttp import web

        self._ended = asyncio.Event()
        self._service = Service(
            self._host,
            self._folder / LOGS,
            concurrency=self._concurrency,
            most_instances=self._most_instances,
            burst=self._burst,
            keep_alive_s=self._keep_alive_s,
            retry_after_s=self._retry_after_s,
        )
        server = web.Server(
            InvokeApi(self._service).serve,
            access_log=None,
            keepalive_timeout=_HTTP_KEEP_ALIVE_S,
            read_bufsize=_READ_BUFFER_BYTES,
        )
        try:
            listener = await self._loop.create_server(server, "127.0.0.1", self._port)
        except BaseException:
            await self._service.close()
            raise
        self.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        opened.set_result(None)
        await self._ended.wait()
        listener.close()
        await self._service.close()
        await server.shutdown(_SHUTDOWN_S)

    def _submit(self, work: Coroutine[None, None, _Result]) -> Future[_Result]:
        forked = os.getpid() != self._process  # where no thread of the platform runs, and its lock may stay locked
        if not forked:
            with self._closing:  # what is handed over here comes before the loop is told to end
                if not self._closed:
                    return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        if forked:
            raise UsageError("the platform runs in the process that this one was forked from", hint=_FORKED)
        raise UsageError("the platform is closed", hint="make another one")

    def create(self, spec: FunctionSpec, *, version: str | None = None) -> str:
        """Make a function, or a new version of it, which is `$LATEST` as well from then on.

        Args:
            spec: The function.
            version: Its number, where that is known from an earlier life; by default the next.

        Returns:
            The version's number.

        Raises:
            UsageError: The platform has no such functions.
            MissingDependencyError: AWS's runtime client is asked for and not installed.
        """
        prepare_runtime(spec.runtime, self._temporary)

        async def work() -> str:
            return self._service.functions.create(spec, version)

        return self._submit(work()).result()

    def set_alias(self, name: str, alias: str, version: str | None) -> None:
        """Let an alias stand for a version of a function, or for none any more; requests that run are not disturbed.

        Raises:
            RefusedError: There is no such function or version.
        """

        async def work() -> None:
            self._service.functions.set_alias(name, alias, version)

        self._submit(work()).result()

    def delete(self, name: str, *, version: str | None = None) -> None:
        """Delete a function, or one version of it with its aliases. Its log stays; requests that run come to their end.

        Raises:
            RefusedError: There is no such function or version.
        """

        async def work() -> None:
            await self._service.functions.delete(name, version)

        self._submit(work()).result()

    def functions(self) -> tuple[FunctionStatus, ...]:
        """What is deployed, by name."""

        async def work() -> tuple[FunctionStatus, ...]:
            return tuple(function.status for function in self._service.functions.all().values())

        return self._submit(work()).result()

    def invoke(
        self,
        name: str,
        payload: bytes = b"",
        *,
        qualifier: str | None = None,
        kind: Kind = "RequestResponse",
        log_tail: bool = False,
        request_id: str | None = None,
    ) -> Invocation:
        """Invoke a function and wait for its answer. A refusal is an `Invocation` too, with a status of 4xx.

        Args:
            name: The function, in any form that AWS takes.
            payload: JSON.
            qualifier: A version or alias; without one, `$LATEST`.
            kind: Wait for the answer, leave the request to the platform, or only ask whether it would be taken.
            log_tail: Return the end of the request's log.
            request_id: Its id; a new one by default.
        """
        work = self.submit(name, payload, qualifier=qualifier, kind=kind, log_tail=log_tail, request_id=request_id)
        try:
            return work.result()
        except BaseException:  # as Ctrl-C: nobody waits for the answer any more
            work.cancel()
            raise

    def submit(
        self,
        name: str,
        payload: bytes = b"",
        *,
        qualifier: str | None = None,
        kind: Kind = "RequestResponse",
        log_tail: bool = False,
        request_id: str | None = None,
    ) -> Future[Invocation]:
        """As `invoke`, without waiting."""
        request = Request(payload, request_id=request_id or new_request_id())

        async def work() -> Invocation:
            try:
                return await self._service.invoke(name, request, qualifier=qualifier, kind=kind, log_tail=log_tail)
            except RefusedError as refused:
                return Invocation(refused.status, refused.body, request.request_id, error_type=refused.error_type)

        return self._submit(work())

    def start(self, name: str, qualifier: str | None = None, count: int = 1) -> Future[int]:
        """Start instances without a request, all at once. A request that comes meanwhile waits for one of them.

        Returns:
            How many have started, once all of them can take a request.

        Raises:
            RefusedError: (from the future) There is no such function, or too many start in a short time.
            RemoteError: (from the future) An instance could not start.
        """
        return self._submit(self._service.start(name, qualifier, count))

    def logs(self, name: str) -> Path:
        """The log of a function; older parts of a long one lie beside it, as `NAME.log.1` and so on."""
        return self._folder / LOGS / f"{name}.log"

    def close(self, *, remove: bool = False) -> None:
        """End everything. Requests that run fail. In a process forked from the platform's own, this does nothing.

        Args:
            remove: Whether the logs and the folder go, too.
        """
        if os.getpid() != self._process:
            return
        with self._closing:
            if self._closed:
                return
            self._closed = True
        atexit.unregister(self.close)
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._host.guardian.close()
        self._remove_files(all_of_them=remove)

    def _remove_files(self, *, all_of_them: bool = False) -> None:
        self._claim.release(remove=all_of_them)

    def __enter__(self) -> LocalPlatform:
        """The platform itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()
