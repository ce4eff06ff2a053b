"""A process whose end must be heard of, however little the system helps."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lamella.targets.local.process import Process


def start(script: str, output: Callable[[bytes], None]) -> Process:
    command = [sys.executable, "-I", "-c", script]
    return Process(command, environment={}, folder=Path("/"), cgroup=None, output=output)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="there is no pidfd_open")
def test_the_end_is_heard_of_where_the_kernel_has_no_pidfd_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "pidfd_open", refuse)
    said: list[bytes] = []

    async def run() -> int:
        process = start("print('there'); exit(3)", said.append)
        code = await asyncio.wait_for(asyncio.shield(process.exited), 10)
        await process.end()
        return code

    assert asyncio.run(run()) == 3
    assert b"".join(said) == b"there\n"


def test_a_process_that_has_ended_has_no_members() -> None:
    async def run() -> tuple[list[int], list[int]]:
        process = start("input()", lambda _: None)
        before = process.members()
        await asyncio.wait_for(asyncio.shield(process.exited), 10)
        after = process.members()
        await process.end()
        return [process.id, *before], after

    (number, *before), after = asyncio.run(run())
    assert before == [number]
    assert after == []  # its id may be another process's


MUCH = """
import fcntl, os
fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, 1 << 20)
os.write(1, bytes(500_000))
os._exit(3)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a pipe that holds much")
def test_the_end_is_heard_of_where_its_output_cannot_be_kept() -> None:
    def refuse(_: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def run() -> int:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        process = start(MUCH, refuse)
        time.sleep(1)  # it ends before the loop gets to hear of it
        code = await asyncio.wait_for(asyncio.shield(process.exited), 10)
        await process.end()
        return code

    assert asyncio.run(run()) == 3


@pytest.mark.parametrize("refused", [0, 1])
def test_a_process_that_cannot_be_listened_to_is_not_left(refused: int) -> None:
    marker = f"marker-{os.getpid()}-listened-{refused}"

    async def run() -> None:
        loop = asyncio.get_running_loop()
        add, calls = loop.add_reader, iter(range(10))

        def add_reader(file: int, callback: Callable[[], None]) -> None:
            if next(calls) == refused:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            add(file, callback)

        descriptors = len(os.listdir("/proc/self/fd"))
        loop.add_reader = add_reader  # type: ignore[method-assign,assignment]
        try:
            with pytest.raises(OSError, match="No space left"):
                start(f"import time; time.sleep(60)  # {marker}", lambda _: None)
        finally:
            del loop.add_reader  # type: ignore[method-assign]
        assert len(os.listdir("/proc/self/fd")) == descriptors

    if not Path("/proc/self/fd").exists():
        pytest.skip("there is no /proc")
    asyncio.run(run())
    lines = [folder / "cmdline" for folder in Path("/proc").iterdir() if folder.name.isdecimal()]
    assert not [line for line in lines if marker.encode() in _read(line)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
