"""From a stored tensor of a structure to a Weight."""

from __future__ import annotations

from lamella.graph.model import Weight
from lamella.graph.references import Range
from lamella.graph.stored import StoredTensor


def weight_of(tensor: StoredTensor) -> Weight:
    """The weight that a tensor in the structure describes; its reference was checked when it was scanned."""
    place = None
    if tensor.external is not None:
        place = reference_of(tensor.external)
    return Weight(tensor.name, tensor.data_type, tuple(tensor.dims), tensor.nbytes, place)


def reference_of(entries: dict[str, str]) -> Range:
    """The range that external data entries in a structure name; they were checked when the model was scanned."""
    return Range(entries["location"], int(entries["offset"]), int(entries["length"]), entries.get("coding"))
