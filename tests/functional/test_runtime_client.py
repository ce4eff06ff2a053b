"""Our runtime and AWS's, each in a process of its own, against the Runtime API."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests import models
from tests.functional import functions
from tests.functional.runtime_api import ARN, RuntimeApi, runtime_api

import lamella
from lamella.runtime.payload import PING, Event, decode_answer, decode_error, encode_event

SOURCE = Path(lamella.__file__).parents[1]
X = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
RUNTIMES = ["lamella.runtime.client", "awslambdaric"]
HANDLERS = """
import os, sys, time

class Picky(Exception):
    pass

def echo(event, context):
    print("saw", event)
    return {"event": event, "context": [
        context.aws_request_id, context.invoked_function_arn, context.function_name, context.function_version,
        int(context.memory_limit_in_mb), context.log_stream_name, context.get_remaining_time_in_millis() > 10**9,
        os.environ["_X_AMZN_TRACE_ID"],
    ]}

def fail(event, context):
    raise Picky("größe: no")

def unserialisable(event, context):
    return {1, 2}

def leave(event, context):
    sys.exit(7)

def raw(event, context):
    return "as JSON"

def raw_bytes(event, context):
    return b"[" + event + b"]"

raw.takes_bytes = raw_bytes

def named(event, context):
    return "as JSON"

def named_bytes(event, context):
    return b"somebody else's"
"""


@contextmanager
def started(runtime: str, handler: str, api: RuntimeApi, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """A runtime's process, with its output in `folder/log`."""
    if importlib.util.find_spec(runtime.partition(".")[0]) is None:
        pytest.skip(f"{runtime} is not installed")
    surroundings = {
        **os.environ,
        "AWS_LAMBDA_RUNTIME_API": api.address,
        "AWS_LAMBDA_FUNCTION_NAME": "test",
        "AWS_LAMBDA_FUNCTION_VERSION": "3",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_LOG_GROUP_NAME": "group",
        "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
        "LAMBDA_TASK_ROOT": str(folder),
        "PYTHONPATH": os.pathsep.join([str(folder), str(SOURCE)]),
    }
    command = [sys.executable, "-m", runtime, handler]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=surroundings, stdout=log, stderr=log, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


@pytest.fixture
def api() -> Iterator[RuntimeApi]:
    with runtime_api() as served:
        yield served


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "handlers.py").write_text(HANDLERS)
    (tmp_path / "mine" / "broken.py").write_text("def broken(:\n")
    (tmp_path / "mine" / "lacking.py").write_text("import no_such_module\n")
    (tmp_path / "mine" / "raising.py").write_text("raise KeyError('at import')\n")
    return tmp_path / "mine"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_handler_gets_events_and_a_context(runtime: str, api: RuntimeApi, folder: Path) -> None:
    with started(runtime, "handlers.echo", api, folder):
        for number, event in enumerate([{}, {"a": [1, None, "größe"]}, "text", 7], 1):
            post = api.ask(json.dumps(event).encode())
            assert post.kind == "response"
            assert post.request_id == f"id-{number}"
            context = [f"id-{number}", ARN, "test", "3", 512, "stream", True, f"Root=id-{number}"]
            assert post.json() == {"event": event, "context": context}
            assert f"saw {event}" in (folder / "log").read_text()  # before the answer, not at the process's end
    assert api.connections <= 2


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("handler", "event", "kind", "message"),
    [
        ("fail", b"{}", "Picky", "größe: no"),
        ("unserialisable", b"{}", "Runtime.MarshalError", "Unable to marshal response: "),
        ("echo", b"{", "Runtime.UnmarshalError", "Unable to unmarshal input: "),
    ],
)
def test_what_a_handler_raises_is_the_invocations_error(
    runtime: str, handler: str, event: bytes, kind: str, message: str, api: RuntimeApi, folder: Path
) -> None:
    with started(runtime, f"handlers.{handler}", api, folder) as process:
        for _ in range(2):
            post = api.ask(event)
            assert post.kind == "error"
            assert post.json()["errorType"] == kind
            assert post.json()["errorMessage"].startswith(message)
            assert post.json()["requestId"] == post.request_id
            assert isinstance(post.json()["stackTrace"], list)
            if handler == "fail":
                assert 'raise Picky("größe: no")' in "".join(post.json()["stackTrace"])
        assert process.poll() is None
    assert f"[ERROR] {kind}: {message}" in (folder / "log").read_text()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("handler", "kind"),
    [
        ("handlers.missing", "Runtime.HandlerNotFound"),
        ("missing.handle", "Runtime.ImportModuleError"),
        ("lacking.handle", "Runtime.ImportModuleError"),
        ("broken.handle", "Runtime.UserCodeSyntaxError"),
        ("handle", "Runtime.MalformedHandlerName"),
    ],
)
def test_a_handler_that_is_not_there_ends_the_start(
    runtime: str, handler: str, kind: str, api: RuntimeApi, folder: Path
) -> None:
    with started(runtime, handler, api, folder) as process:
        post = api.posts.get(timeout=30)
        assert post.kind == "init error"
        assert post.json()["errorType"] == kind
        assert process.wait(30) == 1


def test_what_a_module_raises_ends_the_start(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "raising.handle", api, folder) as process:
        post = api.posts.get(timeout=30)
        assert (post.kind, post.json()["errorType"]) == ("init error", "KeyError")
        assert process.wait(30) == 1
    assert "[ERROR] KeyError: 'at import'" in (folder / "log").read_text()


def test_a_handler_that_leaves_takes_its_process_along(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.leave", api, folder) as process:
        api.events.put(("id", b"{}"))
        assert process.wait(30) == 7


def test_bytes_go_to_a_handler_that_takes_them(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.raw", api, folder):
        assert api.ask(b"no JSON").body == b"[no JSON]"


def test_a_function_with_a_name_like_it_is_left_alone(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.named", api, folder):
        assert api.ask(b"{}").body == b'"as JSON"'


def test_a_broken_connection_is_made_again(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.echo", api, folder):
        api.ask(b"1")
        for breaks in (1, 2, 3):
            api.breaks = breaks
            post = api.ask(b"2")
            assert (post.kind, post.request_id) == ("response", f"id-{api.sent}")


@pytest.mark.parametrize("status", [400, 413])
def test_a_refused_answer_does_not_end_an_instance(status: int, api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.echo", api, folder):
        api.status = status
        api.ask(b"1")
        api.status = 202
        assert api.ask(b"2").json()["event"] == 2


def test_an_instance_ends_when_the_platform_is_gone_or_wants_it_to(folder: Path) -> None:
    with runtime_api() as other, started("lamella.runtime.client", "handlers.echo", other, folder) as process:
        other.ask(b"1")
        other.status = 500
        other.ask(b"2")
        assert process.wait(30) == 1
    assert "with status 500" in (folder / "log").read_text()
    with started("lamella.runtime.client", "handlers.echo", other, folder) as process:
        assert process.wait(30) == 1
    assert "cannot be reached" in (folder / "log").read_text()


def test_a_platform_ends_an_instance_by_a_signal(api: RuntimeApi, folder: Path) -> None:
    with started("lamella.runtime.client", "handlers.echo", api, folder) as process:
        api.ask(b"1")
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM


def test_a_runtime_without_an_api_says_how_it_is_called() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "lamella.runtime.client"], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 2
    assert "usage: AWS_LAMBDA_RUNTIME_API=" in finished.stderr


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("delivery", ["package", "object-store"])
def test_a_slice_answers_under_either_runtime(runtime: str, delivery: str, api: RuntimeApi, tmp_path: Path) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=1)
    store = (tmp_path / "store").as_uri() if delivery == "object-store" else None
    (package,) = functions.build(directory, tmp_path / "packages", store=store)
    with lamella.Pipeline(directory) as pipeline:
        expected = pipeline.infer({"x": X})["y"]
    with started(runtime, "lamella.runtime.handler.handle", api, package):
        for number in range(2):
            answer = decode_answer(api.ask(encode_event(Event("r", {"x": X}))).body)
            np.testing.assert_array_equal(answer.tensors["y"], expected)
            assert answer.timing.cold_start == (number == 0)
            assert (answer.timing.init is not None) == (number == 0)
        assert api.ask(PING).json() == {"lamella": "pong", "cold_start": False}
        failed = api.ask(encode_event(Event("r", {"z": X})))
        assert failed.json()["errorType"] == "InputError"
        message, hint = decode_error(failed.json()["errorMessage"])
        assert message == "the model has no input `z`"
        assert hint == "the inputs are `x`"
        assert api.ask(encode_event(Event("r", {"x": X}))).kind == "response"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_slice_that_cannot_be_loaded_says_why(runtime: str, api: RuntimeApi, tmp_path: Path) -> None:
    directory = functions.sliced(models.mlp(tmp_path / "mlp.onnx"), slices=1)
    (package,) = functions.build(directory, tmp_path / "packages", store=(tmp_path / "store").as_uri())
    for path in (tmp_path / "store").rglob("*.data"):
        path.unlink()
    with started(runtime, "lamella.runtime.handler.handle", api, package) as process:
        post = api.posts.get(timeout=30)
        assert (post.kind, post.json()["errorType"]) == ("init error", "StoreError")
        message, hint = decode_error(post.json()["errorMessage"])
        assert "there is no object `file://" in message
        assert hint
        assert process.wait(30) == 1
