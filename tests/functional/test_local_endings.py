"""What the local platform leaves behind: nothing, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
from tests.functional.local_functions import LIMITS, answer, create, write_package

from lamella.targets.local.guardian import owner_prefix, remove_stale_cgroups
from lamella.targets.local.platform import LocalPlatform
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
    assert [path.name for path in (tmp_path / "platform").iterdir()] == ["logs"]
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
    assert [path.name for path in (tmp_path / "platform").iterdir()] == ["logs"]


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
