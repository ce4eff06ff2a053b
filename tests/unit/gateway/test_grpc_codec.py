"""Requests to infer and answers as protobuf: what is read, what is refused, and what is not copied."""

from collections.abc import Callable

import numpy as np
import pytest

from lamella.errors import InputError, LamellaError
from lamella.gateway.dataplane import Answer
from lamella.gateway.grpc import codec
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.gateway.grpc.codec import Asked, read_infer, write_infer
from lamella.runtime.protocol import request_of

Request = pb.ModelInferRequest


def raw_request(data: bytes = bytes(16), *, datatype: str = "FP32", shape: tuple[int, ...] = (1, 4)) -> Request:
    request = Request(model_name="m", raw_input_contents=[data])
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


def typed_request(datatype: str, shape: tuple[int, ...], **contents: list[object]) -> Request:
    request = Request(model_name="m")
    entry = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for place, items in contents.items():
        getattr(entry.contents, place).extend(items)
    return request


def read(request: Request) -> Asked:
    return read_infer(request.SerializeToString())


def asking(*outputs: str, all_binary: bool = True) -> Asked:
    return Asked("m", None, request_of("id", {}, {name: {} for name in outputs}, {}, all_binary=all_binary))


def write(asked: Asked, **outputs: np.ndarray) -> pb.ModelInferResponse:
    return pb.ModelInferResponse.FromString(write_infer(asked, Answer(outputs, "3", "id")))


def test_raw_tensors_are_views_of_the_request() -> None:
    data = raw_request(np.arange(4, dtype="<f4").tobytes()).SerializeToString()
    array = read_infer(data).request.inputs["x"]
    assert array.tolist() == [[0, 1, 2, 3]]
    place = np.frombuffer(data, np.uint8).ctypes.data
    assert place <= array.ctypes.data < place + len(data)
    assert not array.flags.writeable


def test_everything_that_is_asked_is_read() -> None:
    request = raw_request()
    request.model_version, request.id = "7", "mine"
    request.outputs.add(name="b")
    request.outputs.add(name="a")
    request.parameters["priority"].uint64_param = 2
    request.parameters["timeout"].int64_param = 500
    request.parameters["flag"].bool_param = True
    request.parameters["text"].string_param = "t"
    asked = read(request)
    assert (asked.model, asked.version, asked.request.request_id) == ("m", "7", "mine")
    assert asked.request.outputs == ("b", "a")
    assert (asked.request.priority, asked.request.timeout_us, asked.request.all_binary) == (2, 500, True)


def test_raw_tensors_are_found_wherever_they_stand_among_the_fields() -> None:
    request = raw_request(np.arange(4, dtype="<f4").tobytes())
    raw, rest = Request(raw_input_contents=request.raw_input_contents), Request()
    rest.CopyFrom(request)
    rest.ClearField("raw_input_contents")
    asked = read_infer(raw.SerializeToString() + rest.SerializeToString())
    assert asked.request.inputs["x"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize(
    ("kind", "place", "items", "dtype"),
    [
        ("BOOL", "bool_contents", [True, False], bool),
        *((f"INT{bits}", "int_contents", [-1, 7], f"int{bits}") for bits in (8, 16, 32)),
        ("INT64", "int64_contents", [-(1 << 63), 7], "int64"),
        *((f"UINT{bits}", "uint_contents", [255, 7], f"uint{bits}") for bits in (8, 16, 32)),
        ("UINT64", "uint64_contents", [(1 << 64) - 1, 7], "uint64"),
        ("FP32", "fp32_contents", [0.5, float("inf")], "float32"),
        ("FP64", "fp64_contents", [0.1, float("-inf")], "float64"),
        ("BYTES", "bytes_contents", [b"a", "ö".encode()], object),
    ],
)
def test_elements_in_contents_become_arrays(kind: str, place: str, items: list[object], dtype: object) -> None:
    array = read(typed_request(kind, (1, 2), **{place: items})).request.inputs["x"]
    expected = [item.decode() if isinstance(item, bytes) else item for item in items]
    assert array.dtype == np.dtype(dtype)
    assert array.tolist() == [expected]


def test_a_tensor_without_elements_needs_no_contents() -> None:
    assert read(typed_request("FP32", (0, 4))).request.inputs["x"].shape == (0, 4)


def with_contents(request: Request) -> Request:
    request.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return request


def in_shared_memory() -> Request:
    request = typed_request("FP32", (1, 4))
    request.inputs[0].parameters["shared_memory_region"].string_param = "region"
    return request


def twice() -> Request:
    request = raw_request()
    request.MergeFrom(raw_request())
    return request


def with_classes() -> Request:
    request = raw_request()
    request.outputs.add(name="y").parameters["classification"].int64_param = 3
    return request


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: with_contents(raw_request()), "has `contents`, and the request has `raw_input_contents` too"),
        (lambda: Request(inputs=raw_request().inputs, raw_input_contents=[b"", b""]), "1 inputs, but 2"),
        (lambda: raw_request(bytes(15)), "has 15 bytes, but FP32 of shape [1, 4] takes 16"),
        (lambda: raw_request(shape=(-1, 4)), "no valid `shape`"),
        (lambda: raw_request(shape=(1 << 40, 1 << 40)), "larger than any array"),
        (lambda: raw_request(datatype="FP31"), "unknown datatype 'FP31'"),
        (lambda: raw_request(datatype="INT4"), "INT4, which does not travel"),
        (lambda: raw_request(b"\x09\0\0\0short", datatype="BYTES", shape=(1,)), "runs past its bytes"),
        (lambda: typed_request("FP16", (1,), fp32_contents=[1.0]), "FP16, for which there is no place in `contents`"),
        (lambda: typed_request("BF16", (1,)), "BF16, for which there is no place in `contents`"),
        (lambda: typed_request("FP32", (1, 4), fp32_contents=[1.0]), "has 1 elements in `fp32_contents`"),
        (lambda: typed_request("FP32", (1,), fp64_contents=[1.0]), "has 0 elements in `fp32_contents`"),
        (lambda: typed_request("INT8", (1,), int_contents=[200]), "not every value is INT8"),
        (lambda: typed_request("BYTES", (2,), bytes_contents=[b"a"]), "has 1 elements"),
        (in_shared_memory, "in shared memory"),
        (with_classes, "`classification`"),
        (twice, "comes 2 times"),
    ],
)
def test_what_contradicts_itself_is_refused(make: Callable[[], Request], says: str) -> None:
    with pytest.raises(InputError) as refused:
        read(make())
    assert says in refused.value.message
    assert refused.value.hint


def test_a_request_of_very_many_fields_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_MOST_FIELDS", 10)
    outputs = [Request.InferRequestedOutputTensor(name=str(index)) for index in range(20)]
    for request in (Request(outputs=outputs), Request(raw_input_contents=[b""] * 20)):
        with pytest.raises(InputError, match="more than 10 fields"):
            read(request)


@pytest.mark.parametrize("name", ["priority", "timeout"])
def test_parameters_that_make_no_sense_are_refused(name: str) -> None:
    request = raw_request()
    request.parameters[name].string_param = "soon"
    with pytest.raises(InputError, match=f"`{name}` is no count"):
        read(request)


def test_outputs_are_bytes_in_the_order_that_was_asked_for() -> None:
    response = write(asking("b", "a"), a=np.array([1, 2], np.int16), b=np.array(["x"], object), c=np.zeros(1))
    assert [entry.name for entry in response.outputs] == ["b", "a"]
    assert [(entry.datatype, list(entry.shape)) for entry in response.outputs] == [("BYTES", [1]), ("INT16", [2])]
    assert list(response.raw_output_contents) == [b"\1\0\0\0x", b"\1\0\2\0"]
    assert (response.model_name, response.model_version, response.id) == ("m", "3", "id")


def test_an_output_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="no output `z`"):
        write(asking("z"), a=np.zeros(1, np.float32))


def test_outputs_are_elements_where_bytes_are_not_wanted() -> None:
    request = raw_request()
    request.parameters["binary_data_output"].bool_param = False
    asked = read(request)
    outputs = {
        "f": np.array([0.5, 2], np.float32),
        "i": np.array([[-3]], np.int8),
        "t": np.array(["ö", b"\xff"], object),
        "b": np.array(True),
    }
    response = write(asked, **outputs)
    f, i, t, b = (entry.contents for entry in response.outputs)
    assert (list(f.fp32_contents), list(i.int_contents)) == ([0.5, 2], [-3])
    assert (list(t.bytes_contents), list(b.bool_contents)) == (["ö".encode(), b"\xff"], [True])
    assert not response.raw_output_contents
    with pytest.raises(InputError, match="`h` is FP16, for which there is no place"):
        write(asked, h=np.zeros(1, np.float16))


def test_what_is_said_beside_the_outputs_keeps_its_type() -> None:
    said = {"i": -1, "b": True, "f": 0.5, "s": "x", "l": [1, {"a": None}], "big": 1 << 70}
    answer = Answer({"y": np.zeros(1, np.float32)}, "1", "id", said)
    response = pb.ModelInferResponse.FromString(write_infer(asking(), answer, parameters={"last": True}))
    plain = codec.plain(response.parameters)
    assert plain == {**said, "l": '[1, {"a": null}]', "big": str(1 << 70), "last": True}


def test_packed_outputs_do_not_travel() -> None:
    import ml_dtypes

    with pytest.raises(LamellaError, match="INT4 do not travel"):
        write(asking(), y=np.zeros(2, ml_dtypes.int4))


def test_a_part_of_a_stream_holds_an_answer_or_what_failed() -> None:
    response = write_infer(asking(), Answer({"y": np.arange(500.0)}, "1", "id"))
    part = pb.ModelStreamInferResponse.FromString(codec.stream_part(response))
    assert part.error_message == ""
    assert part.infer_response.SerializeToString() == response
    failed = pb.ModelStreamInferResponse.FromString(codec.stream_error("why", "mine"))
    assert (failed.error_message, failed.infer_response.id) == ("why", "mine")
