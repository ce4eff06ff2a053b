"""Requests to infer and their answers, from protobuf and to it.

Tensors that travel as bytes are not copied on their way in: they are views of the request. On their way out they are
copied once, into the answer. Protobuf's own Python copies each twice, and thinks for a millisecond a megabyte.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from google.protobuf.message import DecodeError

from lamella.errors import InputError, MalformedModelError
from lamella.gateway.dataplane import Answer
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.graph.protobuf import fields, len_prefix
from lamella.runtime.protocol import InferRequest, chosen, request_of
from lamella.tensors import Array, Datatype, array_from, datatype_of
from lamella.wire import Buffer, array_of_texts, buffer_of, checked, decode_array

_RAW_INPUTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_RAW_OUTPUTS = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_INFER_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_MOST_FIELDS = 100_000
"""Top-level fields of a request: they are walked one by one, while nobody else is answered."""

_CONTENTS = {
    "BOOL": "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""By datatype: where elements stand that do not travel as bytes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request to infer.

    Attributes:
        model: Whom it is for.
        version: Which version of it; None: whichever answers.
        request: What it asks.
    """

    model: str
    version: str | None
    request: InferRequest


def read_infer(data: bytes) -> Asked:
    """Read a `ModelInferRequest`. Arrays are views of `data`, except text and elements in `contents`.

    Raises:
        InputError: It is no such message, or contradicts itself; the message names the tensor.
    """
    rest, raw = _parted(data)
    try:
        message = pb.ModelInferRequest.FromString(rest)
    except DecodeError as error:
        raise InputError("the request is no `ModelInferRequest`", hint="see `inference.proto`") from error
    parameters = plain(message.parameters)
    request = request_of(
        message.id,
        _inputs(message.inputs, raw),
        {output.name: plain(output.parameters) for output in message.outputs},
        parameters,
        all_binary=parameters.get("binary_data_output") is not False,
    )
    return Asked(message.model_name, message.model_version or None, request)


def _parted(data: bytes) -> tuple[bytes, list[memoryview]]:
    """A request without its raw tensors, and these."""
    view, raw, rest, start, count = memoryview(data), [], [], 0, 0
    try:
        for number, _, first, value, end in fields(data, 0, len(data)):
            count += 1
            if number == _RAW_INPUTS:
                raw.append(view[value:end])
                rest.append(view[start:first])
                start = end
            elif count > _MOST_FIELDS:
                raise InputError(f"the request has more than {_MOST_FIELDS} fields", hint="send tensors as raw bytes")
    except MalformedModelError as error:
        raise InputError(error.message, hint="the request is no `ModelInferRequest`; see `inference.proto`") from error
    rest.append(view[start:])
    return b"".join(rest), raw


def plain(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    """Parameters as Python values; those without a value are left out."""
    found = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) for name, (value, choice) in found.items() if choice}


def _inputs(tensors: Sequence[pb.ModelInferRequest.InferInputTensor], raw: Sequence[memoryview]) -> dict[str, Array]:
    if raw and len(raw) != len(tensors):
        raise InputError(
            f"the request has {len(tensors)} inputs, but {len(raw)} `raw_input_contents`",
            hint="give the bytes of every input in `raw_input_contents`, or the elements of every one in `contents`",
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(tensors):
        name, shape = tensor.name, tuple(tensor.shape)
        if name in arrays:
            raise InputError(f"tensor `{name}` comes twice", hint="give each tensor once")
        if shape and min(shape) < 0:
            raise InputError(f"tensor `{name}` has no valid `shape`", hint="give a list of sizes, such as [1, 128]")
        if tensor.parameters and "shared_memory_region" in tensor.parameters:
            raise InputError(
                f"tensor `{name}` is in shared memory, which this server lacks", hint="send its bytes with the request"
            )
        kind = checked(name, tensor.datatype, shape)
        if not raw:
            arrays[name] = _from_contents(tensor, kind, shape)
        elif tensor.HasField("contents"):
            raise InputError(
                f"tensor `{name}` has `contents`, and the request has `raw_input_contents` too",
                hint="give one of the two",
            )
        else:
            arrays[name] = decode_array(raw[index], name, kind, shape)
    return arrays


def _from_contents(tensor: pb.ModelInferRequest.InferInputTensor, kind: Datatype, shape: tuple[int, ...]) -> Array:
    place = _CONTENTS.get(kind.name)
    if place is None:
        raise InputError(
            f"tensor `{tensor.name}` is {kind.name}, for which there is no place in `contents`",
            hint="send it in `raw_input_contents`",
        )
    items = getattr(tensor.contents, place)
    if kind.name == "BYTES":
        return array_of_texts(items, tensor.name, shape)
    if len(items) != prod(shape):
        raise InputError(
            f"tensor `{tensor.name}` has {len(items)} elements in `{place}`, but its shape {list(shape)} takes "
            f"{prod(shape)}",
            hint=f"check `shape`; {kind.name} goes into `{place}`, or into `raw_input_contents`",
        )
    try:
        return array_from(items, kind).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise InputError(f"tensor `{tensor.name}`: {error}", hint="check `datatype`") from error


def write_infer(asked: Asked, answer: Answer, *, parameters: Mapping[str, object] | None = None) -> bytes:
    """Write a `ModelInferResponse`: its tensors as bytes, unless the request's `binary_data_output` is false.

    Raises:
        InputError: An output was asked for that there is not, or elements for which there is no place in `contents`.
        UnsupportedModelError: The protocol has no datatype for an output.
    """
    head = pb.ModelInferResponse(model_name=asked.model, model_version=answer.version, id=answer.request_id)
    for name, value in {**answer.parameters, **(parameters or {})}.items():
        _set(head.parameters[name], value)
    raw: list[Buffer] = []
    for name, array in chosen(asked.request, answer.outputs).items():
        entry = head.outputs.add(name=name, datatype=datatype_of(array).name, shape=array.shape)
        if asked.request.all_binary:
            buffer = buffer_of(array, name)
            raw += (len_prefix(_RAW_OUTPUTS, len(buffer)), buffer)
        else:
            _fill(entry, array)
    return b"".join((head.SerializeToString(), *raw))


def _fill(entry: pb.ModelInferResponse.InferOutputTensor, array: Array) -> None:
    place = _CONTENTS.get(entry.datatype)
    if place is None:
        raise InputError(
            f"output `{entry.name}` is {entry.datatype}, for which there is no place in `contents`",
            hint="leave `binary_data_output` out",
        )
    items = array.ravel().tolist()
    if entry.datatype == "BYTES":
        items = [item.encode() if isinstance(item, str) else item for item in items]
    getattr(entry.contents, place).extend(items)


def _set(parameter: pb.InferParameter, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value if isinstance(value, str) else json.dumps(value)


def stream_part(response: bytes) -> bytes:
    """A `ModelStreamInferResponse` that holds a `ModelInferResponse`, as `write_infer` makes it."""
    return len_prefix(_INFER_RESPONSE, len(response)) + response


def stream_error(text: str, request_id: str) -> bytes:
    """A `ModelStreamInferResponse` of a request that failed."""
    response = pb.ModelInferResponse(id=request_id)
    return pb.ModelStreamInferResponse(error_message=text, infer_response=response).SerializeToString()
