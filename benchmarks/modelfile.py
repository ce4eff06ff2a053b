"""ONNX files with random weights, written straight to disk: no weight is ever held whole in memory.

A model is described by its graph without initializers, and by a list of `Weight`. The file has the layout that
protobuf gives a `ModelProto`: one graph field, whose initializers stand between its nodes and its inputs.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict

import numpy as np
import numpy.typing as npt
import onnx

BLOCK_ELEMENTS = 1 << 18
ALIGNMENT_BYTES = 4096  # of each tensor in a data file, as exporters do for memory mapping

# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto: field numbers of what is written by hand
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA = 7, 5, 9


@dataclass(frozen=True)
class Weight:
    """One initializer: given values, or float32 drawn from a normal distribution.

    Attributes:
        name: Name of the initializer.
        shape: Its shape.
        scale: Standard deviation of the random values.
        mean: Their mean.
        values: The values themselves, for what must not be random (shapes, indices, masks).
    """

    name: str
    shape: tuple[int, ...]
    scale: float = 0.02
    mean: float = 0.0
    values: npt.NDArray[np.generic] | None = None

    @property
    def nbytes(self) -> int:
        """Size of the raw data in bytes."""
        return self.values.nbytes if self.values is not None else 4 * math.prod(self.shape)

    @property
    def onnx_type(self) -> int:
        """`TensorProto.DataType` of the values."""
        dtype = np.dtype(np.float32) if self.values is None else self.values.dtype
        return int(onnx.helper.np_dtype_to_tensor_dtype(dtype))

    def blocks(self, seed: int) -> Iterator[bytes]:
        """The raw little-endian bytes, a block at a time; the same for the same seed and name."""
        if self.values is not None:
            yield np.ascontiguousarray(self.values).tobytes()
            return
        random = np.random.Generator(np.random.SFC64([seed, zlib.crc32(self.name.encode())]))
        left = math.prod(self.shape)
        while left:
            block = random.standard_normal(min(left, BLOCK_ELEMENTS), dtype=np.float32)
            block *= np.float32(self.scale)
            block += np.float32(self.mean)
            left -= block.size
            yield block.tobytes()


class Written(TypedDict):
    """What a file came to: its name, size and SHA-256."""

    file: str
    size_bytes: int
    sha256: str


class _HashingFile:
    """A file being written, with its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.position = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.position += len(data)

    def written(self, name: str) -> Written:
        return {"file": name, "size_bytes": self.position, "sha256": self._digest.hexdigest()}


def write_inline(model: onnx.ModelProto, weights: list[Weight], path: Path, *, seed: int) -> list[Written]:
    """Write a model with its weights as `raw_data` in the one `.onnx` file."""
    heads = [_tensor_head(weight) for weight in weights]
    entries = [
        _length_prefix(_GRAPH_INITIALIZER, len(head) + weight.nbytes) + head
        for weight, head in zip(weights, heads, strict=True)
    ]
    before, after = _graph_parts(model.graph)
    body = len(before) + len(after) + sum(len(e) + w.nbytes for e, w in zip(entries, weights, strict=True))
    with path.open("wb") as raw:
        file = _HashingFile(raw)
        file.write(_model_without_graph(model) + _length_prefix(_MODEL_GRAPH, body) + before)
        for entry, weight in zip(entries, weights, strict=True):
            file.write(entry)
            for block in weight.blocks(seed):
                file.write(block)
        file.write(after)
        return [file.written(path.name)]


def write_external(model: onnx.ModelProto, weights: list[Weight], path: Path, *, seed: int) -> list[Written]:
    """Write a model whose weights of a kilobyte and more stand in `PATH.data` beside it."""
    data_path = path.with_name(path.name + ".data")
    complete = onnx.ModelProto()
    complete.CopyFrom(model)
    with data_path.open("wb") as raw:
        data = _HashingFile(raw)
        for weight in weights:
            complete.graph.initializer.append(_external_tensor(weight, data, data_path.name, seed))
        written = [data.written(data_path.name)]
    with path.open("wb") as raw:
        file = _HashingFile(raw)
        file.write(complete.SerializeToString())
        return [file.written(path.name), *written]


def _external_tensor(weight: Weight, data: _HashingFile, location: str, seed: int) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=weight.name, dims=weight.shape, data_type=weight.onnx_type)
    if weight.nbytes < 1024:
        tensor.raw_data = b"".join(weight.blocks(seed))
        return tensor
    data.write(bytes(-data.position % ALIGNMENT_BYTES))
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", data.position), ("length", weight.nbytes)):
        tensor.external_data.add(key=key, value=str(value))
    for block in weight.blocks(seed):
        data.write(block)
    return tensor


def _tensor_head(weight: Weight) -> bytes:
    """A serialised `TensorProto` up to where its raw bytes begin."""
    tensor = onnx.TensorProto(name=weight.name, dims=weight.shape, data_type=weight.onnx_type)
    return bytes(tensor.SerializeToString()) + _length_prefix(_TENSOR_RAW_DATA, weight.nbytes)


def _graph_parts(graph: onnx.GraphProto) -> tuple[bytes, bytes]:
    """The serialised graph, in the parts that stand before and after the initializers."""
    before = onnx.GraphProto(name=graph.name, node=graph.node)
    after = onnx.GraphProto(input=graph.input, output=graph.output, value_info=graph.value_info)
    return before.SerializeToString(), after.SerializeToString()


def _model_without_graph(model: onnx.ModelProto) -> bytes:
    head = onnx.ModelProto(
        ir_version=model.ir_version, producer_name=model.producer_name, opset_import=model.opset_import
    )
    return bytes(head.SerializeToString())


def _length_prefix(field: int, length: int) -> bytes:
    """Tag and length of a length-delimited field (wire type 2)."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
