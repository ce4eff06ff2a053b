"""`lamella serve --grpc-port`: gRPC beside HTTP, with the same models, tokens and certificate."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tests import models
from tests.functional.serving import serving

from lamella.gateway.grpc import inference_pb2 as pb

SERVICE = "/inference.GRPCInferenceService"
X = np.arange(8, dtype=np.float32).reshape(2, 4)
LONG_S = 30


def request() -> bytes:
    made = pb.ModelInferRequest(model_name="mlp", raw_input_contents=[X.tobytes()])
    made.inputs.add(name="x", datatype="FP32", shape=X.shape)
    return made.SerializeToString()


def infer(channel: grpc.Channel, **named: object) -> np.ndarray:
    answer = pb.ModelInferResponse.FromString(
        channel.unary_unary(f"{SERVICE}/ModelInfer")(request(), timeout=LONG_S, **named)
    )
    return np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(answer.outputs[0].shape)


def test_both_answer_alike_and_are_counted_together(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "mlp.onnx", width=4), "--grpc-port", "0") as server:
        with grpc.insecure_channel(str(server.grpc_address)) as channel:
            np.testing.assert_array_equal(infer(channel), server.infer("mlp", x=X)["y"])
        (found,) = server.ask("GET", "/v2/models/mlp/stats").json["model_stats"]
        assert found["inference_stats"]["success"]["count"] == 2


def test_tokens_and_the_certificate_are_those_of_http(tmp_path: Path) -> None:
    tokens, certificate, key = (tmp_path / name for name in ("tokens", "c.pem", "k.pem"))
    tokens.write_text("one\n")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    reached = ("--grpc-port", "0", "--token-file", tokens, "--tls-certificate", certificate, "--tls-key", key)
    with serving(models.mlp(tmp_path / "mlp.onnx", width=4), *reached) as server:
        trusted = grpc.ssl_channel_credentials(certificate.read_bytes())
        with grpc.secure_channel(str(server.grpc_address), trusted) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                infer(channel)
            assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
            assert infer(channel, metadata=(("authorization", "Bearer one"),)).shape == X.shape


def test_a_server_with_open_streams_ends_when_it_is_told_to(tmp_path: Path) -> None:
    model = models.mlp(tmp_path / "mlp.onnx", width=4)
    with (
        serving(model, "--grpc-port", "0") as server,
        grpc.insecure_channel(str(server.grpc_address)) as channel,
    ):
        stream = channel.stream_stream(f"{SERVICE}/ModelStreamInfer")(once_then_waiting(channel), timeout=LONG_S)
        assert pb.ModelStreamInferResponse.FromString(next(stream)).infer_response.model_name == "mlp"
        said = server.stop()
        with pytest.raises(grpc.RpcError) as ended:
            next(stream)
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "Traceback" not in said
    assert "Error" not in said


def once_then_waiting(channel: grpc.Channel) -> Iterator[bytes]:
    """One request; the stream stays open until somebody ends it."""
    yield request()
    closed = threading.Event()
    channel.subscribe(lambda state: closed.set() if state is not grpc.ChannelConnectivity.READY else None)
    closed.wait(LONG_S)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    model = models.mlp(tmp_path / "mlp.onnx", width=4)
    with serving(model, "--grpc-port", "0") as server:
        port = str(server.grpc_address).rpartition(":")[2]
        command = [sys.executable, "-m", "lamella", "serve", model, "--port", "0", "--grpc-port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"cannot listen on `127.0.0.1:{port}`" in done.stderr
    assert "Traceback" not in done.stderr


def test_without_it_there_is_no_grpc(tmp_path: Path) -> None:
    with serving(models.mlp(tmp_path / "mlp.onnx", width=4)) as server:
        assert server.grpc_address is None
