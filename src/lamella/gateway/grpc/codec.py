"""Requests to infer and their answers, from protobuf and to it.

Tensors that travel as bytes are not copied on their way in: they are views of the request. On their way out they are
copied once, into the answer. Protobuf's own Python copies each twice.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod

from google.protobuf.message import DecodeError

from lamella.errors import InputError, MalformedModelError
from lamella.gateway.dataplane import Answer
from lamella.gateway.grpc import inference_pb2 as pb
from lamella.graph.protobuf import LEN, fields, len_prefix
from lamella.runtime.protocol import InferRequest, chosen, request_of
from lamella.tensors import Array, Datatype, array_from, datatype_of
from lamella.wire import Buffer, array_of_texts, buffer_of, checked, decode_array

_RAW_INPUTS = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_RAW_OUTPUTS = pb.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_INFER_RESPONSE = pb.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER
_ID = pb.ModelInferRequest.ID_FIELD_NUMBER
_NO_REQUEST = "send a `ModelInferRequest`, as in `inference.proto`"
_MOST_KEPT, _MOST_KEPT_BYTES = 512, 4096
"""Of requests: what is the same in many of them is understood once, as long as it is short."""

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


@dataclass(frozen=True, slots=True)
class _Head:
    """A request without its name and its raw tensors: what one client sends again and again.

    Attributes:
        message: All of that, as protobuf has it.
        inputs: Name, datatype and shape of each input.
        with_contents: Names of those inputs that have `contents`.
        request: What is asked, but for inputs.
    """

    message: pb.ModelInferRequest
    inputs: tuple[tuple[str, Datatype, tuple[int, ...]], ...]
    with_contents: tuple[str, ...]
    request: InferRequest


def read_infer(data: bytes, *, remaining_s: float | None = None) -> Asked:
    """Read a `ModelInferRequest`. Arrays are views of `data`, except text and elements in `contents`.

    Args:
        data: The message.
        remaining_s: Seconds for which its caller waits; None: for ever. The request waits no longer.

    Raises:
        InputError: It is no such message, or contradicts itself; the message names the tensor.
    """
    rest, request_id, raw = _parted(data)
    head = _known_head(rest) if len(rest) <= _MOST_KEPT_BYTES else _head(rest)
    asked, timeout_us = head.request, head.request.timeout_us
    if remaining_s is not None:
        remaining_us = max(1, int(remaining_s * 1e6))
        timeout_us = remaining_us if timeout_us is None else min(timeout_us, remaining_us)
    request = InferRequest(
        request_id or None,
        _arrays(head, raw),
        asked.outputs,
        asked.binary,
        asked.all_binary,
        asked.slice,
        asked.wants_timeline,
        asked.by_reference,
        asked.priority,
        timeout_us,
    )
    return Asked(head.message.model_name, head.message.model_version or None, request)


def _parted(data: bytes) -> tuple[bytes, str, list[memoryview]]:
    """What is the same in most requests, then this one's name, and its raw tensors."""
    view, raw, rest, start, count, request_id = memoryview(data), [], [], 0, 0, b""
    try:
        for number, wire, first, value, end in fields(data, 0, len(data)):
            count += 1
            if count > _MOST_FIELDS:
                raise InputError(f"the request has more than {_MOST_FIELDS} fields", hint="send tensors as raw bytes")
            if wire == LEN and number in (_RAW_INPUTS, _ID):
                if number == _ID:
                    request_id = data[value:end]
                else:
                    raw.append(view[value:end])
                rest.append(view[start:first])
                start = end
        rest.append(view[start:])
        return b"".join(rest), request_id.decode(), raw
    except MalformedModelError as error:
        raise InputError(error.message, hint=_NO_REQUEST) from error
    except UnicodeDecodeError as error:
        raise InputError("the `id` of the request is not UTF-8", hint=_NO_REQUEST) from error


def _head(rest: bytes) -> _Head:
    try:
        message = pb.ModelInferRequest.FromString(rest)
    except DecodeError as error:
        raise InputError("the request cannot be read", hint=_NO_REQUEST) from error
    parameters = plain(message.parameters)
    outputs = {output.name: plain(output.parameters) for output in message.outputs}
    all_binary = parameters.get("binary_data_output") is not False
    request = request_of(None, {}, outputs, parameters, all_binary=all_binary)
    inputs = tuple(map(_described, message.inputs))
    for name, times in Counter(name for name, _, _ in inputs).items():
        if times > 1:
            raise InputError(f"tensor `{name}` comes {times} times", hint="give each tensor once")
    with_contents = tuple(tensor.name for tensor in message.inputs if tensor.HasField("contents"))
    return _Head(message, inputs, with_contents, request)


_known_head = lru_cache(_MOST_KEPT)(_head)
"""To be read again takes protobuf, and what checks it, longer than all that is left to do."""


def _described(tensor: pb.ModelInferRequest.InferInputTensor) -> tuple[str, Datatype, tuple[int, ...]]:
    name, shape = tensor.name, tuple(tensor.shape)
    if shape and min(shape) < 0:
        raise InputError(f"tensor `{name}` has no valid `shape`", hint="give a list of sizes, such as [1, 128]")
    if tensor.parameters and "shared_memory_region" in tensor.parameters:
        raise InputError(
            f"tensor `{name}` is in shared memory, which this server lacks", hint="send its bytes with the request"
        )
    return name, checked(name, tensor.datatype, shape), shape


def plain(parameters: Mapping[str, pb.InferParameter]) -> dict[str, object]:
    """Parameters as Python values; those without a value are left out."""
    found = {name: (value, value.WhichOneof("parameter_choice")) for name, value in parameters.items()}
    return {name: getattr(value, choice) for name, (value, choice) in found.items() if choice}


def _arrays(head: _Head, raw: Sequence[memoryview]) -> dict[str, Array]:
    if not raw:
        tensors = zip(head.message.inputs, head.inputs, strict=True)
        return {name: _from_contents(tensor, kind, shape) for tensor, (name, kind, shape) in tensors}
    if len(raw) != len(head.inputs):
        raise InputError(
            f"the request has {len(head.inputs)} inputs, but {len(raw)} `raw_input_contents`",
            hint="give the bytes of every input in `raw_input_contents`, or the elements of every one in `contents`",
        )
    if head.with_contents:
        raise InputError(
            f"tensor `{head.with_contents[0]}` has `contents`, and the request has `raw_input_contents` too",
            hint="give one of the two",
        )
    described = zip(raw, head.inputs, strict=True)
    return {name: decode_array(view, name, kind, shape) for view, (name, kind, shape) in described}


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
    for said in (answer.parameters, parameters or {}):
        for name, value in said.items():
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
