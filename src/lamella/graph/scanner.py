"""The scanner: from a model file of any size to its structure, with every weight left where it is.

The *structure* is the same ModelProto with each payload above `INLINE_BYTES` replaced by a reference (location,
offset, length), also where the payload sits inside the `.onnx` file itself. It is what planning and slicing work on,
and it is small: 0.1 to 2 MB for models of 100 MB to 5 GB.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lamella.graph.files import DataFile, DataFiles, open_model, read_range
from lamella.graph.payloads import wrong_size
from lamella.graph.references import Range, encode_external
from lamella.graph.rewrite import rewrite
from lamella.graph.schema import Kind
from lamella.graph.source import FileSource
from lamella.graph.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class Structure:
    """A model without its weights.

    Attributes:
        data: A serialised ModelProto whose large payloads are references.
        files: The files that references point into, by location. The model's own file is always among them.
    """

    data: bytes
    files: dict[str, DataFile]


def scan(path: Path) -> Structure:
    """Read the structure of a model. Reads what is not a weight, in small pieces; memory does not grow with weights.

    Raises:
        ModelError: The file cannot be read.
        MalformedModelError: The protobuf or a reference in it is broken.
        UnsafeModelError: External data leaves the model's folder.
        UnsupportedModelError: The file is in another format.
    """
    descriptor, model = open_model(path)
    try:
        references = _References(path, model)
        data = rewrite(FileSource(descriptor, model.size), Kind.MODEL, 0, model.size, references.replace)
    finally:
        os.close(descriptor)
    return Structure(data, references.files)


class _References:
    """Turns each tensor's payload into a checked reference."""

    def __init__(self, path: Path, model: DataFile) -> None:
        self.files = {model.location: model}
        self._model = model
        self._resolver = DataFiles(path, model)

    def replace(self, tensor: StoredTensor) -> bytes | None:
        if tensor.external is not None:
            return self._external(tensor, tensor.external)
        place = tensor.payload_in_place()
        if place is None:
            return None
        offset, length, coding = place
        if coding is None and length != tensor.nbytes:
            raise wrong_size(tensor, length)
        return encode_external(Range(self._model.location, offset, length, coding))

    def _external(self, tensor: StoredTensor, entries: dict[str, str]) -> bytes:
        file = self._resolver.resolve(entries.get("location", ""), tensor.label)
        self.files[file.location] = file
        offset, length = read_range(entries, tensor.nbytes, file, tensor.label)
        return encode_external(Range(file.location, offset, length))
