"""LocalStack with functions that run, without Docker: a program for an environment that has `localstack-core`.

    EMULATOR=aws-lambda-rie PYTHON_OF_FUNCTIONS=python PORT=4566 LISTENER=5 TEMPORARY=/tmp CALLS=calls \
        python localstack_program.py

LocalStack runs functions in containers. Here each instance is a process of AWS's own Runtime Interface Emulator
instead, with AWS's own runtime client in it, which is what the containers hold, too.

LocalStack and its functions listen on whatever interfaces there are, so they get a network of their own, with nothing
in it but a loopback interface. The file descriptor `LISTENER` is a listening socket outside of it: what arrives there
is passed on to `PORT` inside. `IMAGES_LISTENER` is the same for the registry of images, where there is one.

Functions that are images are pulled from there and unpacked (`unpacking.py`), and run as the others are: what AWS's own
base images hold, the emulator and the runtime client, is here already.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

NO_NETWORK = 77
"""Exit status: this machine allows no network of one's own."""

PORT = int(os.environ["PORT"])
EMULATOR, PYTHON = os.environ["EMULATOR"], os.environ["PYTHON_OF_FUNCTIONS"]
tempfile.tempdir = os.environ["TEMPORARY"]
_FAILED_MARKS = ("errorType", "errorMessage")
_START_S = 30.0

import psutil
from localstack.services.lambda_ import provider
from localstack.services.lambda_.invocation import execution_environment, runtime_executor, version_manager
from localstack.services.lambda_.invocation.lambda_models import InvocationResult
from localstack.services.s3 import provider as s3
from localstack_calls import record  # beside this file
from localstack_ecr import ADDRESS, start
from localstack_file_systems import fill_file_systems, mounting
from localstack_gaps import fill


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def code_of(settings):
    """Where a function's files are, and the command that runs them."""
    if settings.package_type == "Zip":
        return settings.code.get_unzipped_code_location(), [PYTHON, "-m", "awslambdaric", settings.handler]
    image = unpacked(settings.image.image_uri, settings.architectures[0])
    run = json.loads((image / "config.json").read_text())
    command = settings.image_config.command or run["Cmd"]
    if any(variable.startswith("LAMBDA_RUNTIME_DIR=") for variable in run["Env"]):  # on AWS's own base
        return image / "task", [PYTHON, "-m", "awslambdaric", *command]
    return image / "task", [PYTHON, *run["Entrypoint"][1:], *command]


_unpacking = threading.Lock()


def unpacked(name: str, architecture: str) -> Path:
    """The folder of an image, which is pulled once."""
    if not name.startswith(f"{ADDRESS}/") or "@sha256:" not in name:
        raise ValueError(f"{name} is no image of this account, by its digest")
    folder = Path(tempfile.gettempdir()) / "images" / name.rpartition(":")[2]
    with _unpacking:
        if not folder.exists():
            staging = folder.with_suffix(".new")
            command = [os.environ["PYTHON_OF_TESTS"], "-m", "tests.emulated_aws.unpacking"]
            blobs = folder.parent / "pulled"
            more = {"PYTHONPATH": os.environ["PATH_OF_TESTS"], "REGISTRY_AUTH_FILE": os.environ["IMAGES_LOGIN"]}
            subprocess.run([*command, name, architecture, blobs, staging], env={**os.environ, **more}, check=True)
            staging.rename(folder)
    return folder


class Emulated(runtime_executor.RuntimeExecutor):
    """One instance of a function."""

    def start(self, env_vars):
        settings = self.function_version.config
        task, runtime = code_of(settings)
        self.port = free_port()
        self.temporary = tempfile.TemporaryDirectory(prefix="function-")
        self.log = Path(self.temporary.name) / "log"
        environment = {name: str(value) for name, value in env_vars.items()} | {
            "LAMBDA_TASK_ROOT": str(task),
            "PYTHONPATH": str(task),
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(settings.timeout),
            "PATH": os.environ["PATH"],
            "TMPDIR": self.temporary.name,
            # Only this place is known to what runs here; names of hosts are not resolved.
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{PORT}",
        }
        command = [
            EMULATOR,
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{self.port}",
            "--runtime-api-address",
            f"127.0.0.1:{free_port()}",
            *runtime,
        ]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                mounting(self.function_version, command),
                env=environment,
                cwd=task,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(self.get_logs()) from None
                time.sleep(0.01)
        raise TimeoutError(self.get_logs())

    def stop(self):
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.temporary.cleanup()

    def get_address(self):
        return "127.0.0.1"

    def get_endpoint_from_executor(self):
        return "127.0.0.1"

    def get_runtime_endpoint(self):
        return f"http://127.0.0.1:{PORT}"

    def invoke(self, payload):
        before = self.log.stat().st_size
        request = Request(
            f"http://127.0.0.1:{self.port}/2015-03-31/functions/function/invocations",
            payload["payload"].encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urlopen(request, timeout=905) as answer:
                body = answer.read()
        except HTTPError as error:
            body = error.read()
        logs = self.log.read_bytes()[before:].decode(errors="replace")
        failed = _failed(body)
        if failed and not body.startswith(b"{"):  # it timed out: the emulator says so in a sentence
            kind = "Sandbox.Timedout" if b"timed out" in body else "Runtime.ExitError"
            body = json.dumps({"errorType": kind, "errorMessage": body.decode(errors="replace")}).encode()
        return InvocationResult(payload["invoke-id"], body, is_error=failed, logs=logs)

    def get_logs(self):
        return self.log.read_text(errors="replace")

    @classmethod
    def prepare_version(cls, function_version):
        if function_version.config.code:
            function_version.config.code.prepare_for_execution()
        if function_version.config.image:
            code_of(function_version.config)

    @classmethod
    def cleanup_version(cls, function_version):
        pass


def _failed(body: bytes) -> bool:
    try:
        content = json.loads(body)
    except ValueError:
        return True
    return isinstance(content, dict) and all(mark in content for mark in _FAILED_MARKS)


def enter_own_network() -> None:
    """Every thread that is started from now on, and every process, is in it."""
    user = 0 if os.geteuid() == 0 else os.CLONE_NEWUSER
    try:
        os.unshare(user | os.CLONE_NEWNET)
    except PermissionError:
        sys.exit(NO_NETWORK)
    up, set_flags = 0x1, 0x8914  # IFF_UP, SIOCSIFFLAGS
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))


def pass_on(listener: socket.socket, port: int) -> None:
    """Connections from outside, for as long as this process lives."""
    while True:
        outside, _ = listener.accept()
        try:
            inside = socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:  # it has not begun to listen
            outside.close()
            continue
        for source, sink in ((outside, inside), (inside, outside)):
            threading.Thread(target=_copy, args=(source, sink), daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:  # one side has gone: so must the other
        for each in (source, sink):
            each.close()


def end_with_standard_input() -> None:
    """Whoever started this holds the other end: when that is closed, or its process has ended, all of this ends."""
    sys.stdin.buffer.read()
    for each in psutil.Process().children(recursive=True):
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    os._exit(0)


def main() -> None:
    threading.Thread(target=end_with_standard_input, daemon=True).start()
    for name, port in (("LISTENER", PORT), ("IMAGES_LISTENER", int(ADDRESS.rpartition(":")[2]))):
        listener = socket.socket(fileno=int(os.environ[name]))
        threading.Thread(target=pass_on, args=(listener, port), daemon=True).start()
    for module in (execution_environment, version_manager, provider):
        module.get_runtime_executor = lambda: Emulated
    s3.DEFAULT_S3_TMP_DIR = str(Path(tempfile.tempdir) / "objects")  # else one folder of all that run on this machine
    fill()
    start()
    record(Path(os.environ["CALLS"]))
    fill_file_systems(Path(tempfile.gettempdir()) / "file-systems")
    from localstack.runtime.main import main as run

    sys.argv = sys.argv[:1]
    run()


if __name__ == "__main__":
    enter_own_network()
    main()
