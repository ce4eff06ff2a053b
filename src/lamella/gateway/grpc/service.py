"""The service's methods: each translates what is asked, and what the data plane answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc import aio

from lamella.errors import InputError, LamellaError
from lamella.gateway import documents
from lamella.gateway.dataplane import DataPlane, Repository, UnknownModelError
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.gateway.grpc.codec import Asked, read_infer, write_infer
from lamella.gateway.grpc.statuses import DEFECT, LackingError, Status, StrangerError, status_of
from lamella.gateway.grpc.streaming import Streams

SERVICE = "inference.GRPCInferenceService"
_log = logging.getLogger(__name__)
_Filled = TypeVar("_Filled", bound=Message)
_Context = aio.ServicerContext[bytes, bytes]
_Method = Callable[[Any], Awaitable[Message]]  # of the request's own class
_OPEN = frozenset({"ServerLive", "ServerReady"})
_LACKING = {
    **dict.fromkeys(
        (f"{kind}SharedMemory{verb}" for kind in ("System", "Cuda") for verb in ("Status", "Register", "Unregister")),
        ("shared memory", "send tensors with the request"),
    ),
    "TraceSetting": ("traces", "statistics say where time goes: `ModelStatistics`"),
    "LogSettings": ("settings of the log", "they are given when the server is started"),
}


class Service:
    """Answers calls.

    Args:
        data_plane: Answers requests.
        repository: Loads and unloads models.
        is_known: Whether to answer, by the value of `authorization` in a call's metadata; None: always.
    """

    def __init__(
        self, data_plane: DataPlane, repository: Repository, *, is_known: Callable[[str], bool] | None = None
    ) -> None:
        self._plane, self._repository, self._is_known = data_plane, repository, is_known
        self._streams = Streams(self._answer)
        self._running, self._idle = 0, asyncio.Event()
        self._idle.set()

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods, as a server of gRPC runs them. They take and give bytes: what is wrong is told here."""
        methods: Mapping[str, _Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._load,
            "RepositoryModelUnload": self._unload,
        }
        described = pb.DESCRIPTOR.services_by_name[SERVICE.partition(".")[2]].methods_by_name
        table = {name: self._unary(name, _parsing(described[name], method)) for name, method in methods.items()}
        table |= {name: self._unary(name, _refusing(*reason)) for name, reason in _LACKING.items()}
        table["ModelInfer"] = self._unary("ModelInfer", self._model_infer)
        table["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.method_handlers_generic_handler(SERVICE, table)

    def drain(self) -> None:
        """End streams as soon as what they have taken is answered."""
        self._streams.drain()

    async def ended(self) -> None:
        """Wait until no call is being answered: one that is cancelled still has to leave the data plane."""
        await self._idle.wait()

    def _entered(self) -> None:
        self._running += 1
        self._idle.clear()

    def _left(self) -> None:
        self._running -= 1
        if not self._running:
            self._idle.set()

    def _unary(
        self, name: str, method: Callable[[bytes, _Context], Awaitable[bytes]]
    ) -> grpc.RpcMethodHandler[bytes, bytes]:
        is_open = self._is_known is None or name in _OPEN

        async def call(data: bytes, context: _Context) -> bytes:
            self._entered()
            try:
                if not is_open:
                    self._admit(context)
                return await method(data, context)
            except LamellaError as error:
                status = status_of(error)
            except Exception:  # noqa: BLE001  # a caller gets a status whatever happens; the log has the traceback
                _log.exception("cannot answer %s", name)
                status = DEFECT
            finally:
                self._left()
            return await _end(context, status)

        return grpc.unary_unary_rpc_method_handler(call)

    async def _stream(self, _: object, context: _Context) -> None:
        self._entered()
        try:
            if self._is_known is not None:
                self._admit(context)
            status = await self._streams.serve(context)
        except LamellaError as error:
            status = status_of(error)
        except Exception:  # noqa: BLE001  # as above
            _log.exception("cannot answer a stream")
            status = DEFECT
        finally:
            self._left()
        if status is not None:
            await _end(context, status)

    def _admit(self, context: _Context) -> None:
        metadata = dict(context.invocation_metadata() or ())
        if self._is_known is not None and not self._is_known(str(metadata.get("authorization", ""))):
            raise StrangerError("a token is needed", hint="send `authorization: Bearer TOKEN` in the call's metadata")

    async def _model_infer(self, data: bytes, context: _Context) -> bytes:
        return await self._answer(read_infer(data, remaining_s=context.time_remaining()), None)

    async def _answer(self, asked: Asked, parameters: Mapping[str, object] | None) -> bytes:
        """Answer a request; a call that is cancelled cancels this."""
        answer = await self._plane.infer(asked.model, asked.version, asked.request)
        return write_infer(asked, answer, parameters=parameters)

    async def _server_live(self, request: pb.ServerLiveRequest) -> Message:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, request: pb.ServerReadyRequest) -> Message:
        return pb.ServerReadyResponse(ready=documents.is_ready(await self._repository.index()))

    async def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        try:
            await self._plane.info(request.name, request.version or None)
        except UnknownModelError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def _server_metadata(self, request: pb.ServerMetadataRequest) -> Message:
        return _filled(pb.ServerMetadataResponse(), documents.server())

    async def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        info = await self._plane.info(request.name, request.version or None)
        return _filled(pb.ModelMetadataResponse(), documents.metadata(info))

    async def _model_config(self, request: pb.ModelConfigRequest) -> Message:
        info = await self._plane.info(request.name, request.version or None)
        return _filled(pb.ModelConfigResponse(), {"config": documents.configuration(info)})

    async def _model_statistics(self, request: pb.ModelStatisticsRequest) -> Message:
        found = await self._plane.statistics(request.name or None, request.version or None)
        return _filled(pb.ModelStatisticsResponse(), documents.statistics(found))

    async def _repository_index(self, request: pb.RepositoryIndexRequest) -> Message:
        entries = documents.index(await self._repository.index(), only_ready=request.ready)
        return _filled(pb.RepositoryIndexResponse(), {"models": entries})

    async def _load(self, request: pb.RepositoryModelLoadRequest) -> Message:
        if request.parameters:
            raise InputError(
                f"the parameter `{min(request.parameters)}` is of an extension that this server lacks",
                hint="load models as their files are",
            )
        model = _model_of(request)
        await self._repository.load(model)
        return pb.RepositoryModelLoadResponse(model_name=model, isLoaded=True)

    async def _unload(self, request: pb.RepositoryModelUnloadRequest) -> Message:
        model = _model_of(request)  # its only parameter is `unload_dependents`, and nothing here depends on a model
        await self._repository.unload(model)
        return pb.RepositoryModelUnloadResponse(model_name=model, isUnloaded=True)


def _parsing(
    described: Any,  # noqa: ANN401  # protobuf ships no types
    method: _Method,
) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    kind = GetMessageClass(described.input_type)

    async def call(data: bytes, _: _Context) -> bytes:
        try:
            request = kind.FromString(data)
        except DecodeError as error:
            raise InputError(f"the request is no `{kind.DESCRIPTOR.name}`", hint="see `inference.proto`") from error
        return bytes((await method(request)).SerializeToString())

    return call


def _refusing(what: str, hint: str) -> Callable[[bytes, _Context], Awaitable[bytes]]:
    async def call(_: bytes, __: _Context) -> bytes:
        raise LackingError(f"this server has no {what}", hint=hint)

    return call


async def _end(context: _Context, status: Status) -> bytes:
    await context.abort(status.code, status.details, status.trailers)
    raise aio.AbortError  # as `abort` has done


def _filled(message: _Filled, content: dict[str, object]) -> _Filled:
    return ParseDict(content, message, descriptor_pool=pb.DESCRIPTOR.pool)


def _model_of(request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest) -> str:
    """Whom to load. In KServe's form of the request, the name stands where Triton's has that of a repository."""
    return str(request.model_name or request.repository_name)
