"""`python oip_http_client.py http://HOST:PORT`: what Triton's and KServe's clients for HTTP expect of a server.

See `oip_checks.py`.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import numpy as np
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from oip_checks import Arrays, assert_same, run, samples, texts
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

ABSENT_VERSION = "99999"
NOT_IN_JSON = ("BF16", "FP16")
"""Triton's client refuses to write these as JSON, or to read them."""


def opened(url: str) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(url.partition("://")[2])


def inputs_of(arrays: Arrays, *, binary: bool = True) -> list[triton.InferInput]:
    made = []
    for name, array in arrays.items():
        entry = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        entry.set_data_from_numpy(array, binary_data=binary)
        made.append(entry)
    return made


def identity_inputs() -> list[triton.InferInput]:
    return inputs_of({f"in_{kind.lower()}": array for kind, array in samples().items()})


def mlp_inputs(*, binary: bool = True) -> list[triton.InferInput]:
    return inputs_of({"x": np.ones((1, 4), np.float32)}, binary=binary)


def refused(call: object, *arguments: object, status: str = "400", **named: object) -> str:
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        found = error
    else:
        raise AssertionError("it was not refused")
    assert str(found.status()) == status, found
    return found.message()


def version_of(client: triton.InferenceServerClient, model: str) -> str:
    (version,) = client.get_model_metadata(model)["versions"]
    return version


def check_health(url: str) -> None:
    with opened(url) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("mlp")
        assert client.is_model_ready("mlp", version_of(client, "mlp"))
        assert not client.is_model_ready("mlp", ABSENT_VERSION)
        assert not client.is_model_ready("absent")


def check_metadata(url: str) -> None:
    with opened(url) as client:
        server = client.get_server_metadata()
        assert server["name"] == "lamella"
        assert {"binary_tensor_data", "model_repository", "statistics"} <= set(server["extensions"])
        version = version_of(client, "mlp")
        found = client.get_model_metadata("mlp", version)
        assert (found["name"], found["versions"]) == ("mlp", [version])
        assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]
        kinds = {entry["name"]: entry["datatype"] for entry in client.get_model_metadata("identity")["inputs"]}
        assert kinds == {f"in_{kind.lower()}": kind for kind in samples()}
        assert "absent" in refused(client.get_model_metadata, "absent", status="404")


def check_config(url: str) -> None:
    with opened(url) as client:
        found = client.get_model_config("mlp")
        assert found["name"] == "mlp"
        assert found["input"][0]["data_type"] == "TYPE_FP32"
        assert found["max_batch_size"] == 0 or found["input"][0]["dims"] == [4]
        assert client.get_model_config("texts", version_of(client, "texts"))["output"][0]["data_type"] == "TYPE_STRING"
        refused(client.get_model_config, "absent", status="404")


def check_infer_binary(url: str) -> None:
    with opened(url) as client:
        result = client.infer("identity", identity_inputs(), request_id="every")  # binary outputs, by default
        for kind, array in samples().items():
            assert_same(result.as_numpy(f"out_{kind.lower()}"), array)
        response = result.get_response()
        version = version_of(client, "identity")
        assert (response["model_name"], response["model_version"], response["id"]) == ("identity", version, "every")


def check_infer_json(url: str) -> None:
    with opened(url) as client:
        outputs = [triton.InferRequestedOutput("y", binary_data=False)]
        written = client.infer("mlp", mlp_inputs(binary=False), outputs=outputs)
        assert "data" in written.get_output("y")
        assert_same(written.as_numpy("y"), client.infer("mlp", mlp_inputs()).as_numpy("y"))
        finite = {kind: np.nan_to_num(array) for kind, array in samples().items() if kind not in NOT_IN_JSON}
        inputs = identity_inputs()
        for entry in inputs:
            kind = entry.datatype()
            if kind in finite:
                entry.set_data_from_numpy(finite[kind], binary_data=False)
        outputs = [triton.InferRequestedOutput(f"out_{kind.lower()}", binary_data=False) for kind in finite]
        result = client.infer("identity", inputs, outputs=outputs)
        for kind, array in finite.items():
            assert_same(result.as_numpy(f"out_{kind.lower()}"), array)


def check_infer_some_binary_and_some_json(url: str) -> None:
    with opened(url) as client:
        outputs = [
            triton.InferRequestedOutput("out_int8", binary_data=True),
            triton.InferRequestedOutput("out_int64", binary_data=False),
        ]
        result = client.infer("identity", identity_inputs(), outputs=outputs)
        for kind in ("INT8", "INT64"):
            assert_same(result.as_numpy(f"out_{kind.lower()}"), samples()[kind])
        assert result.as_numpy("out_fp32") is None


def check_infer_texts(url: str) -> None:
    with opened(url) as client:
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput("out_bytes", binary_data=binary)]
            result = client.infer("texts", inputs_of({"in_bytes": texts()}, binary=binary), outputs=outputs)
            assert_same(result.as_numpy("out_bytes"), texts())


def check_infer_without_rows(url: str) -> None:
    with opened(url) as client:
        result = client.infer("identity", inputs_of({f"in_{k.lower()}": a[:0] for k, a in samples().items()}))
        for kind, array in samples().items():
            assert_same(result.as_numpy(f"out_{kind.lower()}"), array[:0])


def check_infer_compressed(url: str) -> None:
    with opened(url) as client:
        expected = client.infer("mlp", mlp_inputs()).as_numpy("y")
        for algorithm in ("gzip", "deflate"):
            result = client.infer(
                "mlp", mlp_inputs(), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
            )
            assert_same(result.as_numpy("y"), expected)


def check_infer_parameters(url: str) -> None:
    with opened(url) as client:
        result = client.infer("mlp", mlp_inputs(), priority=1, timeout=60_000_000, parameters={"text": "a", "n": 3})
        assert result.as_numpy("y").shape == (1, 4)


def check_async_infer(url: str) -> None:
    with triton.InferenceServerClient(url.partition("://")[2], concurrency=8) as client:
        expected = client.infer("mlp", mlp_inputs()).as_numpy("y")
        for pending in [client.async_infer("mlp", mlp_inputs()) for _ in range(20)]:
            assert_same(pending.get_result().as_numpy("y"), expected)


def check_statistics(url: str) -> None:
    with opened(url) as client:
        (before,) = client.get_inference_statistics("mlp", version_of(client, "mlp"))["model_stats"]
        for _ in range(3):
            client.infer("mlp", mlp_inputs())
        (after,) = client.get_inference_statistics("mlp")["model_stats"]
        assert (after["name"], after["version"]) == ("mlp", version_of(client, "mlp"))
        first, last = (found["inference_stats"]["success"] for found in (before, after))
        assert last["count"] == first["count"] + 3
        assert last["ns"] > first["ns"]
        assert after["execution_count"] > before["execution_count"]
        assert {entry["name"] for entry in client.get_inference_statistics()["model_stats"]} >= {"mlp", "identity"}
        refused(client.get_inference_statistics, "absent", status="404")


def check_repository(url: str) -> None:
    with opened(url) as client:
        states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
        assert states["mlp"] == states["identity"] == "READY"
        client.unload_model("mlp")
        assert not client.is_model_ready("mlp")
        refused(client.infer, "mlp", mlp_inputs(), status="404")
        states = {entry["name"]: entry.get("state") for entry in client.get_model_repository_index()}
        assert states["mlp"] != "READY"
        client.load_model("mlp")
        assert client.is_model_ready("mlp")
        assert client.infer("mlp", mlp_inputs()).as_numpy("y").shape == (1, 4)
        refused(client.load_model, "absent", status="404")
        refused(client.unload_model, "absent", status="404")


def check_errors_of_requests(url: str) -> None:
    with opened(url) as client:
        refused(client.infer, "absent", mlp_inputs(), status="404")
        refused(client.infer, "mlp", mlp_inputs(), model_version=ABSENT_VERSION, status="404")
        assert "`z`" in refused(client.infer, "mlp", inputs_of({"z": np.zeros((1, 4), np.float32)}))
        assert "INT64" in refused(client.infer, "mlp", inputs_of({"x": np.zeros((1, 4), np.int64)}))
        assert "[1, 5]" in refused(client.infer, "mlp", inputs_of({"x": np.zeros((1, 5), np.float32)}))
        unknown = [triton.InferRequestedOutput("nothing")]
        assert "`nothing`" in refused(client.infer, "mlp", mlp_inputs(), outputs=unknown)
        classes = [triton.InferRequestedOutput("y", class_count=2)]
        assert "classification" in refused(client.infer, "mlp", mlp_inputs(), outputs=classes)


def with_kserve(call: Callable[[InferenceRESTClient], Awaitable[None]]) -> None:
    async def called() -> None:
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
            await call(client)

    asyncio.run(called())


def check_kserve_health(url: str) -> None:
    async def call(client: InferenceRESTClient) -> None:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "mlp")
        assert not await client.is_model_ready(url, "absent")

    with_kserve(call)


def check_kserve_infer(url: str) -> None:
    array = np.arange(8, dtype=np.float32).reshape(2, 4)

    async def call(client: InferenceRESTClient) -> None:
        answers = []
        for binary in (False, True):
            entry = InferInput("x", [2, 4], "FP32")
            entry.set_data_from_numpy(array, binary_data=binary)
            outputs = [RequestedOutput("y", parameters={"binary_data": binary})]
            request = InferRequest("mlp", [entry], request_id="k", request_outputs=outputs)
            response = await client.infer(url, request, model_name="mlp")
            assert (response.model_name, response.id) == ("mlp", "k")
            answers.append(response.get_output_by_name("y").as_numpy())
        assert_same(answers[0], answers[1])

    with_kserve(call)


def check_kserve_texts(url: str) -> None:
    async def call(client: InferenceRESTClient) -> None:
        for binary in (False, True):
            entry = InferInput("in_bytes", list(texts().shape), "BYTES")
            entry.set_data_from_numpy(texts(), binary_data=binary)
            response = await client.infer(url, InferRequest("texts", [entry]), model_name="texts")
            assert_same(response.get_output_by_name("out_bytes").as_numpy(), texts())

    with_kserve(call)


if __name__ == "__main__":
    run(globals(), sys.argv[1])
