"""What functions of the local platform are held to, by each of the means that this machine has."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.functional.local_functions import LIMITS, Make, answer, create, error

from lamella.targets.local.cgroup import ROOT, Parent
from lamella.targets.local.enforcement import enforcement
from lamella.targets.local.guardian import owner_prefix
from lamella.targets.local.platform import LocalPlatform, Mount
from lamella.targets.local.sandbox import Isolation, Means, detect

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits are Linux's")

MEANS: dict[str, tuple[Isolation, bool]] = {
    "bubblewrap": ("bubblewrap", True),
    "unshare": ("unshare", True),
    "bubblewrap without cgroups": ("bubblewrap", False),
    "nothing": ("none", False),
}
"""What isolates functions, and whether cgroups hold them to their limits."""


def available(name: str) -> Means:
    isolation, cgroups = MEANS[name]
    means = detect(isolation, cgroups=cgroups)
    missing = {"memory", "cpu", "pids", "freezer"} - means.hierarchy.keys() if cgroups else set()
    if means.isolation != isolation or missing:
        pytest.skip(f"{name}: {'; '.join([*means.reasons, *sorted(missing)])}")
    return means


ISOLATED = pytest.mark.parametrize("platform", [name for name in MEANS if name != "nothing"], indirect=True)
HELD = pytest.mark.parametrize("platform", ["bubblewrap", "unshare"], indirect=True)
"""By cgroups, which are there as root or where they are delegated."""


@pytest.fixture(scope="module", params=MEANS)
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    folder = tmp_path_factory.mktemp("platform")
    with LocalPlatform(folder, limits=LIMITS, means=available(request.param)) as local:
        yield local


@pytest.fixture
def make(platform: LocalPlatform, tmp_path: Path) -> Iterator[Make]:
    names: list[str] = []

    def made(source: str, **settings: Any) -> str:
        names.append(create(platform, tmp_path, source, **settings))
        return names[-1]

    yield made
    for name in names:
        platform.delete(name)


GROW = """
    import time

    kept = []

    def handle(event, context):
        for _ in range(event):
            kept.append(bytearray(b"x" * (8 << 20)))
            time.sleep(0.01)
        return len(kept)
"""


def test_a_function_that_takes_too_much_memory_is_killed_and_told_so(platform: LocalPlatform, make: Make) -> None:
    name = make(GROW, memory_mb=192)
    assert answer(platform.invoke(name, b"4")) == 4
    failed = platform.invoke(name, b"100", log_tail=True)
    assert error(failed) == (
        "Runtime.OutOfMemory",
        f"RequestId: {failed.request_id} Error: Runtime exited with error: signal: killed",
    )
    assert failed.report is not None
    assert failed.report.max_memory_mb == 192
    assert "\tMax Memory Used: 192 MB\tStatus: error\tError Type: Runtime.OutOfMemory\t\n" in failed.log
    assert answer(platform.invoke(name, b"1")) == 1


def test_a_start_that_takes_too_much_memory_is_told_so(platform: LocalPlatform, make: Make) -> None:
    failed = platform.invoke(
        make(
            "import time\nkept = []\nwhile True:\n    kept.append(bytearray(b'x' * (4 << 20)))\n    time.sleep(0.01)",
            memory_mb=128,
        )
    )
    assert error(failed)[0] == "Runtime.OutOfMemory"


def test_memory_that_was_used_is_counted(platform: LocalPlatform, make: Make) -> None:
    name = make(GROW, memory_mb=512)
    small = platform.invoke(name, b"0").report
    large = platform.invoke(name, b"20").report
    again = platform.invoke(name, b"0").report
    assert small is not None
    assert large is not None
    assert again is not None
    assert 4 <= small.max_memory_mb <= 60
    assert 155 <= large.max_memory_mb - small.max_memory_mb <= 190
    assert again.max_memory_mb == pytest.approx(large.max_memory_mb, abs=2)


def test_files_that_a_function_reads_are_no_memory_of_its_own(
    platform: LocalPlatform, make: Make, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with (data / "large").open("wb") as file:
        file.truncate(400 << 20)
    name = make(
        f"""
        def handle(event, context):
            size = 0
            with open("{data}/large", "rb", buffering=0) as file:
                while chunk := file.read(1 << 20):
                    size += len(chunk)
            return size
        """,
        memory_mb=192,
        mounts=(Mount(data, str(data)),),
    )
    done = platform.invoke(name)
    assert answer(done) == 400 << 20
    assert done.report is not None
    assert done.report.max_memory_mb < 60


@pytest.mark.parametrize("memory_mb", [256, 885])
@HELD
def test_a_function_gets_the_share_of_a_processor_that_its_memory_brings(
    platform: LocalPlatform, make: Make, memory_mb: int
) -> None:
    name = make(
        """
        import time

        def handle(event, context):
            began, used = time.monotonic(), time.process_time()
            while time.monotonic() - began < event:
                pass
            return (time.process_time() - used) / (time.monotonic() - began)
        """,
        memory_mb=memory_mb,
    )
    platform.invoke(name, b"0.3")  # what it saved up while it started
    shares: list[float] = []
    while len(shares) < 8 and max(shares, default=0) < 0.85:  # less where others want the processors too, more never
        shares.append(answer(platform.invoke(name, b"1.5")) / (memory_mb / 1769))
    assert 0.85 < max(shares) < 1.15, shares


WRITE = """
    def handle(event, context):
        try:
            with open(event, "ab", buffering=0) as file:
                for _ in range(64):
                    file.write(b"x" * (1 << 20))
        except OSError as error:
            return error.errno
"""


@ISOLATED
def test_a_function_can_write_to_its_temporary_folder_only(platform: LocalPlatform, make: Make, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    name = make(WRITE, mounts=(Mount(data, "/mnt/data"),))
    assert answer(platform.invoke(name, b'"/tmp/file"')) is None
    for path in ("/var/task/app.py", "/var/task/new", "/var/runtime/new", "/new", "/usr/new", "/etc/new", "/dev/new",
                 "/dev/shm/new", "/mnt/data/new", sys.prefix + "/new", "/proc/sys/kernel/hostname"):  # fmt: skip
        assert answer(platform.invoke(name, f'"{path}"'.encode())) in (
            errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT,
        ), path  # fmt: skip
    assert not list(data.iterdir())


@ISOLATED
def test_the_temporary_folder_is_as_large_as_was_asked_for(platform: LocalPlatform, make: Make) -> None:
    assert answer(platform.invoke(make(WRITE, temporary_mb=512), b'"/tmp/file"')) is None
    assert answer(platform.invoke(make(WRITE, temporary_mb=32), b'"/tmp/file"')) == errno.ENOSPC


def test_a_function_has_a_temporary_folder_of_its_own(platform: LocalPlatform, make: Make) -> None:
    source = """
        import os, tempfile

        def handle(event, context):
            folder = tempfile.gettempdir()
            there = os.listdir(folder)
            open(os.path.join(folder, "mine"), "x").close()
            return there
    """
    first, second = make(source), make(source)
    assert answer(platform.invoke(first)) == []
    assert answer(platform.invoke(second)) == []
    assert answer(platform.invoke(first, qualifier="1")) == []  # another instance of the same function


@ISOLATED
def test_a_function_sees_nothing_of_others(platform: LocalPlatform, make: Make, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    name = make("""
        import os

        def handle(event, context):
            seen = [path for path in event if os.path.exists(path)]
            processes = [name for name in os.listdir("/proc") if name.isdecimal()]
            return {"seen": seen, "processes": len(processes), "root": sorted(os.listdir("/")), "uid": os.getuid()}
    """)
    asked = [
        str(secret),
        str(Path(__file__)),
        str(Path.home() / ".bashrc"),
        "/etc/shadow",
        "/etc/hostname",
        "/home",
        str(Path.home() / ".ssh"),
    ]
    found = answer(platform.invoke(name, str(asked).replace("'", '"').encode()))
    assert found["seen"] == []
    assert found["processes"] <= 3
    assert set(found["root"]) <= {"bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "mnt", "nix", "opt", "proc",
                                  "root", "sbin", "sys", "tmp", "usr", "var", "home"}  # fmt: skip


@ISOLATED
def test_a_function_gains_no_privileges(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        import ctypes, os

        def handle(event, context):
            libc = ctypes.CDLL(None, use_errno=True)
            remounted = libc.mount(None, b"/var/task", None, 32 | 4096, None)  # MS_REMOUNT | MS_BIND
            status = dict(line[:-1].split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
            return [remounted, int(status["CapEff"], 16), int(status["CapBnd"], 16), status["NoNewPrivs"]]
    """)
    assert answer(platform.invoke(name)) == [-1, 0, 0, "1"]


@HELD
def test_a_function_has_1024_open_files_and_threads(platform: LocalPlatform, make: Make) -> None:
    files = make("""
        def handle(event, context):
            kept = []
            try:
                for _ in range(3000):
                    kept.append(open("/dev/null"))
            except OSError:
                return len(kept)
    """)
    assert 1000 <= answer(platform.invoke(files)) < 1024
    threads = make("""
        import threading

        def handle(event, context):
            threading.stack_size(65536)
            ending, kept = threading.Event(), []
            try:
                for _ in range(3000):
                    kept.append(threading.Thread(target=ending.wait))
                    kept[-1].start()
            except RuntimeError:
                return len(kept)
            finally:
                ending.set()
    """)
    assert 1000 <= answer(platform.invoke(threads)) <= 1024


@HELD
def test_an_idle_instance_stands_still(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        import threading, time

        ticks = 0

        def tick():
            global ticks
            while True:
                time.sleep(0.005)
                ticks += 1

        threading.Thread(target=tick, daemon=True).start()

        def handle(event, context):
            return ticks
    """)
    before = answer(platform.invoke(name))
    time.sleep(1)
    after = answer(platform.invoke(name))
    assert after - before < 60


@HELD
def test_an_instance_that_is_ready_stands_still_while_others_start(
    platform: LocalPlatform, make: Make, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    ticks, go = shared / "ticks", shared / "go"
    name = make(
        f"""
        import os, threading, time

        def handle(event, context):
            return 1

        def tick(file):
            while True:
                os.write(file, b"x")
                time.sleep(0.005)

        try:
            file = os.open({str(ticks)!r}, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            while not os.path.exists({str(go)!r}):
                time.sleep(0.01)
        else:
            threading.Thread(target=tick, args=(file,), daemon=True).start()
        """,
        mounts=(Mount(shared, str(shared), writable=True),),
    )
    started = platform.start(name, count=2)
    deadline, before, now = time.monotonic() + 9, 0, -1
    while not before or before != now:
        assert time.monotonic() < deadline
        before = ticks.stat().st_size if ticks.exists() else 0
        time.sleep(0.2)
        now = ticks.stat().st_size if ticks.exists() else 0
    assert not started.done()
    go.touch()
    assert started.result() == 2


def test_what_is_enforced_is_said_for_every_means() -> None:
    best = {entry.limit: entry for entry in enforcement()}
    worst = {entry.limit: entry for entry in enforcement(detect("none", cgroups=False))}
    assert best.keys() == worst.keys()
    for limit in ("memory", "processors", "read-only code", "files and processes of others"):
        assert worst[limit].enforced != "yes"
        assert worst[limit].hint
    assert all(entry.hint is None for entry in best.values() if entry.enforced == "yes")
    ends = {isolation: enforcement(detect(isolation, cgroups=False))[-1] for isolation in ("unshare", "none")}
    assert [ends["none"].enforced, ends["unshare"].enforced] == ["partly", "yes"]  # a process may leave its group
    assert ends["none"].hint
    if os.geteuid() == 0 and detect().hierarchy:
        assert best["memory"].enforced == "yes"


def test_the_freezer_of_version_1_freezes_thaws_and_lets_die(tmp_path: Path) -> None:
    freezer = ROOT / "freezer"
    means = detect()
    if "freezer" not in means.hierarchy or not os.access(freezer / "cgroup.procs", os.W_OK):
        pytest.skip("there is no freezer of version 1 that this user may write to")
    means = replace(means, hierarchy={**means.hierarchy, "freezer": Parent(freezer, 1)})

    def states() -> set[str]:
        return {path.read_text() for path in freezer.glob(f"{owner_prefix()}*/freezer.state")}

    with LocalPlatform(tmp_path / "platform", limits=LIMITS, means=means) as platform:
        name = create(platform, tmp_path, "def handle(event, context):\n    return event\n")
        for n in range(3):
            assert answer(platform.invoke(name, str(n).encode())) == n
            deadline = time.monotonic() + 5
            while states() != {"FROZEN\n"}:
                assert time.monotonic() < deadline, states()
                time.sleep(0.01)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    assert not list(freezer.glob(f"{owner_prefix()}*"))
