"""Requests and answers of the Open Inference Protocol v2, as JSON and with binary tensors, without a transport.

https://github.com/kserve/open-inference-protocol and Triton's binary tensor data extension.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamella.errors import InputError, UnsupportedModelError
from lamella.tensors import Array, Tensors, TensorSpec, datatype_of
from lamella.wire import buffer_of, decode_entries, entries_of, entry_of, header_of

HEADER_LENGTH = "Inference-Header-Content-Length"
_MOST_COUNT = (1 << 63) - 1
"""Of microseconds and of priorities, as the protocol's 64 bits have them."""

_JSON = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":"))


@dataclass(frozen=True)
class InferRequest:
    """What a client asks.

    Attributes:
        request_id: Its name for the request, any text; None where it gave none.
        inputs: The arrays that it gave; views of the body where they came as bytes.
        outputs: Names of the outputs that it wants; empty: all.
        binary: Of these outputs, which it wants as bytes; None: all of them, or none, as `all_binary` says.
        all_binary: Whether it wants every output as bytes.
        slice: The one slice to run; None: all.
        wants_timeline: Whether it wants to know what each slice did.
        by_reference: Whether outputs that lie in a store may stay there.
        priority: 1 goes first, then 2, and so on; 0 goes as most requests do.
        timeout_us: Microseconds after which nobody waits for the answer any more; None: no such limit.
        size_bytes: Of the body, which may be more than that of the arrays, and is kept as long as they are.
    """

    request_id: str | None
    inputs: Mapping[str, Array]
    outputs: tuple[str, ...]
    binary: Mapping[str, bool]
    all_binary: bool
    slice: int | None
    wants_timeline: bool
    by_reference: bool = False
    priority: int = 0
    timeout_us: int | None = None
    size_bytes: int = 0


@dataclass(frozen=True)
class Response:
    """A body, and the length of the header in front of binary tensors; None where there are none."""

    body: bytes
    header_length: int | None


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read the body of an infer request.

    Args:
        body: JSON, or JSON and the tensors' bytes behind it.
        header_length: The value of `HEADER_LENGTH`, where the request has it.

    Raises:
        InputError: It does not follow the protocol.
    """
    end = _header_end(body, header_length)
    view = memoryview(body)
    header = header_of(view[:end])
    inputs = decode_entries(entries_of(header), view[end:])
    parameters = _object(header.get("parameters"), "parameters")
    _check_flag(parameters, "binary_data_output")
    wanted = [] if header.get("outputs") is None else header["outputs"]
    if not isinstance(wanted, list) or not all(isinstance(o, dict) and isinstance(o.get("name"), str) for o in wanted):
        raise InputError("`outputs` is no list of objects with a `name`", hint="see the Open Inference Protocol")
    asked = {entry["name"]: _object(entry.get("parameters"), "parameters") for entry in wanted}
    request_id = header.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise InputError("`id` is no text", hint="leave it out, or give a string")
    all_binary = parameters.get("binary_data_output") is True
    return request_of(request_id, inputs, asked, parameters, all_binary=all_binary, size_bytes=len(body))


def request_of(
    request_id: str | None,
    inputs: Mapping[str, Array],
    outputs: Mapping[str, Mapping[str, object]],
    parameters: Mapping[str, object],
    *,
    all_binary: bool,
    size_bytes: int = 0,
) -> InferRequest:
    """A request out of its parts, however they came.

    Args:
        request_id: The client's name for it, where it gave one.
        inputs: The arrays that it gave.
        outputs: The outputs that it wants, each with its parameters; empty: all.
        parameters: Those of the request.
        all_binary: Whether it wants every output as bytes.
        size_bytes: Of what it came in.

    Raises:
        InputError: A parameter makes no sense, or is of an extension that is not here.
    """
    _refuse_extensions(outputs.values())
    binary = {name: its["binary_data"] is True for name, its in outputs.items() if "binary_data" in its}
    part = parameters.get("slice")
    if part is not None and (not isinstance(part, int) or isinstance(part, bool)):
        raise InputError("the parameter `slice` is no number", hint="give the index of a slice")
    return InferRequest(
        request_id or None,
        inputs,
        tuple(outputs),
        binary,
        all_binary,
        part,
        parameters.get("timeline") is True,
        parameters.get("references") is True,
        _count(parameters, "priority") or 0,
        _count(parameters, "timeout") or None,
        size_bytes,
    )


def _count(parameters: Mapping[str, Any], name: str) -> int | None:
    found = parameters.get(name)
    if found is None:
        return None
    if isinstance(found, float) and found.is_integer():  # JSON knows one kind of number only
        found = int(found)
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _MOST_COUNT:
        raise InputError(
            f"the parameter `{name}` is no count: {found!r:.40}", hint="give a whole number of 63 bits, from 0 on"
        )
    return found


def _check_flag(parameters: Mapping[str, Any], name: str) -> None:
    """To take `"true"` for false would be an answer that nobody asked for."""
    found = parameters.get(name)
    if not (found is None or isinstance(found, bool)):
        raise InputError(f"the parameter `{name}` is neither true nor false: {found!r:.40}", hint="give one of them")


def _refuse_extensions(parameters: Collection[Mapping[str, Any]]) -> None:
    """These of Triton's extensions change what an output is: to leave them out of account would be a wrong answer."""
    for its in parameters:
        _check_flag(its, "binary_data")
    for name in ("classification", "shared_memory_region"):
        if any(name in its for its in parameters):
            raise InputError(
                f"the parameter `{name}` is of an extension that this server lacks",
                hint="`GET /v2` lists those that it has",
            )


def _header_end(body: bytes, header_length: str | None) -> int:
    if header_length is None:
        return len(body)
    end = int(header_length) if re.fullmatch("[0-9]{1,18}", header_length) else -1
    if not 0 <= end <= len(body):
        raise InputError(
            f"`{HEADER_LENGTH}: {header_length}` does not fit a body of {len(body)} bytes",
            hint="give the bytes of the JSON in front of the tensors",
        )
    return end


def _object(value: object, name: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InputError(f"`{name}` is no object", hint="see the Open Inference Protocol")
    return value


def write_response(
    request: InferRequest,
    outputs: Tensors,
    *,
    model: str,
    version: str,
    request_id: str,
    parameters: Mapping[str, object] | None = None,
) -> Response:
    """The body of an answer, in the form that was asked for.

    Args:
        request: What was asked.
        outputs: An array for each output of the model.
        model: The model's name.
        version: Which version of it answered.
        request_id: The request's name.
        parameters: What is said beside the outputs.

    Raises:
        InputError: An output was asked for that there is not.
        UnsupportedModelError: An output is no tensor.
    """
    entries: list[dict[str, object]] = []
    buffers: list[bytes | memoryview] = []
    for name, array in chosen(request, outputs).items():
        if request.binary.get(name, request.all_binary):
            buffer = buffer_of(array, name)
            entries.append(entry_of(array, name, len(buffer)))
            buffers.append(buffer)
        else:
            entries.append(json_entry(name, array))
    content: dict[str, object] = {
        "model_name": model,
        "model_version": version,
        "id": request.request_id or request_id,
        "outputs": entries,
    }
    if parameters:
        content["parameters"] = dict(parameters)
    header = _JSON.encode(content).encode()
    if not buffers:
        return Response(header, None)
    return Response(b"".join((header, *buffers)), len(header))


def chosen(request: InferRequest, outputs: Tensors) -> Tensors:
    """Of a model's outputs those that a request wants, in its order.

    Raises:
        InputError: An output was asked for that there is not.
        UnsupportedModelError: One is no tensor.
    """
    for name in request.outputs:
        if name not in outputs:
            raise InputError(
                f"the model has no output `{name}`", hint=f"the outputs are {', '.join(map(repr, outputs))}"
            )
    wanted = {name: outputs[name] for name in request.outputs} if request.outputs else outputs
    for name, array in wanted.items():
        if not isinstance(array, np.ndarray):
            raise UnsupportedModelError(
                f"output `{name}` is a {type(array).__name__}, which is no tensor",
                hint="ask for other outputs by their names: `outputs` in the request",
            )
    return wanted


def json_entry(name: str, array: Array) -> dict[str, object]:
    """A tensor whose elements stand in the JSON; numbers that JSON lacks are the texts `NaN` and so on."""
    kind = datatype_of(array)
    plain = array if array.dtype.kind in "biufO" else array.astype(np.float32)  # a type that NumPy lacks
    data = [_json_value(item) for item in plain.ravel().tolist()]
    return {"name": name, "datatype": kind.name, "shape": list(array.shape), "data": data}


def _json_value(item: object) -> object:
    """What JSON can hold: numbers that it lacks as the texts `NaN`, `Infinity` and `-Infinity`."""
    if isinstance(item, float) and not math.isfinite(item):
        return "NaN" if math.isnan(item) else "Infinity" if item > 0 else "-Infinity"
    return item.decode("utf-8", "backslashreplace") if isinstance(item, bytes) else item


def metadata(
    model: str,
    versions: Sequence[str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    *,
    platform: str = "onnx_slices",
) -> dict[str, object]:
    """What the protocol tells of a model."""
    return {
        "name": model,
        "versions": list(versions),
        "platform": platform,
        "inputs": _specs(inputs),
        "outputs": _specs(outputs),
    }


def _specs(specs: Sequence[TensorSpec]) -> list[dict[str, object]]:
    return [
        {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": [dim if isinstance(dim, int) else -1 for dim in spec.shape or ()],
        }
        for spec in specs
    ]
