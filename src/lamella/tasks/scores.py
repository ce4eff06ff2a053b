"""Logits to probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


def softmax(logits: Floats) -> Floats:
    """Softmax over the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found: Floats = powers / powers.sum(axis=-1, keepdims=True)
    return found


def sigmoid(logits: Floats) -> Floats:
    """The logistic function, without overflow."""
    powers = np.exp(-np.abs(logits))
    found: Floats = np.where(logits >= 0, 1, powers) / (1 + powers)
    return found


def are_probabilities(values: Floats) -> npt.NDArray[np.bool_]:
    """For each row, whether it holds probabilities: none below 0, and a sum of 1."""
    found: npt.NDArray[np.bool_] = (values >= 0).all(axis=-1) & (np.abs(values.sum(axis=-1) - 1) < 1e-3)
    return found
