"""From a stored tensor of a structure to a Weight."""

from __future__ import annotations

from math import prod

from lamella.graph.model import Weight
from lamella.graph.references import Range, read_plain_reference
from lamella.graph.source import MemorySource
from lamella.graph.stored import StoredTensor, read_stored_tensor
from lamella.tensors import datatype


def read_weight(source: MemorySource, start: int, end: int) -> Weight:
    """Read a TensorProto of a structure.

    Raises:
        MalformedModelError: Its fields contradict each other.
    """
    plain = read_plain_reference(source.data[start:end])
    if plain is None:
        return weight_of(read_stored_tensor(source, start, end))
    name, kind, dims, place = plain
    return Weight(name, kind, tuple(dims), datatype(kind).size_bytes(prod(dims)), place)


def weight_of(tensor: StoredTensor) -> Weight:
    """The weight that a tensor in the structure describes; its reference was checked when it was scanned."""
    place = None
    if tensor.external is not None:
        place = reference_of(tensor.external)
    return Weight(tensor.name, tensor.data_type, tuple(tensor.dims), tensor.nbytes, place)


def reference_of(entries: dict[str, str]) -> Range:
    """The range that external data entries in a structure name; they were checked when the model was scanned."""
    offset, length, piece, stride = (int(entries.get(key, "0")) for key in ("offset", "length", "piece", "stride"))
    return Range(entries["location"], offset, length, entries.get("coding"), piece, stride)
