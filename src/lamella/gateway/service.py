"""The background service: one process that hosts every local deployment of a home folder.

`python -m lamella.gateway.service --home FOLDER`; the command line starts it when it is needed. It ends on SIGTERM when
the requests under way have their answers, and by itself when nothing is deployed.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lamella import __version__
from lamella.errors import UsageError
from lamella.gateway.address import LOOPBACK, Address, ServiceFolder
from lamella.gateway.events.triggers import Triggers
from lamella.gateway.host import Host
from lamella.gateway.http import Door
from lamella.gateway.jobs import Jobs

if TYPE_CHECKING:
    from aiohttp import web

IDLE_S = 30.0
"""Seconds without deployments after which the service ends."""

_GRACE_S = 30.0  # for requests under way, once it is to end
_ROUND_S = 0.5
_log = logging.getLogger("lamella.service")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service until it is told to end. Returns at once if another process runs it already."""
    parser = argparse.ArgumentParser(prog="lamella.gateway.service", description="Host local deployments.")
    parser.add_argument("--home", type=Path, required=True, help="the home folder")
    parser.add_argument("--host", default=LOOPBACK, help="where to listen; other machines reach it if not on loopback")
    parser.add_argument("--port", type=int, default=None, help="by default the one of the last start, or any")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    folder = ServiceFolder(given.home.absolute())
    folder.make()
    if not folder.claim():
        _log.info("another process hosts %s already", given.home)
        return 0
    folder.forget()  # of a process that was killed
    try:
        asyncio.run(_serve(folder, given.host or LOOPBACK, given.port))
    except UsageError as error:
        _log.error("%s (%s)", error.message, error.hint)
        return error.exit_status
    return 0


async def _serve(folder: ServiceFolder, host: str, port: int | None) -> None:
    from lamella.targets.local.target import LocalTarget

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    target = LocalTarget(folder.home)
    hosted = Host(target, Triggers(folder.home / "deployments", target), folder.token_file)
    try:
        for key, error in (await asyncio.to_thread(hosted.restore)).items():
            _log.error("%s is there, and cannot go on: %s (%s)", key, error.message, error.hint)
        jobs = Jobs(folder.requests, hosted.run)
        token = folder.token()
        door = Door(hosted, jobs, token=token, token_hint=f"it is in `{folder.token_file}`")
        runner = await _started(door)
        bound = await _listen(runner, host, folder.last_port() if port is None else port)
        address = Address(host, bound, token, os.getpid(), __version__)
        hosted.url = address.url
        jobs.resume()
        folder.write(address)
        if address.is_exposed:
            _log.warning("%s", address.exposure)
        _log.info("version %s hosts %s at %s", __version__, folder.home, address.url)
        try:
            await _until_done(stop, hosted, jobs)
        finally:
            folder.forget()
            door.stop_waiting()
            await runner.cleanup()
            await asyncio.to_thread(jobs.close)
            await asyncio.to_thread(door.close)
    finally:
        await asyncio.to_thread(hosted.close)
    _log.info("ended")


async def _started(door: Door) -> web.AppRunner:
    from aiohttp import web

    runner = web.AppRunner(door.application(), access_log=None, shutdown_timeout=_GRACE_S, handle_signals=False)
    await runner.setup()
    return runner


async def _listen(runner: web.AppRunner, host: str, port: int) -> int:
    """Listen on a port, or on any if it is taken meanwhile; returns which.

    Raises:
        UsageError: This machine has no such address.
    """
    from aiohttp import web

    for number in dict.fromkeys((port, 0)):
        try:
            await web.TCPSite(runner, host, number).start()
        except OSError as error:
            failure = error
            if number:
                _log.warning("port %s cannot be had, and another one is taken: %s", number, error)
        else:
            return int(runner.addresses[0][1])
    raise UsageError(
        f"the service cannot listen on `{host}`: {failure.strerror or failure}",
        hint="set `LAMELLA_HOST` to an address of this machine, or leave it out",
    ) from failure


async def _until_done(stop: asyncio.Event, hosted: Host, jobs: Jobs) -> None:
    """Wait for the end, and see to what expires meanwhile."""
    while not stop.is_set():
        try:
            await asyncio.wait_for(stop.wait(), _ROUND_S)
        except TimeoutError:
            await asyncio.to_thread(jobs.expire)
        if jobs.waiting == 0 and await asyncio.to_thread(hosted.is_idle, IDLE_S):
            return


if __name__ == "__main__":
    raise SystemExit(main())
