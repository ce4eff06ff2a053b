"""The front doors' requests and answers: the protocol's JSON and binary tensors."""

import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from lamella.errors import InputError
from lamella.runtime.protocol import metadata, read_request, write_response
from lamella.tensors import TensorSpec
from lamella.wire import decode_parts, encode

SPEC = TensorSpec("x", "FP32", ("batch", 2))
X = {"name": "x", "shape": [1, 2], "datatype": "FP32"}


def answered(header: dict[str, Any], **outputs: np.ndarray) -> dict[str, np.ndarray]:
    """What a client reads of an answer to such a request."""
    request = read_request(json.dumps({"inputs": [], **header}).encode(), None)
    response = write_response(request, outputs, model="model", version="3", request_id="id")
    end = len(response.body) if response.header_length is None else response.header_length
    return decode_parts(response.body[:end], response.body[end:])


def test_json_and_binary_requests_are_read_alike() -> None:
    array = np.array([[1, 2]], np.float32)
    plain = read_request(json.dumps({"id": "a", "inputs": [{**X, "data": [1, 2]}]}).encode(), None)
    frame = encode({"x": array})
    binary = read_request(frame.header + b"".join(frame.buffers), str(len(frame.header)))
    np.testing.assert_array_equal(plain.inputs["x"], array)
    np.testing.assert_array_equal(binary.inputs["x"], array)
    assert (plain.request_id, binary.request_id) == ("a", None)


@pytest.mark.parametrize(
    "array",
    [
        np.array([[1.5, -2]], np.float32),
        np.array(3, np.int64),
        np.zeros((0, 2), np.uint8),
        np.array([True, False]),
        np.array(["größe", ""], object),
        np.array([1.5, 2], np.float16),
        np.array([1.5, 2], ml_dtypes.bfloat16),
    ],
)
@pytest.mark.parametrize("binary", [False, True])
def test_every_datatype_is_answered_in_both_forms(array: np.ndarray, binary: bool) -> None:
    found = answered({"parameters": {"binary_data_output": binary}}, y=array)["y"]
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tolist() == array.tolist()


def test_outputs_may_be_chosen_each_in_its_form() -> None:
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    wanted = [{"name": "b", "parameters": {"binary_data": True}}, {"name": "a"}]
    found = answered({"outputs": wanted}, a=a, b=b, c=a)
    assert list(found) == ["b", "a"]
    np.testing.assert_array_equal(found["b"], b)


@pytest.mark.parametrize(("given", "wanted"), [("a/b ü", "a/b ü"), ("", "made-up"), (None, "made-up")])
def test_the_id_that_a_client_gave_comes_back(given: str | None, wanted: str) -> None:
    request = read_request(json.dumps({"inputs": [], **({} if given is None else {"id": given})}).encode(), None)
    response = write_response(request, {}, model="model", version="3", request_id="made-up")
    assert json.loads(response.body)["id"] == wanted


def test_numbers_that_json_lacks_are_texts() -> None:
    request = read_request(b'{"inputs": []}', None)
    array = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    content = json.loads(write_response(request, {"y": array}, model="model", version="3", request_id="id").body)
    assert content["outputs"][0]["data"] == ["NaN", "Infinity", "-Infinity", 1]
    assert (content["model_name"], content["model_version"], content["id"]) == ("model", "3", "id")


@pytest.mark.parametrize(
    ("body", "length"),
    [
        (b"", None),
        (b"[]", None),
        (b'{"inputs": 1}', None),
        (b'{"inputs": []}', "99"),
        (b'{"inputs": []}', "-1"),
        (b'{"inputs": []}', "x"),
        (b'{"inputs": [], "outputs": [1]}', None),
        (b'{"inputs": [], "outputs": [{"parameters": {}}]}', None),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": 1}]}', None),
        (b'{"inputs": [], "parameters": []}', None),
        (b'{"inputs": [], "parameters": {"slice": true}}', None),
        (b'{"inputs": [], "id": 1}', None),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"classification": 2}}]}', None),
        (b'{"inputs": [], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}', None),
        (b'\xff{"inputs": []}', None),
    ],
)
def test_what_does_not_follow_the_protocol_is_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(InputError) as caught:
        read_request(body, length)
    assert caught.value.hint


def test_an_output_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no output `z`"):
        answered({"outputs": [{"name": "z"}]}, y=np.ones(1))


def test_metadata_has_the_protocols_shapes() -> None:
    assert metadata("model", ["3"], [SPEC], [SPEC])["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
