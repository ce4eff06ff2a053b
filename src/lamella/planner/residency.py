"""How much memory weights take in the engine: not the same for all operators.

ONNX Runtime copies the weights of a convolution into a layout of its own beside the mapped file. It packs those of a
matrix product too, but lets the file's pages go. Of a table from which rows are picked, only those pages are read.
"""

from __future__ import annotations

from collections.abc import Mapping

from lamella.graph.model import Model
from lamella.planner.work import tables

COPIED = 1.74
"""Resident bytes of convolution weights for each of other weights: fitted to 35 functions of 9 models, with `TABLE`."""

TABLE = 0.53
"""Likewise of a table that rows are picked from."""

_COPYING = {"Conv", "ConvTranspose", "FusedConv"}


def held_shares(model: Model) -> dict[str, float]:
    """For each initializer that takes more or less memory than its bytes: how many times as much."""
    shares = dict.fromkeys(tables(model), TABLE)
    for node in model.graph.nodes:
        if node.op[1] in _COPYING:
            shares.update((name, COPIED) for name in node.inputs[1:2] if name in model.graph.initializers)
    return shares


def held_bytes(sizes: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """Resident bytes of weights, given by name and size."""
    return sum(size * shares.get(name, 1.0) for name, size in sizes.items())


def model_held_bytes(model: Model) -> float:
    """Resident bytes of all weights of a model."""
    inside = model.weights_bytes - sum(weight.nbytes for weight in model.graph.initializers.values())
    sizes = {name: weight.nbytes for name, weight in model.graph.initializers.items()}
    return inside + held_bytes(sizes, held_shares(model))
