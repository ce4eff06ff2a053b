"""What the local platform leaves behind: nothing, however it ends."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from tests.functional.local_functions import LIMITS, answer, create, write_package

from lamella.errors import UsageError
from lamella.targets.local.cgroup import Parent
from lamella.targets.local.guardian import owner_prefix, remove_stale_cgroups
from lamella.targets.local.platform import Invocation, LocalPlatform, Mount, RefusedError
from lamella.targets.local.sandbox import detect

SLEEP = """
    import os, subprocess, time

    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]

    def handle(event, context):
        if event < 0:
            os._exit(1)
        time.sleep(event)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def cgroups(prefix: str) -> list[Path]:
    parents = {parent.folder for parent in detect().hierarchy.values()}
    return [folder for parent in parents for folder in parent.glob(f"{prefix}*")]


def processes_with(text: str) -> list[str]:
    """Command lines and environments of processes that hold a text, without this one and its ancestors."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and int(folder.name) not in (os.getpid(), os.getppid()):
            try:
                content = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in content:
                found.append(content.decode(errors="replace"))
    return found


def mounts_with(text: str) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if text in line]


def eventually(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("isolation", ["bubblewrap", "unshare", "none"])
def test_closing_leaves_nothing_but_logs(tmp_path: Path, isolation: str) -> None:
    means = detect(isolation)  # type: ignore[arg-type]
    if means.isolation != isolation:
        pytest.skip("; ".join(means.reasons))
    descriptors = len(os.listdir("/proc/self/fd"))
    marker = f"marker-{os.getpid()}-{isolation}"
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, means=means) as platform:
        name = create(platform, tmp_path, SLEEP, environment={"MARKER": marker}, timeout_s=1)
        platform.invoke(name, b"0")
        assert platform.invoke(name, b"30").error_type == "Sandbox.Timedout"
        platform.invoke(name, b"0")
        assert platform.invoke(name, b"-1").error_type == "Runtime.ExitError"
        eventually(lambda: not processes_with(marker))
        platform.invoke(name, b"0")
        running = platform.submit(name, b"30")
        platform.start(name).result()
        assert len(processes_with(marker)) >= 4
        time.sleep(0.1)
    assert running.result().function_error == "Unhandled"
    assert processes_with(marker) == []
    assert cgroups(owner_prefix()) == []
    assert mounts_with(str(tmp_path)) == []
    assert {path.name for path in (tmp_path / "platform").iterdir()} == {"lock", "logs"}
    assert len(os.listdir("/proc/self/fd")) == descriptors


HOST = """
    import sys, time
    from pathlib import Path
    from lamella.platforms import load_platform
    from lamella.targets.local.platform import FunctionSpec, LocalPlatform
    from lamella.targets.local.sandbox import detect

    folder, package, marker, isolation = sys.argv[1:]
    means = detect("none", cgroups=False) if isolation == "none" else None
    platform = LocalPlatform(Path(folder), limits=load_platform("aws-lambda").limits, means=means)
    platform.create(
        FunctionSpec("busy", Path(package), 512, 60, handler="app.handle", environment={"MARKER": marker})
    )
    platform.invoke("busy", b"0")
    time.sleep(0.3)  # it stands still
    idle = platform.start("busy", count=1).result()
    running = platform.submit("busy", b"50"), platform.submit("busy", b"50")
    time.sleep(0.5)
    print("there", flush=True)
    exec(sys.stdin.readline())
"""


def host(tmp_path: Path, marker: str, isolation: str = "best") -> subprocess.Popen[str]:
    package = tmp_path / "package"
    if not package.exists():
        write_package(package, SLEEP)
    process = subprocess.Popen(
        [sys.executable, "-c", dedent(HOST), tmp_path / "platform", package, marker, isolation],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def finish(process: subprocess.Popen[str], statement: str) -> None:
    process.communicate(statement + "\n", timeout=30)


@pytest.mark.parametrize("isolation", ["best", "none"])
@pytest.mark.parametrize("statement", ["import os; os.kill(os.getpid(), 9)", "import os; os._exit(3)"])
def test_a_platform_that_crashes_leaves_nothing_but_logs(tmp_path: Path, statement: str, isolation: str) -> None:
    marker = f"marker-{os.getpid()}-{len(statement)}-{isolation}"
    process = host(tmp_path, marker, isolation)
    prefix = owner_prefix().replace(f"-{os.getpid()}-", f"-{process.pid}-").rpartition("-")[0].rpartition("-")[0]
    if detect().hierarchy and isolation == "best":
        assert cgroups(prefix)
    finish(process, statement)
    eventually(lambda: not processes_with(marker))
    eventually(lambda: not cgroups(prefix))
    eventually(lambda: [path.name for path in (tmp_path / "platform").glob("run-*")] == [])
    eventually(lambda: not processes_with(str(tmp_path)))  # the guardian itself


@pytest.mark.parametrize("isolation", ["best", "none"])
def test_a_program_that_forgets_to_close_leaves_nothing(tmp_path: Path, isolation: str) -> None:
    marker = f"marker-{os.getpid()}-forgotten-{isolation}"
    process = host(tmp_path, marker, isolation)
    finish(process, "pass")
    assert process.returncode == 0
    assert processes_with(marker) == []
    assert {path.name for path in (tmp_path / "platform").iterdir()} == {"lock", "logs"}


def test_the_next_platform_cleans_up_where_no_guardian_was_left(tmp_path: Path) -> None:
    if not detect().hierarchy:
        pytest.skip("; ".join(detect().reasons))
    marker = f"marker-{os.getpid()}-stale"
    process = host(tmp_path, marker)
    guardians = [int(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdecimal()
                 and f"guardian.py\0{process.pid}\0" in _command_line(folder)]  # fmt: skip
    assert len(guardians) == 1
    os.kill(guardians[0], signal.SIGKILL)
    finish(process, "import os; os.kill(os.getpid(), 9)")
    prefix = f"lamella-{os.stat('/proc/self/ns/pid').st_ino}-{process.pid}-"
    assert cgroups(prefix)
    assert list((tmp_path / "platform").glob("run-*"))
    with LocalPlatform(tmp_path / "platform", limits=LIMITS):
        assert cgroups(prefix) == []
        assert len(list((tmp_path / "platform").glob("run-*"))) == 1
    assert processes_with(marker) == []


def _command_line(folder: Path) -> str:
    try:
        return (folder / "cmdline").read_text()
    except OSError:
        return ""


def test_cleaning_up_spares_the_cgroups_of_the_living(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS) as platform:
        name = create(platform, tmp_path, "def handle(event, context):\n    return 1\n")
        assert answer(platform.invoke(name)) == 1
        assert remove_stale_cgroups({parent.folder for parent in platform.means.hierarchy.values()}) == 0
        done = platform.invoke(name)
        assert answer(done) == 1
        assert done.report is not None
        assert not done.report.cold_start


def test_closing_does_not_wait_for_those_who_are_connected(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS) as platform:
        name = create(platform, tmp_path, "def handle(event, context):\n    return 1\n")
        address = ("127.0.0.1", int(platform.url.rpartition(":")[2]))
        head = f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
        with socket.create_connection(address) as resting, socket.create_connection(address) as unfinished:
            resting.sendall(f"{head}{{}}".encode())
            assert b"200 OK" in resting.recv(1000)
            unfinished.sendall(f"{head}{{".encode())
            began = time.monotonic()
            platform.close()
            assert time.monotonic() - began < 3


def test_closing_does_not_wait_for_clients_that_go_on_asking(tmp_path: Path) -> None:
    statuses: set[int] = set()
    gives_up = time.monotonic() + 12

    def ask(address: str, name: str) -> None:
        connection = http.client.HTTPConnection(address, timeout=10)
        with suppress(OSError, http.client.HTTPException):  # which is how it hears that the platform is gone
            while time.monotonic() < gives_up:
                connection.request("POST", f"/2015-03-31/functions/{name}/invocations", b"0.02")
                response = connection.getresponse()
                response.read()
                statuses.add(response.status)
        connection.close()

    platform = LocalPlatform(tmp_path / "platform", limits=LIMITS)
    name = create(platform, tmp_path, "import time\n\ndef handle(event, context):\n    time.sleep(event)\n")
    address = platform.url.rpartition("/")[2]
    clients = [threading.Thread(target=ask, args=(address, name)) for _ in range(4)]
    for client in clients:
        client.start()
    eventually(lambda: 200 in statuses)
    began = time.monotonic()
    platform.close()
    took_s = time.monotonic() - began
    for client in clients:
        client.join()
    assert took_s < 5
    assert statuses <= {200, 503}


def test_a_forked_child_that_exits_leaves_the_platform_to_its_parent(tmp_path: Path) -> None:
    process = host(tmp_path, f"marker-{os.getpid()}-forked")
    child = "child = __import__('os').fork(); child or sys.exit(); __import__('os').waitpid(child, 0)"
    count = "len(list(Path(folder).glob('run-*')))"
    said, _ = process.communicate(f"{child}; print(platform.invoke('busy', b'0').status, {count})\n", timeout=30)
    assert said == "200 1\n"
    assert process.returncode == 0
    assert list((tmp_path / "platform").glob("run-*")) == []


def test_a_forked_child_is_told_that_it_has_no_platform(tmp_path: Path) -> None:
    process = host(tmp_path, f"marker-{os.getpid()}-told")
    child = """\
def ask():
    try:
        platform.invoke('busy', b'0')
    except Exception as error:
        print(type(error).__name__, error.message, '|', error.hint, flush=True)
    os._exit(0)

import os; child = os.fork(); child or ask()
os.waitpid(child, 0); print(platform.invoke('busy', b'0').status)
"""
    said, _ = process.communicate(f"exec({child!r})\n", timeout=30)
    assert said == (
        "UsageError the platform runs in the process that this one was forked from | "
        "invoke over its `url`, or make the platform in the process that uses it\n200\n"
    )


def test_a_caller_who_is_interrupted_leaves_no_request(tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    with LocalPlatform(tmp_path / "platform", limits=LIMITS) as platform:
        name = create(platform, tmp_path, "import time\n\ndef handle(event, context):\n    time.sleep(event)\n")
        assert platform.invoke(name, b"0").status == 200
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        try:
            with pytest.raises(KeyboardInterrupt):
                platform.invoke(name, b"19")
        finally:
            signal.signal(signal.SIGALRM, before)
        eventually(lambda: not platform.functions()[0].instances)


def test_a_forked_child_that_lives_on_does_not_keep_the_folder(tmp_path: Path) -> None:
    process = host(tmp_path, f"marker-{os.getpid()}-living")
    fork = "import os; child = os.fork(); child or (time.sleep(20), os._exit(0))"
    again = "LocalPlatform(Path(folder), limits=load_platform('aws-lambda').limits).close()"
    said, _ = process.communicate(f"{fork}; platform.close(); {again}; print('again'); os.kill(child, 9)\n", timeout=30)
    assert said == "again\n"


def test_starts_that_are_refused_or_given_up_leave_no_instances(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, most_instances=2, keep_alive_s=0.2) as platform:
        name = create(platform, tmp_path, "import time\ntime.sleep(1)\n\ndef handle(event, context):\n    return 1\n")
        with pytest.raises(RefusedError, match="Rate Exceeded"):
            platform.start(name, count=3).result()
        eventually(lambda: not platform.functions()[0].instances)
        started = platform.start(name, count=2)
        eventually(lambda: platform.functions()[0].instances == 2)
        assert started.cancel()
        eventually(lambda: not platform.functions()[0].instances)


def test_a_full_disk_loses_log_lines_and_nothing_else(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("there is no /dev/full")
    (tmp_path / "platform" / "logs").mkdir(parents=True)
    (tmp_path / "platform" / "logs" / "full.log").symlink_to("/dev/full")
    source = "import os\n\ndef handle(event, context):\n    print('lost')\n    if event:\n        os._exit(1)\n"
    platform = LocalPlatform(tmp_path / "platform", limits=LIMITS)
    closing = threading.Thread(target=platform.close, daemon=True)
    try:
        name = create(platform, tmp_path, source, name="full")
        assert platform.submit(name, b"0").result(timeout=20).function_error is None
        assert platform.submit(name, b"1").result(timeout=20).error_type == "Runtime.ExitError"
        platform.submit(name, b"0").result(timeout=20)
    finally:
        closing.start()
        closing.join(timeout=20)
    assert not closing.is_alive()


def test_what_is_asked_while_the_platform_closes_is_done_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over, handing, asked = asyncio.run_coroutine_threadsafe, threading.Event(), []

    def slowly(work: Coroutine[None, None, Invocation], loop: asyncio.AbstractEventLoop) -> Future[Invocation]:
        handing.set()
        time.sleep(1)
        return hand_over(work, loop)

    platform = LocalPlatform(tmp_path / "platform", limits=LIMITS)
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", slowly)
    asking = threading.Thread(target=lambda: asked.append(platform.submit("nobody")), daemon=True)
    asking.start()
    assert handing.wait(10)
    platform.close()
    asking.join(timeout=10)
    assert [future.result(timeout=0).status for future in asked] == [404]
    with pytest.raises(UsageError, match="the platform is closed"):
        platform.submit("nobody")


def test_a_folder_is_never_two_platforms_own(tmp_path: Path) -> None:
    folder = tmp_path / "platform"
    with LocalPlatform(folder, limits=LIMITS):
        late = os.open(folder / "lock", os.O_RDWR)  # another one has just come to here
    with LocalPlatform(folder, limits=LIMITS), pytest.raises(BlockingIOError):
        fcntl.flock(late, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(late)


def test_a_folder_that_cannot_be_used_is_said_and_left_unlocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot use .*: Not a directory|cannot use .*: File exists"):
        LocalPlatform(tmp_path / "file" / "below", limits=LIMITS)

    def refuse(**_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(tempfile, "mkdtemp", refuse)
        with pytest.raises(UsageError, match="No space left"):
            LocalPlatform(tmp_path / "platform", limits=LIMITS)
    LocalPlatform(tmp_path / "platform", limits=LIMITS).close()


FEW_FILES = """
import resource, sys
from collections import Counter
from pathlib import Path
from lamella.platforms import load_platform
from lamella.targets.local.platform import FunctionSpec, LocalPlatform

resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
with LocalPlatform(Path(sys.argv[1]), limits=load_platform("aws-lambda").limits) as platform:
    platform.create(FunctionSpec("slow", Path(sys.argv[2]), 512, 20, handler="app.handle"))
    running = [platform.submit("slow", b"2") for _ in range(30)]
    print(Counter((done.result().status, done.result().error_type) for done in running))
"""


def test_a_process_that_may_open_few_files_has_few_instances(tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", "import time\n\ndef handle(event, context):\n    time.sleep(event)\n")
    command = [sys.executable, "-c", FEW_FILES, str(tmp_path / "platform"), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "Counter({(429, 'TooManyRequestsException'): 24, (200, None): 6})\n", done.stderr


def test_a_start_that_fails_half_way_leaves_no_cgroups(tmp_path: Path) -> None:
    means = detect()
    memory = means.hierarchy.get("memory")
    if memory is None:
        pytest.skip("; ".join(means.reasons))
    other = Parent(memory.folder, 3 - memory.version)  # whose files the kernel does not have there
    descriptors = len(os.listdir("/proc/self/fd"))
    means = replace(means, hierarchy={**means.hierarchy, "memory": other})
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, means=means) as platform:
        name = create(platform, tmp_path, "def handle(event, context):\n    return 1\n")
        assert platform.invoke(name).error_type == "Sandbox.Failure"
        assert cgroups(owner_prefix()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_process_that_cannot_be_bound_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    marker = f"marker-{os.getpid()}-bound"
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, means=detect("none", cgroups=False)) as platform:
        name = create(platform, tmp_path, SLEEP, environment={"MARKER": marker})
        assert platform.invoke(name, b"0").error_type == "Sandbox.Failure"
        assert processes_with(marker) == []
        assert [path.name for path in (tmp_path / "platform").glob("run-*/instance-*")] == []


@pytest.mark.parametrize("isolation", ["best", "none"])
def test_an_instance_that_starts_again_has_left_nothing(tmp_path: Path, isolation: str) -> None:
    """The first ends after its start, while the start that it is part of still waits for the second.

    There is no freezer: it would let the first stand still before it ends.
    """
    shared = tmp_path / "shared"
    shared.mkdir()
    source = f"""
        import os, threading, time

        def number(n=1):
            try:
                os.mkdir({str(shared)!r} + f"/{{n}}")
            except FileExistsError:
                return number(n + 1)
            return n

        mine = number()
        if mine == 1:
            threading.Timer(0.1, os._exit, [1]).start()
        if mine == 2:
            time.sleep(2.5)

        def handle(event, context):
            return mine
    """
    means = detect("none", cgroups=False) if isolation == "none" else detect()
    means = replace(means, hierarchy={name: place for name, place in means.hierarchy.items() if name != "freezer"})
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, means=means) as platform:
        name = create(platform, tmp_path, source, mounts=(Mount(shared, str(shared), writable=True),))
        platform.start(name, count=2)
        eventually((shared / "2").exists)
        eventually(lambda: platform.functions()[0].instances == 1)
        answered = [platform.submit(name) for _ in range(2)]
        assert {done.result().payload for done in answered} == {b"2", b"3"}
        if isolation == "none":
            assert len(list((tmp_path / "platform").glob("run-*/instance-*"))) == 2
    assert cgroups(owner_prefix()) == []
