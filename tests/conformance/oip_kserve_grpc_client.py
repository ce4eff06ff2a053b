"""`python oip_kserve_grpc_client.py HOST:PORT`: what KServe's client for gRPC expects of a server.

See `oip_checks.py`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as pb
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub
from kserve.protocol.infer_type import RequestedOutput
from oip_checks import assert_same, run, samples, texts


def with_client(url: str, call: Callable[[InferenceGRPCClient], Awaitable[None]]) -> None:
    async def called() -> None:
        async with InferenceGRPCClient(url) as client:
            await call(client)

    asyncio.run(called())


def check_health(url: str) -> None:
    async def call(client: InferenceGRPCClient) -> None:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("mlp")
        assert not await client.is_model_ready("absent")

    with_client(url, call)


def check_infer_raw(url: str) -> None:
    async def call(client: InferenceGRPCClient) -> None:
        inputs = []
        for kind, array in samples().items():
            entry = InferInput(f"in_{kind.lower()}", list(array.shape), kind)
            if kind == "BF16":  # which this client does not know
                entry._raw_data = array.tobytes()
            else:
                entry.set_data_from_numpy(array, binary_data=True)
            inputs.append(entry)
        known = [kind for kind in samples() if kind != "BF16"]
        outputs = [RequestedOutput(f"out_{kind.lower()}") for kind in known]
        response = await client.infer(InferRequest("identity", inputs, request_id="raw", request_outputs=outputs))
        assert (response.model_name, response.id) == ("identity", "raw")
        for kind in known:
            assert_same(response.get_output_by_name(f"out_{kind.lower()}").as_numpy(), samples()[kind])
        entry = InferInput("in_bytes", list(texts().shape), "BYTES")
        entry.set_data_from_numpy(texts(), binary_data=True)
        response = await client.infer(InferRequest("texts", [entry]))
        assert_same(response.outputs[0].as_numpy(), texts())

    with_client(url, call)


def check_infer_elements(url: str) -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 4)

    async def call(client: InferenceGRPCClient) -> None:
        entry = InferInput("x", [2, 4], "FP32")
        entry.set_data_from_numpy(array, binary_data=False)
        elements = await client.infer(InferRequest("mlp", [entry]))
        entry = InferInput("x", [2, 4], "FP32")
        entry.set_data_from_numpy(array, binary_data=True)
        raw = await client.infer(InferRequest("mlp", [entry]))
        assert_same(elements.outputs[0].as_numpy(), raw.outputs[0].as_numpy())

    with_client(url, call)


def check_repository(url: str) -> None:
    with grpc.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="mlp")).isUnloaded
        assert not stub.ModelReady(pb.ModelReadyRequest(name="mlp")).ready
        loaded = stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="mlp"))
        assert (loaded.model_name, loaded.isLoaded) == ("mlp", True)
        assert stub.ModelReady(pb.ModelReadyRequest(name="mlp")).ready


def check_metadata(url: str) -> None:
    with grpc.insecure_channel(url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ServerMetadata(pb.ServerMetadataRequest()).name == "lamella"
        found = stub.ModelMetadata(pb.ModelMetadataRequest(name="mlp"))
        assert [(e.name, e.datatype, list(e.shape)) for e in found.inputs] == [("x", "FP32", [-1, 4])]


if __name__ == "__main__":
    run(globals(), sys.argv[1])
