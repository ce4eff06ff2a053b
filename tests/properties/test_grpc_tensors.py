"""Tensors of every datatype and shape through requests and answers of gRPC; bytes of every kind as requests."""

import ml_dtypes
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lamella.errors import InputError
from lamella.gateway.dataplane import Answer
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.gateway.grpc.codec import read_infer, write_infer
from lamella.tensors import Array, datatype_of
from lamella.wire import buffer_of

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
NUMBERS = hnp.arrays(
    hnp.boolean_dtypes() | hnp.integer_dtypes(endianness="=") | hnp.floating_dtypes(sizes=(16, 32, 64), endianness="="),
    SHAPES,
)
BFLOATS = hnp.arrays(np.uint16, SHAPES).map(lambda array: array.view(ml_dtypes.bfloat16))
TEXTS = hnp.arrays(object, SHAPES, elements=st.text(st.characters(codec="utf-8")), fill=st.nothing())
NAMES = st.text(st.characters(codec="utf-8"))
TENSORS = st.dictionaries(NAMES, NUMBERS | BFLOATS | TEXTS, max_size=4)
SECONDS = st.none() | st.floats(1e-6, 1e6)


def request_of(tensors: dict[str, Array], *, typed: bool = False) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="m", id="i")
    for name, array in tensors.items():
        entry = request.inputs.add(name=name, datatype=datatype_of(array).name, shape=array.shape)
        if not typed:
            request.raw_input_contents.append(bytes(buffer_of(array, name)))
            continue
        kind = {"b": "bool", "i": "int", "u": "uint", "f": f"fp{8 * array.itemsize}", "O": "bytes"}[array.dtype.kind]
        place = f"{kind}64_contents" if array.dtype.kind in "iu" and array.itemsize == 8 else f"{kind}_contents"
        items = array.ravel().tolist()
        getattr(entry.contents, place).extend([i.encode() if isinstance(i, str) else i for i in items])
    return request


def assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        if array.dtype == object:
            assert found[name].tolist() == array.tolist()
        else:
            assert found[name].tobytes() == array.tobytes()


@given(TENSORS, SECONDS)
def test_raw_tensors_come_back_as_they_were(tensors: dict[str, Array], remaining_s: float | None) -> None:
    asked = read_infer(request_of(tensors).SerializeToString(), remaining_s=remaining_s)
    assert_same(dict(asked.request.inputs), tensors)
    assert (asked.request.timeout_us is None) == (remaining_s is None)
    response = pb.ModelInferResponse.FromString(write_infer(asked, Answer(tensors, "1", "i")))
    again = pb.ModelInferRequest(model_name="m", raw_input_contents=response.raw_output_contents)
    for output in response.outputs:
        again.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    assert_same(dict(read_infer(again.SerializeToString()).request.inputs), tensors)


@given(
    st.dictionaries(st.text(st.characters(codec="utf-8")), (NUMBERS | TEXTS).filter(lambda a: a.dtype != np.float16))
)
def test_elements_come_back_as_they_were(tensors: dict[str, Array]) -> None:
    request = request_of(tensors, typed=True)
    request.parameters["binary_data_output"].bool_param = False
    asked = read_infer(request.SerializeToString())
    found = dict(asked.request.inputs)
    assert list(found) == list(tensors)
    for name, array in tensors.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found[name], array)  # protobuf keeps no NaN's bits
    response = pb.ModelInferResponse.FromString(write_infer(asked, Answer(tensors, "1", "i")))
    assert [entry.contents for entry in response.outputs] == [entry.contents for entry in request.inputs]


@given(TENSORS, st.data())
def test_damaged_requests_are_refused_or_understood(tensors: dict[str, Array], data: st.DataObject) -> None:
    whole = bytearray(request_of(tensors).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    _understood_or_refused(bytes(whole))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_understood(data: bytes) -> None:
    _understood_or_refused(data)


def _understood_or_refused(data: bytes) -> None:
    try:
        read_infer(data)
    except InputError as error:
        assert error.hint  # noqa: PT017  # nothing else may be raised
