"""One process of an instance, with everything that it starts: begun, listened to, measured, ended."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lamella.targets.local.cgroup import Cgroup

_READ_BYTES = 1 << 16
_REMOVE_S = 5.0
_SANDBOX = (b"Name:\tbwrap\n", b"Name:\tunshare\n", b"Name:\tsh\n")
_SIGNALS: dict[int, str] = {
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGHUP: "hangup",
    signal.SIGILL: "illegal instruction",
    signal.SIGINT: "interrupt",
    signal.SIGKILL: "killed",
    signal.SIGPIPE: "broken pipe",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGTERM: "terminated",
    signal.SIGTRAP: "trace/breakpoint trap",
}


def exit_reason(code: int) -> str:
    """What AWS says of an exit status; a shell's or a sandbox's 128 + N stands for signal N.

    >>> exit_reason(-9)
    'Runtime exited with error: signal: killed'
    """
    number = -code if code < 0 else code - 128
    if number in signal.valid_signals() and number > 0:
        return f"Runtime exited with error: signal: {_SIGNALS.get(number, f'signal {number}')}"
    return f"Runtime exited with error: exit status {code}" if code else "Runtime exited without providing a reason"


class Process:
    """A process group. Made, and from then on used, in the event loop's thread: where that ends, so do its processes.

    Attributes:
        id: The process, and its group.
        exited: Its exit status, once it has ended; negative for a signal.

    Args:
        command: Program and arguments.
        environment: All of its variables.
        folder: Where it starts.
        cgroup: The cgroup that the command puts itself into; removed at the end.
        output: Told what it writes to standard output and standard error.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        cgroup: Cgroup | None,
        output: Callable[[bytes], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._output, self._cgroup = output, cgroup
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self._pipe, end = os.pipe()
        self._listening = True
        try:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=end,
                stderr=end,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(end)
        self.id = self._popen.pid
        try:
            os.set_blocking(self._pipe, False)
            self._loop.add_reader(self._pipe, self._read)
            self._await_exit()
        except BaseException:  # nobody else knows of it yet
            self.kill()
            self._popen.wait()
            self._stop_listening()
            raise

    def _await_exit(self) -> None:
        handle = _open_handle(self.id)
        if handle is None:
            threading.Thread(target=self._wait_in_thread, daemon=True).start()
            return

        def ended() -> None:
            self._loop.remove_reader(handle)
            os.close(handle)
            self._ended()

        try:
            self._loop.add_reader(handle, ended)
        except BaseException:
            os.close(handle)
            raise

    def _wait_in_thread(self) -> None:
        self._popen.wait()
        with suppress(RuntimeError):  # the loop has ended meanwhile
            self._loop.call_soon_threadsafe(self._ended)

    def _ended(self) -> None:
        code = self._popen.wait()
        try:
            self.read_output()
        finally:  # whatever becomes of its last words: others wait for its end
            if not self.exited.done():
                self.exited.set_result(code)

    def _read(self) -> None:
        try:
            content = os.read(self._pipe, _READ_BYTES)
        except BlockingIOError:
            return
        if content:
            self._output(content)
        else:
            self._stop_listening()

    def read_output(self) -> None:
        """Hear what it has written so far, at once."""
        while self._listening:
            try:
                content = os.read(self._pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not content:
                self._stop_listening()
                return
            self._output(content)

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)

    @property
    def killed_for_memory(self) -> bool:
        """Whether the kernel has killed it, or a part of it, for want of memory."""
        return self._cgroup is not None and self._cgroup.memory_kills() > 0

    def members(self) -> list[int]:
        """The processes that it consists of."""
        if self._cgroup is not None and self._cgroup.holds_processes:
            return self._cgroup.processes()
        # The id of one that has ended may be somebody else's by now.
        return [] if self.exited.done() else descendants(self.id)

    def peak_bytes(self) -> int:
        """The most memory that it has had: resident sets of its processes, and its temporary files.

        Files that it has mapped count as far as they were resident, the rest of the page cache does not. A process that
        has ended counts no more.
        """
        temporary = self._cgroup.temporary_bytes() if self._cgroup is not None else 0
        return temporary + resident_bytes(self.members(), peak=True)

    def resident_bytes(self) -> int:
        """The memory that it has now."""
        return resident_bytes(self.members(), peak=False)

    def freeze(self) -> None:
        """Let it stand still, where there is a freezer."""
        if self._cgroup is not None:
            self._cgroup.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        if self._cgroup is not None:
            self._cgroup.thaw()

    def kill(self) -> None:
        """Kill it with everything that it has started."""
        members = self.members()
        for process in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        if self._cgroup is None or not self.exited.done():  # where a cgroup knows what is left, no id need be trusted
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.id, signal.SIGKILL)
        if self._cgroup is not None:
            self._cgroup.kill()

    async def end(self) -> None:
        """Kill it, and wait until nothing of it is left."""
        self.kill()  # also if it has ended by itself: what it has started may not have
        await asyncio.shield(self.exited)
        self._stop_listening()
        if self._cgroup is not None:
            await discard(self._cgroup)


async def discard(cgroup: Cgroup) -> None:
    """Kill what is left in a cgroup, and remove it."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _REMOVE_S
    while not cgroup.remove() and loop.time() < deadline:
        cgroup.kill()
        await asyncio.sleep(0.005)


def _open_handle(process: int) -> int | None:
    """A file that can be read when a process has ended; None where there are no such files."""
    if hasattr(os, "pidfd_open"):  # not on macOS
        with suppress(OSError):  # an old kernel, a sandbox that does not know it, or too many files are open
            return os.pidfd_open(process)
    return None


def descendants(process: int) -> list[int]:
    """A process and all that it has started, and they in turn; itself alone where the system does not say."""
    found = [process]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, children.read_text().split())
    return found


def resident_bytes(processes: Iterable[int], *, peak: bool) -> int:
    """Memory of processes that still are: the most that each has had, or now. The sandbox's own do not count."""
    if not Path("/proc/self/status").exists():
        return _resident_bytes_of_ps(processes)
    key = b"VmHWM:" if peak else b"VmRSS:"
    total = 0
    for process in processes:
        with suppress(OSError):  # it has ended meanwhile
            status = Path(f"/proc/{process}/status").read_bytes()
            place = status.find(key)  # not there once it is a zombie
            if place >= 0 and not status.startswith(_SANDBOX):
                total += int(status[place + len(key) :].split(None, 1)[0]) << 10
    return total


def _resident_bytes_of_ps(processes: Iterable[int]) -> int:
    """Memory of processes now, where there is no /proc (macOS)."""
    command = ["ps", "-o", "rss=", "-p", ",".join(map(str, processes))]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return sum(int(size) << 10 for size in listed.split())
