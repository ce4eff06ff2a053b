"""A structure as ONNX Runtime loads it from memory."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lamella.graph.model import Model
from lamella.graph.pieces import read_pieces
from lamella.graph.protobuf import encode_len
from lamella.graph.references import Range, encode_external
from lamella.graph.rewrite import rewrite_bytes
from lamella.graph.schema import Kind, Tensor
from lamella.graph.stored import StoredTensor
from lamella.graph.weights import reference_of

_FIELDS = {
    None: Tensor.RAW_DATA,
    "int32_data": Tensor.INT32_DATA,
    "int64_data": Tensor.INT64_DATA,
    "uint64_data": Tensor.UINT64_DATA,
}


def loadable(model: Model, data: bytes) -> tuple[bytes, Path]:
    """`data`, a structure, with references that ONNX Runtime follows, and the folder that they start from.

    It refuses links that leave the folder, and in the Hugging Face cache every file is such a link: the folder is one
    that truly holds all files. It does not read varints or bytes in pieces from elsewhere, and refuses the weights of
    bodies in a file with several hard links: those are read and put back, at the cost of their memory.
    """
    folder = Path(os.path.realpath(model.path.parent))
    moved = any(file.path != folder / file.location for file in model.files.values())
    if moved:
        folder = Path(os.path.commonpath([file.path.parent for file in model.files.values()]))
    put_back = _to_put_back(model)
    if not (moved or put_back):
        return data, folder
    names = {file.location: str(file.path.relative_to(folder)) for file in model.files.values()}

    def settle(tensor: StoredTensor) -> bytes | None:
        if tensor.external is None:
            return None
        place = reference_of(tensor.external)
        if place in put_back:
            return encode_len(_FIELDS[place.coding], _read(model, place))
        return encode_external(replace(place, location=names[place.location]))

    return rewrite_bytes(data, Kind.MODEL, settle), folder


def _to_put_back(model: Model) -> set[Range]:
    other = {weight.range for weight in model.weights if weight.range is not None and not weight.range.is_plain}
    inner = {weight.range for weight in model.inner_weights if weight.range is not None}
    linked = {place for place in inner if model.files[place.location].path.stat().st_nlink > 1}
    return other | linked


def _read(model: Model, place: Range) -> bytes:
    with model.files[place.location].path.open("rb") as file:
        if place.piece:
            return b"".join(read_pieces(file.fileno(), place))
        return os.pread(file.fileno(), place.length, place.offset)
