"""From a stored tensor to a Weight."""

from __future__ import annotations

from lamella.graph.model import Range, Weight
from lamella.graph.stored import StoredTensor


def weight_of(tensor: StoredTensor) -> Weight:
    """The weight that a tensor in the structure describes; its reference was checked when it was scanned."""
    place = None
    if tensor.external is not None:
        entries = tensor.external
        place = Range(entries["location"], int(entries["offset"]), int(entries["length"]), entries.get("coding"))
    return Weight(tensor.name, tensor.data_type, tuple(tensor.dims), tensor.nbytes, place)
