"""The local platform: real processes that answer requests, and fail, as functions on AWS Lambda do."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from tests.functional.local_functions import ECHO, LIMITS, Make, answer, create, error, write_package

from lamella.errors import RemoteError, UsageError
from lamella.targets.local.platform import FunctionSpec, LocalPlatform, Mount, RefusedError
from lamella.targets.local.tail import kept_lines

REPORT = re.compile(
    r"REPORT RequestId: (?P<id>[0-9a-f-]{36})\tDuration: (?P<duration>\d+\.\d\d) ms"
    r"\tBilled Duration: (?P<billed>\d+) ms"
    r"\tMemory Size: (?P<memory>\d+) MB\tMax Memory Used: (?P<most>\d+) MB"
    r"(\tInit Duration: (?P<init>\d+\.\d\d) ms)?(\tStatus: (?P<status>\w+))?(\tError Type: (?P<type>[\w.]+))?\t\n"
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path_factory.mktemp("platform"), limits=LIMITS, retry_after_s=(0.05, 0.05)) as local:
        yield local


@pytest.fixture
def make(platform: LocalPlatform, tmp_path: Path) -> Iterator[Make]:
    names: list[str] = []

    def made(source: str, **settings: object) -> str:
        names.append(create(platform, tmp_path, source, **settings))
        return names[-1]

    yield made
    for name in dict.fromkeys(names):
        platform.delete(name)


def test_an_instance_answers_one_request_after_the_other(platform: LocalPlatform, make: Make) -> None:
    name = make(ECHO)
    first = platform.invoke(name, b'{"n": 1}', log_tail=True)
    second = platform.invoke(name, b'{"n": 2}', log_tail=True)
    assert answer(first) == {"event": {"n": 1}, "answered": 1, "id": first.request_id}
    assert answer(second) == {"event": {"n": 2}, "answered": 2, "id": second.request_id}
    assert first.executed_version == "$LATEST"
    assert first.report is not None
    assert second.report is not None
    assert first.report.cold_start
    assert first.report.init_ms is not None
    assert not second.report.cold_start
    assert second.report.init_ms is None
    assert first.report.billed_ms >= first.report.init_ms
    assert second.report.billed_ms < first.report.billed_ms


def logged(platform: LocalPlatform, name: str) -> str:
    """The log's text, without the times that the file has in front of its lines."""
    return "".join(f"{line.text}\n" for line in kept_lines(0, name, platform.logs(name)))


def test_the_log_of_a_request_reads_as_on_aws(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        import sys
        print("starting")

        def handle(event, context):
            print("to stdout")
            print("to stderr, without an end", end="", file=sys.stderr)
    """)
    first = platform.invoke(name, log_tail=True)
    lines = first.log.splitlines(keepends=True)
    assert lines[0].startswith("INIT_START Runtime Version: python:3.")
    assert "\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:" in lines[0]
    assert lines[1:6] == [
        "starting\n",
        f"START RequestId: {first.request_id} Version: $LATEST\n",
        "to stdout\n",
        "to stderr, without an end\n",
        f"END RequestId: {first.request_id}\n",
    ]
    report = REPORT.fullmatch(lines[6])
    assert report is not None, lines[6]
    assert first.report is not None
    assert report["id"] == first.request_id
    assert int(report["billed"]) == first.report.billed_ms
    assert int(report["memory"]) == 512
    assert 5 <= int(report["most"]) < 100
    assert float(report["init"]) > 1
    assert logged(platform, name) == first.log

    second = platform.invoke(name, log_tail=True)
    assert second.log.startswith("START")
    assert REPORT.search(second.log)["init"] is None  # type: ignore[index]
    assert logged(platform, name) == first.log + second.log
    assert platform.invoke(name).log == ""


def test_the_tail_of_a_long_log_is_4_kb(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        def handle(event, context):
            for n in range(20_000):
                print(n)
    """)
    tail = platform.invoke(name, log_tail=True).log
    assert len(tail) == 4096
    assert "19999\nEND RequestId" in tail
    assert "\n10000\n10001\n" in logged(platform, name)


def test_an_exception_is_an_unhandled_error_and_the_instance_goes_on(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        class TooManyFeet(Exception):
            pass

        answered = 0

        def handle(event, context):
            global answered
            answered += 1
            if event["fail"]:
                raise TooManyFeet("eight")
            return answered
    """)
    failed = platform.invoke(name, b'{"fail": true}', log_tail=True)
    assert error(failed) == ("TooManyFeet", "eight")
    assert failed.error_message == "eight"
    assert "[ERROR] TooManyFeet: eight" in failed.log
    assert 'raise TooManyFeet("eight")' in "".join(json.loads(failed.payload)["stackTrace"])
    assert failed.report is not None
    assert failed.report.status == "success"  # the function has answered, if not happily
    assert answer(platform.invoke(name, b'{"fail": false}')) == 2


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("os._exit(3)", "exit status 3"),
        ("os._exit(0)", None),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal: segmentation fault"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "signal: killed"),
    ],
)
def test_a_process_that_ends_is_reported_and_replaced(
    platform: LocalPlatform, make: Make, statement: str, reason: str | None
) -> None:
    name = make(f"""
        import os, signal

        def handle(event, context):
            if event:
                {statement}
            return "well"
    """)
    failed = platform.invoke(name, b"1", log_tail=True)
    said = f"Runtime exited with error: {reason}" if reason else "Runtime exited without providing a reason"
    assert error(failed) == ("Runtime.ExitError", f"RequestId: {failed.request_id} Error: {said}")
    assert f"RequestId: {failed.request_id} Error: {said}\nRuntime.ExitError\nEND" in failed.log
    found = REPORT.search(failed.log)
    assert found is not None
    assert (found["status"], found["type"]) == ("error", "Runtime.ExitError")
    assert answer(platform.invoke(name, b"0")) == "well"


def test_a_request_that_takes_too_long_is_stopped(platform: LocalPlatform, make: Make) -> None:
    name = make(
        """
        import time

        def handle(event, context):
            print("left", context.get_remaining_time_in_millis() <= 500)
            time.sleep(event)
        """,
        timeout_s=0.5,
    )
    began = time.monotonic()
    failed = platform.invoke(name, b"30", log_tail=True)
    assert time.monotonic() - began < 5
    message = f"RequestId: {failed.request_id} Error: Task timed out after 0.50 seconds"
    assert error(failed) == ("Sandbox.Timedout", message)
    assert "left True\n" in failed.log
    assert re.search(
        rf"\d+-\d\d-\d\dT[\d:.]+Z {failed.request_id} Task timed out after 0.50 seconds\n\nEND", failed.log
    )
    assert failed.report is not None
    assert (failed.report.status, failed.report.duration_ms) == ("timeout", 500)
    assert answer(platform.invoke(name, b"0")) is None


@pytest.mark.parametrize(
    ("source", "handler", "kind", "message"),
    [
        ("import no_such_module", "app.handle", "Runtime.ImportModuleError", "No module named 'no_such_module'"),
        ("", "app.handle", "Runtime.HandlerNotFound", "handle"),
        ("raise RuntimeError('not today')", "app.handle", "RuntimeError", "not today"),
        ("def handle(:", "app.handle", "Runtime.UserCodeSyntaxError", "app"),
    ],
)
def test_a_start_that_fails_is_repeated_once_and_reported(
    platform: LocalPlatform, make: Make, source: str, handler: str, kind: str, message: str
) -> None:
    name = make(source, handler=handler)
    failed = platform.invoke(name, log_tail=True)
    assert failed.function_error == "Unhandled"
    assert failed.error_type == kind
    assert message in (failed.error_message or "")
    phases = re.findall(
        r"INIT_REPORT Init Duration: [\d.]+ ms\tPhase: (\w+)\tStatus: error\tError Type: (\S+)\n", failed.log
    )
    assert phases == [("init", kind), ("invoke", kind)]
    assert failed.report is not None
    assert (failed.report.init_ms, failed.report.status) == (None, "error")


def test_a_process_that_ends_while_it_starts_is_reported(platform: LocalPlatform, make: Make) -> None:
    failed = platform.invoke(make("import os; os._exit(7)"))
    kind, message = error(failed)
    assert kind == "Runtime.ExitError"
    assert message.endswith("Error: Runtime exited with error: exit status 7")


def test_a_start_that_takes_too_long_begins_anew_within_the_request(tmp_path: Path) -> None:
    limits = replace(LIMITS, init_timeout_s=0.6)
    source = """
        import time
        time.sleep(1)

        def handle(event, context):
            return "at last"
    """
    with LocalPlatform(tmp_path / "platform", limits=limits) as platform:
        patient = create(platform, tmp_path, source, timeout_s=20)
        slow = platform.invoke(patient, log_tail=True)
        assert answer(slow) == "at last"
        late = re.search(r"INIT_REPORT Init Duration: (\d+\.\d\d) ms\tPhase: init\tStatus: timeout\n", slow.log)
        assert late is not None
        assert 600 <= float(late[1]) < 990  # it did not wait for the start to end
        assert slow.report is not None
        assert slow.report.init_ms is None
        assert slow.report.duration_ms > 1000

        hasty = create(platform, tmp_path, source, timeout_s=0.5)
        failed = platform.invoke(hasty, log_tail=True)
        assert error(failed)[0] == "Sandbox.Timedout"
        assert "Phase: invoke\tStatus: timeout\n" in failed.log


def test_payloads_up_to_the_limit_pass_and_larger_ones_are_refused(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        def handle(event, context):
            return "y" * event if isinstance(event, int) else len(event)
    """)
    most = 6 << 20
    assert answer(platform.invoke(name, b'"' + b"x" * (most - 2) + b'"')) == most - 2
    refused = platform.invoke(name, b'"' + b"x" * (most - 1) + b'"')
    assert (refused.status, refused.error_type) == (413, "RequestTooLargeException")
    assert refused.error_message == (
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)"
    )
    event = platform.invoke(name, b'"' + b"x" * (1 << 20) + b'"', kind="Event")
    assert (event.status, event.error_type) == (413, "RequestTooLargeException")
    assert platform.invoke(name, b'"' + b"x" * ((1 << 20) - 2) + b'"', kind="Event").status == 202

    assert len(answer(platform.invoke(name, str(most - 2).encode()))) == most - 2
    large = platform.invoke(name, str(most + 200).encode())
    assert error(large) == (
        "Function.ResponseSizeTooLarge",
        f"Response payload size ({most + 202} bytes) exceeded maximum allowed payload size (6291556 bytes).",
    )
    assert answer(platform.invoke(name, b"3")) == "yyy"


@pytest.mark.parametrize("payload", [b"{", b"\xff\xfe", b"nothing", b"[" * 100_000])
def test_an_event_that_is_no_json_is_refused(platform: LocalPlatform, make: Make, payload: bytes) -> None:
    refused = platform.invoke(make(ECHO), payload)
    assert (refused.status, refused.error_type) == (400, "InvalidRequestContentException")
    assert (refused.error_message or "").startswith("Could not parse request body into json: ")


def test_what_is_not_there_is_not_found(platform: LocalPlatform, make: Make) -> None:
    name = make(ECHO)
    assert platform.invoke(name, kind="DryRun").status == 204
    assert not platform.logs(name).read_text()
    for function, qualifier in ((name + "x", None), (name, "2"), (name, "live"), (f"{name}:7", None)):
        refused = platform.invoke(function, qualifier=qualifier)
        assert (refused.status, refused.error_type) == (404, "ResourceNotFoundException")
        assert (refused.error_message or "").startswith("Function not found: arn:aws:lambda:us-east-1:")
    conflicting = platform.invoke(f"{name}:1", qualifier="2")
    assert (conflicting.status, conflicting.error_type) == (400, "InvalidParameterValueException")


def test_versions_and_aliases_choose_what_runs(platform: LocalPlatform, make: Make, tmp_path: Path) -> None:
    source = "def handle(event, context):\n    return {}, context.function_version, context.invoked_function_arn\n"
    name = make(source.format(1))
    old = platform.invoke(name)
    assert (
        platform.create(
            FunctionSpec(name, write_package(tmp_path / "two", source.format(2)), 512, 3, handler="app.handle")
        )
        == "2"
    )
    platform.set_alias(name, "live", "1")
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert answer(old) == [1, "$LATEST", arn]
    assert answer(platform.invoke(name)) == [2, "$LATEST", arn]
    assert answer(platform.invoke(name, qualifier="1")) == [1, "1", f"{arn}:1"]
    assert answer(platform.invoke(f"{arn}:2")) == [2, "2", f"{arn}:2"]
    live = platform.invoke(name, qualifier="live")
    assert (answer(live), live.executed_version) == ([1, "1", f"{arn}:live"], "1")
    platform.set_alias(name, "live", "2")
    assert answer(platform.invoke(f"{name}:live"))[:2] == [2, "2"]
    (status,) = [function for function in platform.functions() if function.name == name]
    assert (status.versions, status.aliases) == (("1", "2"), {"live": "2"})

    with pytest.raises(RefusedError, match="Function not found"):
        platform.set_alias(name, "live", "3")
    with pytest.raises(UsageError, match="`12` is no alias"):
        platform.set_alias(name, "12", "1")
    platform.delete(name, version="2")
    assert platform.invoke(name, qualifier="live").status == 404
    assert platform.create(FunctionSpec(name, tmp_path / "two", 512, 3, handler="app.handle"), version="7") == "7"
    with pytest.raises(UsageError, match="cannot have a version `7`"):
        platform.create(FunctionSpec(name, tmp_path / "two", 512, 3, handler="app.handle"), version="7")


def test_an_event_runs_later_and_is_repeated_when_it_fails(platform: LocalPlatform, make: Make, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    name = make(
        """
        import os

        def handle(event, context):
            with open(event["file"], "a") as file:
                file.write(context.aws_request_id + "\\n")
            assert not event["fail"]
        """,
        mounts=(Mount(shared, str(shared), writable=True),),
    )
    for fail, times in ((False, 1), (True, 3)):
        file = shared / f"{fail}"
        taken = platform.invoke(name, json.dumps({"file": str(file), "fail": fail}).encode(), kind="Event")
        assert (taken.status, taken.payload, taken.function_error) == (202, b"", None)
        deadline = time.monotonic() + 10
        while not file.exists() or len(file.read_text().splitlines()) < times:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.3)
        assert file.read_text().splitlines() == [taken.request_id] * times


SLEEP = """
    import os, time

    def handle(event, context):
        time.sleep(event)
        return os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]
"""


def test_requests_at_the_same_time_get_an_instance_each(platform: LocalPlatform, make: Make) -> None:
    name = make(SLEEP)
    with ThreadPoolExecutor(6) as pool:
        streams = [answer(done) for done in pool.map(lambda _: platform.invoke(name, b"1.0"), range(6))]
    assert len(set(streams)) == 6
    assert answer(platform.invoke(name, b"0")) in streams


def test_reserved_concurrency_is_the_most_that_a_function_gets(platform: LocalPlatform, make: Make) -> None:
    name = make(SLEEP, reserved_concurrency=1)
    running = platform.submit(name, b"1.5")
    time.sleep(0.2)
    refused = platform.invoke(name, b"0")
    assert (refused.status, refused.error_type) == (429, "TooManyRequestsException")
    assert json.loads(refused.payload) == {
        "Type": "User",
        "message": "Rate Exceeded.",
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
    }
    assert running.result().status == 200
    assert platform.invoke(name, b"0").status == 200
    assert platform.invoke(make(SLEEP, reserved_concurrency=0), b"0").status == 429


def test_all_functions_together_have_a_concurrency_and_idle_instances_make_room(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, concurrency=2, most_instances=2) as platform:
        one, two = (create(platform, tmp_path, SLEEP) for _ in range(2))
        running = [platform.submit(one, b"1.5"), platform.submit(one, b"1.5")]
        time.sleep(0.2)
        refused = platform.invoke(two, b"0")
        assert json.loads(refused.payload)["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert all(done.result().status == 200 for done in running)
        assert answer(platform.invoke(two, b"0"))
        assert [function.instances for function in platform.functions()] == [1, 1]
        for name in (one, two):
            done = platform.invoke(name, b"0")
            assert done.report is not None
            assert not done.report.cold_start
        with pytest.raises(RefusedError, match="Rate Exceeded"):
            platform.start(one, count=3).result()


def test_instances_that_run_no_request_do_not_count_as_concurrency(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, concurrency=1) as platform:
        starting = create(
            platform, tmp_path, "import time\ntime.sleep(1)\n\ndef handle(event, context):\n    return 1\n"
        )
        asked = create(platform, tmp_path, ECHO)
        started = platform.start(starting)
        assert answer(platform.invoke(asked))["answered"] == 1
        assert started.result() == 1
        assert answer(platform.invoke(starting)) == 1
        assert sorted(function.instances for function in platform.functions()) == [1, 1]


def test_so_many_instances_start_in_a_short_time(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, burst=2) as platform:
        name = create(platform, tmp_path, SLEEP)
        running = [platform.submit(name, b"1") for _ in range(3)]
        assert sorted(done.result().status for done in running) == [200, 200, 429]


def test_an_instance_that_is_not_used_ends(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS, keep_alive_s=0.4) as platform:
        name = create(platform, tmp_path, ECHO)
        assert answer(platform.invoke(name))["answered"] == 1
        assert answer(platform.invoke(name))["answered"] == 2
        deadline = time.monotonic() + 10
        while platform.functions()[0].instances:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert answer(platform.invoke(name))["answered"] == 1


def test_instances_start_ahead_of_their_first_request(platform: LocalPlatform, make: Make) -> None:
    name = make("import time\ntime.sleep(0.5)\n\ndef handle(event, context):\n    return 1\n")
    assert platform.start(name, count=2).result() == 2
    began = time.monotonic()
    first = platform.invoke(name)
    assert time.monotonic() - began < 0.5  # which a start takes at least
    assert first.report is not None
    assert first.report.cold_start
    assert (first.report.init_ms or 0) > 500


def test_a_request_waits_for_an_instance_that_is_starting(platform: LocalPlatform, make: Make) -> None:
    name = make("import time\ntime.sleep(0.5)\n\ndef handle(event, context):\n    return 1\n")
    started = platform.start(name)
    assert answer(platform.invoke(name)) == 1
    assert started.result() == 1
    (status,) = [function for function in platform.functions() if function.name == name]
    assert status.instances == 1


def test_a_start_ahead_says_why_it_failed(platform: LocalPlatform, make: Make) -> None:
    with pytest.raises(RemoteError, match=r"did not start: RuntimeError: .*not today"):
        platform.start(make("raise RuntimeError('not today')")).result()
    with pytest.raises(RefusedError, match="Function not found"):
        platform.start("nobody").result()


def test_a_start_ahead_that_takes_too_long_says_for_how_long(tmp_path: Path) -> None:
    limits = replace(LIMITS, init_timeout_s=0.25)
    with LocalPlatform(tmp_path / "platform", limits=limits) as platform:
        name = create(platform, tmp_path, "import time\ntime.sleep(9)\n")
        with pytest.raises(RemoteError, match=re.escape("timed out after 0.25 seconds")):
            platform.start(name).result()


def test_a_function_has_the_variables_of_aws_and_none_of_this_process(
    platform: LocalPlatform, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    name = make(
        "import os\n\ndef handle(event, context):\n    return dict(os.environ)\n",
        environment={"MODEL": "bert", "TZ": "CET"},
    )
    found = answer(platform.invoke(name, qualifier="1"))
    assert found["MODEL"] == "bert"
    assert found["TZ"] == "CET"
    assert found["AWS_LAMBDA_FUNCTION_NAME"] == name
    assert found["AWS_LAMBDA_FUNCTION_VERSION"] == "1"
    assert found["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "512"
    assert found["AWS_REGION"] == found["AWS_DEFAULT_REGION"] == "us-east-1"
    assert re.fullmatch(r"AWS_Lambda_python3\.\d+", found["AWS_EXECUTION_ENV"])
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[1\][0-9a-f]{32}", found["AWS_LAMBDA_LOG_STREAM_NAME"])
    assert found["_HANDLER"] == "app.handle"
    assert set(found) <= {
        "MODEL", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_RUNTIME_API", "AWS_REGION", "LANG",
        "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "LC_CTYPE", "LD_LIBRARY_PATH", "OLDPWD", "PATH", "PWD",
        "PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONUNBUFFERED", "SHLVL", "TMPDIR", "TZ", "_", "_HANDLER",
        "_X_AMZN_TRACE_ID",
    }  # fmt: skip


def test_a_package_sees_its_own_modules_and_the_standard_library_only(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        import importlib.util

        def handle(event, context):
            return [importlib.util.find_spec(name) is not None for name in ("json", "lamella", "numpy", "pytest")]
    """)
    assert answer(platform.invoke(name)) == [True, True, False, False]


def test_every_request_gets_its_own_answer(platform: LocalPlatform, make: Make) -> None:
    name = make("""
        import os, time

        def handle(event, context):
            time.sleep(event % 5 / 100)
            if event % 7 == 6:
                os._exit(1)
            return [event, context.aws_request_id]
    """)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: platform.invoke(name, str(n).encode()), range(70)))
    for n, invocation in enumerate(done):
        if n % 7 == 6:
            assert error(invocation)[0] == "Runtime.ExitError"
        else:
            assert answer(invocation) == [n, invocation.request_id]
    assert len({invocation.request_id for invocation in done}) == 70


def test_an_idle_instance_that_somebody_killed_is_replaced(platform: LocalPlatform, make: Make) -> None:
    psutil = pytest.importorskip("psutil")
    name = make(ECHO)
    for _ in range(3):
        assert answer(platform.invoke(name))["answered"] == 1
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "app.handle" in child.cmdline():
                    child.kill()
        time.sleep(0.2)


def test_a_caller_who_gives_up_leaves_no_instance_busy(platform: LocalPlatform, make: Make) -> None:
    name = make(SLEEP)
    stream = answer(platform.invoke(name, b"0"))
    running = platform.submit(name, b"20")
    time.sleep(0.3)
    assert running.cancel()
    began = time.monotonic()
    assert answer(platform.invoke(name, b"0")) != stream
    assert time.monotonic() - began < 10


def test_a_deleted_function_lets_its_requests_end(platform: LocalPlatform, tmp_path: Path) -> None:
    name = create(platform, tmp_path, SLEEP)
    running = platform.submit(name, b"0.8")
    time.sleep(0.4)
    platform.delete(name)
    assert platform.invoke(name).status == 404
    assert answer(running.result())
    with pytest.raises(RefusedError, match="Function not found"):
        platform.delete(name)


def test_what_the_platform_does_not_have_is_refused(platform: LocalPlatform, tmp_path: Path) -> None:
    package = write_package(tmp_path / "package", ECHO)
    good = FunctionSpec("good", package, 512, 3)
    for wrong, message in (
        (replace(good, name="no good"), "`no good` is no function name"),
        (replace(good, memory_mb=64), "cannot have 64 MB of memory"),
        (replace(good, memory_mb=20_000), "cannot have 20000 MB of memory"),
        (replace(good, timeout_s=901), "cannot have 901 s"),
        (replace(good, timeout_s=0), "cannot have 0 s"),
        (replace(good, temporary_mb=20_000), "20000 MB of temporary storage"),
        (replace(good, folder=tmp_path / "none"), "is no folder"),
        (replace(good, environment={"_HANDLER": "mine"}), "`_HANDLER` is set by the platform"),
        (replace(good, environment={"A=B": "c"}), "is no environment variable"),
        (replace(good, environment={"AB": "c" * 5000}), "takes 5002 bytes"),
        (replace(good, mounts=(Mount(tmp_path, "/mnt/../etc"),)), "cannot mount at"),
        (replace(good, reserved_concurrency=-1), "cannot reserve -1"),
        (replace(good, reserved_concurrency=9999), "cannot reserve 9999 of 1000 requests"),
        (replace(good, handler="app.handle\0"), "is no handler"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            platform.create(wrong)


def test_a_folder_and_a_port_have_one_platform(tmp_path: Path) -> None:
    with LocalPlatform(tmp_path / "platform", limits=LIMITS) as platform:
        with pytest.raises(UsageError, match="another platform uses"):
            LocalPlatform(tmp_path / "platform", limits=LIMITS)
        port = int(platform.url.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"cannot listen on port {port}"):
            LocalPlatform(tmp_path / "other", limits=LIMITS, port=port)
        assert {path.name for path in (tmp_path / "other").iterdir()} == {"lock", "logs"}
    with LocalPlatform(tmp_path / "platform", limits=LIMITS):
        pass
    with pytest.raises(UsageError, match="the platform is closed"):
        platform.functions()


def test_closing_ends_what_runs_and_tells_those_who_wait(tmp_path: Path) -> None:
    threads = threading.active_count()
    platform = LocalPlatform(tmp_path / "platform", limits=LIMITS)
    busy, starting = create(platform, tmp_path, SLEEP), create(platform, tmp_path, "import time; time.sleep(30)")
    running = [platform.submit(busy, b"30"), platform.submit(starting, b"0")]
    time.sleep(0.5)
    began = time.monotonic()
    platform.close()
    platform.close()
    assert time.monotonic() - began < 5
    assert [error(done.result(timeout=0))[0] for done in running] == ["Runtime.ExitError"] * 2
    assert threading.active_count() == threads
