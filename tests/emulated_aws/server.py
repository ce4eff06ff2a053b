"""LocalStack for tests: AWS's services in processes of this machine, with functions that really run."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from platform import machine
from secrets import token_hex
from urllib.request import urlopen

import pytest
from tests.functional.registries import basic_auth, lacking, write_config, write_login

import lamella

REGION = "us-east-1"
ACCOUNT = "000000000000"
PYTHON = "3.13"
"""Of functions: AWS's newest but one, and what LocalStack runs on here."""

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_CONFIG_FILE": os.devnull}
REGISTRY_PROGRAMS = ("docker-registry", "htpasswd")
"""What Amazon ECR is made of here."""

INSIDE_PORT = 4566  # in a network of its own, where nobody else listens
CALLS = "calls"
"""In the folder: who has called what (`localstack_calls.py`)."""

_PROGRAM = Path(__file__).with_name("localstack_program.py")
_NO_NETWORK = 77  # as the program has it
_START_S = 120.0


def localstack_python() -> Path:
    """The Python of the environment that LocalStack is in."""
    given = os.environ.get("LAMELLA_LOCALSTACK")
    found = (Path(given) if given else Path(sys.prefix) / "localstack") / "bin" / "python"
    if not found.is_file():
        pytest.skip("there is no environment with LocalStack (`make test` makes `.venv/localstack` with Python 3.13)")
    return found


def runtime_emulator() -> Path:
    """AWS's Runtime Interface Emulator for this machine."""
    architecture = "arm64" if machine() == "aarch64" else "x86_64"
    found = Path(sys.prefix) / "emulator" / "samcli" / "local" / "rapid" / f"aws-lambda-rie-{architecture}"
    if not found.is_file():
        pytest.skip("the Runtime Interface Emulator is not there (pip install --no-deps --target emulator aws-sam-cli)")
    return found


@contextmanager
def localstack(folder: Path) -> Iterator[str]:
    """The URL of all of its services. No process of it is left afterwards, and no file outside of `folder`."""
    if sys.platform != "linux":
        pytest.skip("functions need Linux")
    python, emulator = localstack_python(), folder / "rie"
    shutil.copy(runtime_emulator(), emulator)
    emulator.chmod(0o700)
    for name in ("volume", "temporary", "home", "registry"):
        (folder / name).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as images:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder / "home"),
            "TEMPORARY": str(folder / "temporary"),
            "CALLS": str(folder / CALLS),
            "EMULATOR": str(emulator),
            "PYTHON_OF_FUNCTIONS": str(python),
            "PORT": str(INSIDE_PORT),
            "LISTENER": str(listener.fileno()),
            "GATEWAY_LISTEN": f"127.0.0.1:{INSIDE_PORT}",
            "LOCALSTACK_VOLUME_DIR": str(folder / "volume"),
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            "DISABLE_EVENTS": "1",
            "DNS_ADDRESS": "0",
            "IMAGES_LISTENER": str(images.fileno()),
            **_registry(folder, f"127.0.0.1:{images.getsockname()[1]}"),
        }
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [python, _PROGRAM],
                env=environment,
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno(), images.fileno()],
            )
    try:
        _wait(process, url, folder / "log")
        yield url
    finally:
        _end(process)


def _registry(folder: Path, address: str) -> dict[str, str]:
    """What the program must know of the registry behind its Amazon ECR; no configuration where there is none."""
    password, config = token_hex(), ""
    if not lacking(*REGISTRY_PROGRAMS):
        auth = basic_auth(folder / "registry", "AWS", password)
        config = str(write_config(folder / "registry", address, auth=auth))
    write_login(folder / "registry" / "auth.json", address, "AWS", password)
    return {
        "IMAGES_ADDRESS": address,
        "IMAGES_CONFIG": config,
        "IMAGES_FOLDER": str(folder / "registry" / "registry"),
        "IMAGES_PASSWORD": password,
        "IMAGES_LOGIN": str(folder / "registry" / "auth.json"),
        "PYTHON_OF_TESTS": sys.executable,
        "PATH_OF_TESTS": f"{Path(lamella.__file__).parents[1]}{os.pathsep}{_PROGRAM.parents[2]}",
    }


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if process.poll() == _NO_NETWORK:
            pytest.skip("this machine allows no network namespaces, and LocalStack listens on all interfaces")
        if process.poll() is not None:
            raise RuntimeError(log.read_text(errors="replace"))
        try:
            with urlopen(f"{url}/_localstack/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (HTTPException, OSError):
            time.sleep(0.1)
    raise TimeoutError(log.read_text(errors="replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """It and everything that it has started."""
    assert process.stdin is not None
    process.stdin.close()
    process.wait(_START_S)
