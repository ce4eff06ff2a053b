"""The reference: a plain `onnxruntime.InferenceSession` over the whole model, with nothing of Lamella in it."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from tests.conformance.cases import Item

_LACKING = ("bfloat16", "float8", "float4", "int4", "uint4", "int2", "uint2")
"""Element types that NumPy lacks; ONNX Runtime does not take or give arrays of them."""


@dataclass(frozen=True)
class RawTensor:
    """A tensor of a type that NumPy lacks: what its bytes are, packed as ONNX packs them."""

    data_type: int
    shape: tuple[int, ...]
    data: bytes


def plain_session(path: Path, custom_ops: Sequence[str] = ()) -> ort.InferenceSession:
    """The whole model, without graph optimisation, on one thread."""
    options = ort.SessionOptions()
    for library in custom_ops:
        options.register_custom_ops_library(library)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_whole(path: Path, feeds: Mapping[str, Item], custom_ops: Sequence[str] = ()) -> dict[str, Item]:
    """Outputs of the whole model, on inputs by name."""
    session = plain_session(path, custom_ops)
    outputs = session.get_outputs()
    names = [output.name for output in outputs]
    given = {name: _given(item) for name, item in feeds.items()}
    if not any(_is_lacking(output.type) for output in outputs):
        return dict(zip(names, session.run(names, given), strict=True))
    given = {k: v if isinstance(v, ort.OrtValue) else ort.OrtValue.ortvalue_from_numpy(v) for k, v in given.items()}
    return dict(zip(names, map(_taken, session.run_with_ort_values(names, given)), strict=True))


def _is_lacking(notation: str) -> bool:
    return notation.removeprefix("tensor(").startswith(_LACKING)


def _given(item: Item) -> Item:
    if not (isinstance(item, np.ndarray) and item.dtype.name.startswith(_LACKING)):
        return item
    tensor = numpy_helper.from_array(item)
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(item.shape), tensor.data_type)
    ctypes.memmove(value.data_ptr(), tensor.raw_data, len(tensor.raw_data))
    return value


def _taken(value: ort.OrtValue) -> Item:
    if not _is_lacking(value.data_type()):
        return value.numpy()
    shape = tuple(value.shape())
    kind = value.element_type()
    bits = 4 if kind in _FOUR_BITS else 2 if kind in _TWO_BITS else 16 if kind == onnx.TensorProto.BFLOAT16 else 8
    size = int(np.prod(shape)) * bits
    data = bytearray(ctypes.string_at(value.data_ptr(), (size + 7) // 8))
    if size % 8:
        data[-1] &= (1 << size % 8) - 1  # what is left of the last byte belongs to no element
    return RawTensor(kind, shape, bytes(data))


_FOUR_BITS = {onnx.TensorProto.UINT4, onnx.TensorProto.INT4, onnx.TensorProto.FLOAT4E2M1}
_TWO_BITS = {onnx.TensorProto.UINT2, onnx.TensorProto.INT2}


def same(expected: Item, actual: Item) -> bool:
    """Whether two results are equal to the last bit, structure, types and shapes included; any NaN equals any NaN."""
    if isinstance(expected, RawTensor):
        return expected == (_raw(actual) if isinstance(actual, np.ndarray) else actual)
    if isinstance(expected, list):
        return (
            isinstance(actual, list)
            and len(expected) == len(actual)
            and all(same(left, right) for left, right in zip(expected, actual, strict=True))
        )
    if isinstance(expected, dict):
        return (
            isinstance(actual, dict)
            and expected.keys() == actual.keys()
            and all(same(expected[key], actual[key]) for key in expected)
        )
    if isinstance(expected, np.ndarray):
        return isinstance(actual, np.ndarray) and _same_array(expected, actual)
    return type(expected) is type(actual) and bool(expected == actual or (expected is not None and np.isnan(expected)))


def _raw(array: np.ndarray) -> RawTensor:
    tensor = numpy_helper.from_array(array)
    return RawTensor(tensor.data_type, tuple(tensor.dims), tensor.raw_data)


def _same_array(expected: np.ndarray, actual: np.ndarray) -> bool:
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return False
    if expected.dtype.kind in "fc":
        number = f"u{expected.real.dtype.itemsize}"
        bits = [np.ascontiguousarray(side).view(expected.real.dtype).view(number) for side in (expected, actual)]
        nans = [np.isnan(np.ascontiguousarray(side).view(expected.real.dtype)) for side in (expected, actual)]
        return bool(np.all((bits[0] == bits[1]) | (nans[0] & nans[1])))
    return bool(np.array_equal(expected, actual))
