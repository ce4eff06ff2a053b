"""The gRPC server as its callers find it: statuses, time, tokens, TLS, limits, and how it ends."""

import asyncio
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode, aio
from tests import models
from tests.data_plane import Hold, SmallPlane

from lamella.errors import EngineError, InputError, LamellaError, MissingDependencyError, UsageError
from lamella.gateway.dataplane import BusyError, DeadlineError, StoppingError, UnknownModelError
from lamella.gateway.grpc import Tls, start
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.gateway.grpc.server import GrpcServer
from lamella.gateway.grpc.streaming import AT_ONCE

METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
LONG_S = 30


@pytest.fixture
def plane(tmp_path: Path) -> SmallPlane:
    models.mlp(tmp_path / "mlp.onnx", layers=2, width=4)
    return SmallPlane(tmp_path)


def infer_request(*, model: str = "mlp", rows: int = 1, **parameters: int) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(16 * rows)])
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


class Caller:
    """Calls methods by their names, with messages or bytes."""

    def __init__(self, channel: aio.Channel) -> None:
        self.channel = channel

    def __call__(self, name: str, request: Any = None, **named: Any) -> Any:
        kind = getattr(pb, f"{name}Response")
        call = self.channel.unary_unary(
            f"/inference.GRPCInferenceService/{name}",
            request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
            response_deserializer=kind.FromString,
        )
        return call(getattr(pb, f"{name}Request")() if request is None else request, **named)

    def stream(self, **named: Any) -> Any:
        return self.channel.stream_stream(
            "/inference.GRPCInferenceService/ModelStreamInfer",
            request_serializer=lambda given: given if isinstance(given, bytes) else given.SerializeToString(),
            response_deserializer=pb.ModelStreamInferResponse.FromString,
        )(**named)


@asynccontextmanager
async def serving(plane: SmallPlane, **settings: Any) -> AsyncIterator[tuple[GrpcServer, Caller]]:
    server = await start(plane, plane, host="127.0.0.1", port=0, **settings)
    try:
        async with aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            yield server, Caller(channel)
    finally:
        await server.stop(0)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(LONG_S):
            await scenario()

    asyncio.run(bounded())


async def failure(call: Awaitable[Any]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownModelError("a", hint="b"), StatusCode.NOT_FOUND),
        (InputError("a", hint="b"), StatusCode.INVALID_ARGUMENT),
        (UsageError("a", hint="b"), StatusCode.INVALID_ARGUMENT),
        (BusyError("a", hint="b"), StatusCode.RESOURCE_EXHAUSTED),
        (StoppingError("a", hint="b"), StatusCode.UNAVAILABLE),
        (DeadlineError("a", hint="b"), StatusCode.DEADLINE_EXCEEDED),
        (EngineError("a", hint="b"), StatusCode.INTERNAL),
        (MissingDependencyError("a", hint="b"), StatusCode.UNIMPLEMENTED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, LamellaError) else value.name,
)
def test_errors_are_statuses_that_name_the_way_out(plane: SmallPlane, error: LamellaError, code: StatusCode) -> None:
    plane.failures["mlp"] = error

    async def scenario() -> None:
        async with serving(plane) as (_, call):
            failed = await failure(call("ModelInfer", infer_request()))
            assert (failed.code(), failed.details()) == (code, "a (b)")

    run(scenario)


def test_who_is_busy_says_when_to_ask_again(plane: SmallPlane) -> None:
    plane.failures["mlp"] = BusyError("a", retry_after_s=2.5)

    async def scenario() -> None:
        async with serving(plane) as (_, call):
            failed = await failure(call("ModelInfer", infer_request()))
            trailers = dict(failed.trailing_metadata())
            assert (trailers["retry-after"], trailers["grpc-retry-pushback-ms"]) == ("3", "2500")

    run(scenario)


def test_a_defect_is_told_as_such_and_its_traceback_goes_to_the_log(
    plane: SmallPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.failures["mlp"] = ZeroDivisionError("secret")

    async def scenario() -> None:
        async with serving(plane) as (_, call):
            failed = await failure(call("ModelInfer", infer_request()))
            assert failed.code() is StatusCode.INTERNAL
            assert "defect" in failed.details()
            assert "secret" not in failed.details()

    with caplog.at_level(logging.ERROR):
        run(scenario)
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_a_model_that_cannot_be_loaded_fails_its_precondition(plane: SmallPlane, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(plane) as (_, call):
            (tmp_path / "mlp.onnx").write_bytes(b"no model")
            failed = await failure(call("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="mlp")))
            assert failed.code() is StatusCode.FAILED_PRECONDITION
            assert "`mlp` cannot be loaded" in failed.details()
            assert (await call("ModelInfer", infer_request())).model_version == "1"

    run(scenario)


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"ModelStreamInfer", "ModelInfer"}))
def test_what_is_no_message_is_the_callers_fault(plane: SmallPlane, name: str) -> None:
    async def scenario() -> None:
        async with serving(plane) as (_, call):
            failed = await failure(call(name, b"\xff\xff\xff"))
            lacking = "Shared" in name or name in {"TraceSetting", "LogSettings"}
            assert failed.code() is (StatusCode.UNIMPLEMENTED if lacking else StatusCode.INVALID_ARGUMENT)

    run(scenario)


@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\x3a\x20short", b"\x0b\x0c", b"\x0a\x01\xff", b"\x2a\x02\x0a\x7f"])
def test_what_is_no_request_to_infer_is_the_callers_fault(plane: SmallPlane, data: bytes) -> None:
    async def scenario() -> None:
        async with serving(plane) as (_, call):
            failed = await failure(call("ModelInfer", data))
            assert failed.code() is StatusCode.INVALID_ARGUMENT
            assert "`ModelInferRequest`" in failed.details()

    run(scenario)


def test_the_calls_deadline_is_the_requests_where_it_is_shorter(plane: SmallPlane) -> None:
    async def scenario() -> None:
        async with serving(plane) as (_, call):
            await call("ModelInfer", infer_request())
            await call("ModelInfer", infer_request(timeout=1_000), timeout=10)
            await call("ModelInfer", infer_request(timeout=60_000_000), timeout=10)
            await call("ModelInfer", infer_request(), timeout=10)

    run(scenario)
    none, own, shortened, given = (request.timeout_us for request in plane.requests)
    assert (none, own) == (None, 1_000)
    assert shortened is not None
    assert given is not None
    for found in (shortened, given):
        assert 0 < found < 12_000_000  # on its way, gRPC rounds the time up


def test_priorities_reach_the_data_plane(plane: SmallPlane) -> None:
    async def scenario() -> None:
        async with serving(plane) as (_, call):
            request = infer_request()
            request.parameters["priority"].uint64_param = 7
            await call("ModelInfer", request)

    run(scenario)
    assert plane.requests[0].priority == 7


@pytest.mark.parametrize("ending", ["cancelled", "late"])
def test_a_caller_that_goes_away_takes_its_request_along(plane: SmallPlane, ending: str) -> None:
    async def scenario() -> None:
        hold = plane.holds["mlp"] = Hold()
        async with serving(plane) as (_, call):
            running = call("ModelInfer", infer_request(), timeout=None if ending == "cancelled" else 0.2)
            await hold.arrived.wait()
            if ending == "cancelled":
                running.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await running
            else:
                assert (await failure(running)).code() is StatusCode.DEADLINE_EXCEEDED
            await hold.cancelled.wait()

    run(scenario)


def test_a_stream_that_is_cancelled_takes_its_requests_along(plane: SmallPlane) -> None:
    async def scenario() -> None:
        hold = plane.holds["mlp"] = Hold()
        async with serving(plane) as (_, call):
            stream = call.stream()
            await stream.write(infer_request())
            await hold.arrived.wait()
            stream.cancel()
            await hold.cancelled.wait()

    run(scenario)


def test_a_stream_takes_so_many_requests_and_no_more_before_it_answers(plane: SmallPlane) -> None:
    async def scenario() -> None:
        hold = plane.holds["mlp"] = Hold()
        async with serving(plane) as (_, call):
            stream = call.stream()
            writing = asyncio.create_task(write_all(stream, AT_ONCE + 10))
            while len(plane.requests) < AT_ONCE:
                await asyncio.sleep(0)
            for _ in range(100):  # were there room, the next one would come
                await call("ServerLive")
            assert len(plane.requests) == AT_ONCE
            hold.go_on.set()
            assert len([answer async for answer in stream]) == AT_ONCE + 10
            await writing

    run(scenario)


async def write_all(stream: Any, count: int) -> None:
    for _ in range(count):
        await stream.write(infer_request())
    await stream.done_writing()


def test_a_defect_in_a_stream_is_told_and_the_stream_goes_on(
    plane: SmallPlane, caplog: pytest.LogCaptureFixture
) -> None:
    plane.failures["mlp"] = ZeroDivisionError("secret")

    async def scenario() -> None:
        async with serving(plane) as (_, call):
            stream = call.stream()
            await stream.write(b"\xff\xff")
            await stream.write(infer_request())
            unread, failed = await stream.read(), await stream.read()
            assert "`ModelInferRequest`" in unread.error_message
            assert "defect" in failed.error_message
            plane.failures.clear()
            await stream.write(infer_request())
            assert (await stream.read()).infer_response.outputs[0].name == "y"
            await stream.done_writing()
            assert await stream.read() is aio.EOF
            assert await stream.code() is StatusCode.OK

    run(scenario)
    assert len(caplog.records) == 1


def test_only_who_is_known_is_answered(plane: SmallPlane) -> None:
    known = (("authorization", "Bearer good"),)

    async def scenario() -> None:
        async with serving(plane, is_known=lambda given: given == "Bearer good") as (_, call):
            assert (await call("ServerLive")).live
            assert (await call("ServerReady")).ready
            for metadata in (None, (("authorization", "Bearer bad"),)):
                for name, request in (("ModelInfer", infer_request()), ("ServerMetadata", None)):
                    failed = await failure(call(name, request, metadata=metadata))
                    assert failed.code() is StatusCode.UNAUTHENTICATED
                    assert "`authorization: Bearer TOKEN`" in failed.details()
                assert await call.stream(metadata=metadata).code() is StatusCode.UNAUTHENTICATED
            assert not plane.requests
            assert (await call("ModelInfer", infer_request(), metadata=known)).model_name == "mlp"
            stream = call.stream(metadata=known)
            await stream.write(infer_request())
            assert (await stream.read()).infer_response.model_name == "mlp"

    run(scenario)


def test_a_request_that_is_too_large_is_refused_before_it_is_read(plane: SmallPlane) -> None:
    async def scenario() -> None:
        async with serving(plane, max_message_bytes=2048) as (_, call):
            assert (await call("ModelInfer", infer_request(rows=100))).model_name == "mlp"
            failed = await failure(call("ModelInfer", infer_request(rows=200)))
            assert failed.code() is StatusCode.RESOURCE_EXHAUSTED
            assert "2048" in failed.details()

    run(scenario)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    names = Tls(folder / "server.pem", folder / "server.key")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*made, "-keyout", names.key, "-out", names.certificate, *subject], check=True, capture_output=True)
    return names


def test_tls_proves_who_answers(plane: SmallPlane, tls: Tls) -> None:
    trusted = grpc.ssl_channel_credentials(tls.certificate.read_bytes())

    async def scenario() -> None:
        async with serving(plane, tls=tls) as (server, without):
            async with aio.secure_channel(f"localhost:{server.port}", trusted) as channel:
                assert (await Caller(channel)("ModelInfer", infer_request())).model_name == "mlp"
            failed = await failure(without("ServerLive"))
            assert failed.code() is StatusCode.UNAVAILABLE

    run(scenario)


def test_where_it_cannot_listen_is_told(plane: SmallPlane, tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("")

    async def refused(**settings: Any) -> str:
        with pytest.raises(UsageError) as failed:
            await start(plane, plane, **{"host": "127.0.0.1", "port": 0, **settings})
        assert failed.value.hint
        return failed.value.message

    async def scenario() -> None:
        async with serving(plane) as (server, _):
            assert await refused(port=server.port) == f"the server cannot listen on `127.0.0.1:{server.port}`"
        assert "`192.0.2.1:0`" in await refused(host="192.0.2.1")
        assert "absent.pem` cannot be read" in await refused(tls=Tls(tmp_path / "absent.pem", tls.key))
        await refused(tls=Tls(tmp_path / "empty.pem", tls.key))

    run(scenario)


def test_without_grpc_it_is_said_what_to_install(plane: SmallPlane, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(MissingDependencyError) as missing:
        asyncio.run(start(plane, plane, host="127.0.0.1", port=0))
    assert missing.value.hint == "pip install 'lamella[grpc]'"


def test_a_server_that_ends_answers_what_it_has_taken(plane: SmallPlane) -> None:
    async def scenario() -> None:
        hold = plane.holds["mlp"] = Hold()
        async with serving(plane) as (server, call):
            stream = call.stream()
            await stream.write(infer_request())
            await hold.arrived.wait()
            hold.arrived.clear()
            running = asyncio.ensure_future(call("ModelInfer", infer_request()))
            await hold.arrived.wait()
            stopping = asyncio.create_task(server.stop(LONG_S))
            while (await failure_or_none(call("ServerLive"))) is None:
                await asyncio.sleep(0)
            assert not running.done()
            hold.go_on.set()
            assert (await running).model_name == "mlp"
            assert (await stream.read()).infer_response.model_name == "mlp"
            ended = await failure(stream.read())
            assert (ended.code(), ended.details()) == (StatusCode.UNAVAILABLE, "the server ends (ask another one)")
            await stopping

    run(scenario)


async def failure_or_none(call: Awaitable[Any]) -> aio.AioRpcError | None:
    try:
        await call
    except aio.AioRpcError as error:
        return error
    return None


def test_a_server_that_ends_does_not_wait_for_ever(plane: SmallPlane) -> None:
    async def scenario() -> None:
        hold = plane.holds["mlp"] = Hold()
        async with serving(plane) as (server, call):
            running = asyncio.ensure_future(call("ModelInfer", infer_request()))
            stream = call.stream()
            await stream.write(infer_request())
            while len(plane.requests) < 2:
                await hold.arrived.wait()
                await asyncio.sleep(0)
            await server.stop(0.05)
            assert hold.cancelled.is_set()
            assert (await failure(running)).code() in {StatusCode.CANCELLED, StatusCode.UNAVAILABLE}

    run(scenario)
