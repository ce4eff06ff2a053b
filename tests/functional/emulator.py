"""AWS's Runtime Interface Emulator around a package, with AWS's own runtime client in it."""

import importlib.util
import os
import platform as machine
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def emulate(
    package: Path, handler: str, *, program: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A package in the emulator; its port.

    Args:
        package: Its folder.
        handler: What is called.
        program: Where the emulator is copied to, so that it may be run.
        environment: All variables; by default this process's own.
    """
    if sys.platform != "linux":
        pytest.skip("the emulator is a Linux program")
    if importlib.util.find_spec("awslambdaric") is None:
        pytest.skip("awslambdaric is not installed")
    program.write_bytes(emulator().read_bytes())
    program.chmod(0o755)
    outside, inside = free_port(), free_port()
    process = subprocess.Popen(
        [program, "--runtime-interface-emulator-address", f"127.0.0.1:{outside}", "--runtime-api-address",
         f"127.0.0.1:{inside}", sys.executable, "-m", "awslambdaric", handler],
        cwd=package, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", outside)).close()
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        yield outside
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def emulator() -> Path:
    """From the wheel of AWS's command line for serverless applications."""
    architecture = "arm64" if machine.machine() in ("arm64", "aarch64") else "x86_64"
    file = Path(sys.prefix) / "emulator" / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
    if not file.exists():
        pytest.skip("the Runtime Interface Emulator is not there (pip install --no-deps --target emulator aws-sam-cli)")
    return file


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
