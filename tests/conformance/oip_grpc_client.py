"""`python oip_grpc_client.py HOST:PORT`: what Triton's client for gRPC expects of a server. See `oip_checks.py`."""

import queue
import sys
from collections.abc import Sequence

import numpy as np
import tritonclient.grpc as triton
from oip_checks import Arrays, assert_same, run, samples, texts
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

Client = triton.InferenceServerClient
ABSENT_VERSION = "99999"


def inputs_of(arrays: Arrays) -> list[triton.InferInput]:
    made = []
    for name, array in arrays.items():
        entry = triton.InferInput(name, array.shape, np_to_triton_dtype(array.dtype))
        entry.set_data_from_numpy(array)
        made.append(entry)
    return made


def identity_inputs() -> list[triton.InferInput]:
    return inputs_of({f"in_{kind.lower()}": array for kind, array in samples().items()})


def mlp_inputs(value: float = 1.0, rows: int = 1) -> list[triton.InferInput]:
    return inputs_of({"x": np.full((rows, 4), value, np.float32)})


def assert_identity(result: triton.InferResult, kinds: Sequence[str] | None = None) -> None:
    for kind, array in samples().items():
        got = result.as_numpy(f"out_{kind.lower()}")
        if kinds is None or kind in kinds:
            assert_same(got, array)
        else:
            assert got is None


def refused(status: str, call: object, *arguments: object, **named: object) -> str:
    try:
        call(*arguments, **named)
    except InferenceServerException as error:
        found = error
    else:
        raise AssertionError("it was not refused")
    assert found.status() == f"StatusCode.{status}", found
    return found.message()


def version_of(client: Client, model: str) -> str:
    (version,) = client.get_model_metadata(model).versions
    return version


def check_health(client: Client) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp")
    assert client.is_model_ready("mlp", version_of(client, "mlp"))
    assert not client.is_model_ready("mlp", ABSENT_VERSION)
    assert not client.is_model_ready("absent")


def check_server_metadata(client: Client) -> None:
    found = client.get_server_metadata()
    assert found.name == "lamella"
    assert found.version
    assert {"binary_tensor_data", "model_repository", "statistics"} <= set(found.extensions)


def check_model_metadata(client: Client) -> None:
    found = client.get_model_metadata("mlp", as_json=True)
    assert found["name"] == "mlp"
    assert found["versions"] == [version_of(client, "mlp")]
    assert found["platform"]
    assert found["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert found["outputs"] == [{"name": "y", "datatype": "FP32", "shape": ["-1", "4"]}]
    kinds = {
        entry.name: entry.datatype
        for entry in client.get_model_metadata("identity", version_of(client, "identity")).inputs
    }
    assert kinds == {f"in_{kind.lower()}": kind for kind in samples()}
    assert "absent" in refused("NOT_FOUND", client.get_model_metadata, "absent")


def check_config(client: Client) -> None:
    found = client.get_model_config("mlp").config
    assert (found.name, found.backend.split("_")[0], found.input[0].name) == ("mlp", "onnxruntime", "x")
    assert found.input[0].data_type == triton.model_config_pb2.TYPE_FP32
    assert found.max_batch_size == 0 or list(found.input[0].dims) == [4]
    assert (found.max_batch_size > 0) == found.HasField("dynamic_batching")
    kinds = {entry.name: entry.data_type for entry in client.get_model_config("identity").config.output}
    assert kinds["out_bf16"] == triton.model_config_pb2.TYPE_BF16
    assert triton.model_config_pb2.TYPE_INVALID not in kinds.values()
    assert client.get_model_config("texts").config.input[0].data_type == triton.model_config_pb2.TYPE_STRING
    refused("NOT_FOUND", client.get_model_config, "absent")


def check_infer_every_datatype(client: Client) -> None:
    version = version_of(client, "identity")
    result = client.infer("identity", identity_inputs(), request_id="every")
    assert_identity(result)
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("identity", version, "every")


def check_infer_texts(client: Client) -> None:
    assert_same(client.infer("texts", inputs_of({"in_bytes": texts()})).as_numpy("out_bytes"), texts())
    raw = np.array([[b"bytes", b"gr\xc3\xb6\xc3\x9fer"]], np.bytes_)
    assert client.infer("texts", inputs_of({"in_bytes": raw})).as_numpy("out_bytes").tolist() == raw.tolist()


def check_infer_without_rows(client: Client) -> None:
    result = client.infer("identity", inputs_of({f"in_{k.lower()}": a[:0] for k, a in samples().items()}))
    for kind, array in samples().items():
        assert_same(result.as_numpy(f"out_{kind.lower()}"), array[:0])


def check_infer_requested_outputs(client: Client) -> None:
    outputs = [triton.InferRequestedOutput(name) for name in ("out_int8", "out_fp16")]
    result = client.infer("identity", identity_inputs(), model_version=version_of(client, "identity"), outputs=outputs)
    assert [entry.name for entry in result.get_response().outputs] == ["out_int8", "out_fp16"]
    assert_identity(result, ("INT8", "FP16"))


def check_infer_parameters(client: Client) -> None:
    result = client.infer(
        "mlp", mlp_inputs(), priority=1, timeout=60_000_000, parameters={"text": "a", "flag": True, "n": 3}
    )
    assert result.as_numpy("y").shape == (1, 4)


def check_infer_large(client: Client) -> None:
    array = np.arange(3 << 20, dtype=np.float32).reshape(-1, 4)
    assert client.infer("mlp", inputs_of({"x": array})).as_numpy("y").shape == array.shape


def check_infer_compressed(client: Client) -> None:
    for algorithm in ("gzip", "deflate"):
        assert_identity(client.infer("identity", identity_inputs(), compression_algorithm=algorithm))


def check_async_infer(client: Client) -> None:
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    for _ in range(20):
        client.async_infer("mlp", mlp_inputs(), lambda result, error: answers.put((result, error)))
    expected = client.infer("mlp", mlp_inputs()).as_numpy("y")
    for _ in range(20):
        result, error = answers.get(timeout=30)
        assert error is None, error
        assert_same(result.as_numpy("y"), expected)


def check_stream_infer(client: Client) -> None:
    answers: queue.Queue[tuple[triton.InferResult, object]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for index in range(100):
        client.async_stream_infer("mlp", mlp_inputs(index), request_id=str(index), enable_empty_final_response=True)
    for index in range(100):
        result, error = answers.get(timeout=30)
        assert error is None, error
        assert result.get_response().id == str(index)
        assert result.get_response().parameters["triton_final_response"].bool_param
        assert_same(result.as_numpy("y"), client.infer("mlp", mlp_inputs(index)).as_numpy("y"))
    client.stop_stream()
    assert answers.empty()


def check_stream_goes_on_after_an_error(client: Client) -> None:
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for model in ("mlp", "absent", "mlp"):
        client.async_stream_infer(model, mlp_inputs(), request_id=model)
    client.stop_stream()
    (first, none), (nothing, error), (last, _) = (answers.get(timeout=30) for _ in range(3))
    assert none is None
    assert nothing is None
    assert "absent" in error.message()
    assert first.get_response().id == last.get_response().id == "mlp"


def check_stream_ends_at_an_error_where_that_is_asked(client: Client) -> None:
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)), headers={"triton_grpc_error": "true"})
    client.async_stream_infer("absent", mlp_inputs())
    result, error = answers.get(timeout=30)
    assert result is None
    assert error.status() == "StatusCode.NOT_FOUND"
    client.stop_stream()


def check_statistics(client: Client) -> None:
    before = client.get_inference_statistics("mlp", version_of(client, "mlp")).model_stats[0]
    for _ in range(3):
        client.infer("mlp", mlp_inputs())
    (after,) = client.get_inference_statistics("mlp").model_stats
    assert (after.name, after.version) == ("mlp", version_of(client, "mlp"))
    assert after.inference_stats.success.count == before.inference_stats.success.count + 3
    assert after.inference_stats.success.ns > before.inference_stats.success.ns
    assert after.execution_count >= before.execution_count + 1
    assert {entry.name for entry in client.get_inference_statistics().model_stats} >= {"mlp", "identity"}
    refused("NOT_FOUND", client.get_inference_statistics, "absent")


def check_repository(client: Client) -> None:
    states = {entry.name: entry.state for entry in client.get_model_repository_index().models}
    assert states["mlp"] == states["identity"] == "READY"
    client.unload_model("mlp")
    assert not client.is_model_ready("mlp")
    assert "mlp" in refused("NOT_FOUND", client.infer, "mlp", mlp_inputs())
    states = {entry.name: entry.state for entry in client.get_model_repository_index().models}
    assert states["mlp"] != "READY"
    client.load_model("mlp")
    assert client.is_model_ready("mlp")
    assert client.infer("mlp", mlp_inputs()).as_numpy("y").shape == (1, 4)
    refused("NOT_FOUND", client.load_model, "absent")
    refused("NOT_FOUND", client.unload_model, "absent")
    assert "config" in refused("INVALID_ARGUMENT", client.load_model, "mlp", config='{"max_batch_size": 2}')


def check_errors_of_requests(client: Client) -> None:
    refused("NOT_FOUND", client.infer, "absent", mlp_inputs())
    refused("NOT_FOUND", client.infer, "mlp", mlp_inputs(), model_version=ABSENT_VERSION)
    wrong_name = inputs_of({"z": np.zeros((1, 4), np.float32)})
    assert "`z`" in refused("INVALID_ARGUMENT", client.infer, "mlp", wrong_name)
    wrong_type = inputs_of({"x": np.zeros((1, 4), np.int64)})
    assert "INT64" in refused("INVALID_ARGUMENT", client.infer, "mlp", wrong_type)
    wrong_shape = inputs_of({"x": np.zeros((1, 5), np.float32)})
    assert "[1, 5]" in refused("INVALID_ARGUMENT", client.infer, "mlp", wrong_shape)
    unknown = [triton.InferRequestedOutput("nothing")]
    assert "`nothing`" in refused("INVALID_ARGUMENT", client.infer, "mlp", mlp_inputs(), outputs=unknown)
    classes = [triton.InferRequestedOutput("y", class_count=2)]
    assert "classification" in refused("INVALID_ARGUMENT", client.infer, "mlp", mlp_inputs(), outputs=classes)
    shared = triton.InferInput("x", [1, 4], "FP32")
    shared.set_shared_memory("region", 16)
    assert "shared memory" in refused("INVALID_ARGUMENT", client.infer, "mlp", [shared])


def check_what_is_not_there_is_told_so(client: Client) -> None:
    for call, arguments in (
        (client.get_system_shared_memory_status, ()),
        (client.register_system_shared_memory, ("region", "/key", 16)),
        (client.unregister_system_shared_memory, ()),
        (client.get_cuda_shared_memory_status, ()),
        (client.register_cuda_shared_memory, ("region", b"aGFuZGxl", 0, 16)),
        (client.unregister_cuda_shared_memory, ()),
    ):
        assert "shared memory" in refused("UNIMPLEMENTED", call, *arguments)
    assert "traces" in refused("UNIMPLEMENTED", client.get_trace_settings)
    assert "log" in refused("UNIMPLEMENTED", client.update_log_settings, {"log_verbose_level": 1})


if __name__ == "__main__":
    with Client(sys.argv[1]) as opened:
        run(globals(), opened)
