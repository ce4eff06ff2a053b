"""Vectors of tokens to one vector, as sentence-transformers does it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lamella.errors import TaskError
from lamella.tasks.files import ModelFiles

Floats = npt.NDArray[np.floating]
Pooling = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
"""The names of sentence-transformers, in the order in which it joins them."""

# As sentence-transformers has them.
_SMALLEST_COUNT, _SMALLEST_NORM = 1e-9, 1e-12
_FLAGS: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def pool(states: Floats, counts: npt.NDArray[np.intp], modes: tuple[Pooling, ...]) -> Floats:
    """One vector a row.

    Args:
        states: `[rows, tokens, width]`.
        counts: How many tokens of each row are no padding; those come first.
        modes: Ways of pooling; the vectors of several are joined.
    """
    return np.concatenate([_pooled(states, counts, mode) for mode in modes], axis=-1)


def _pooled(states: Floats, counts: npt.NDArray[np.intp], mode: Pooling) -> Floats:
    mask = (np.arange(states.shape[1]) < counts[:, None])[..., None]
    match mode:
        case "cls":
            return states[:, 0]
        case "lasttoken":
            return states[np.arange(len(states)), counts - 1]
        case "max":
            found: Floats = np.where(mask, states, states.dtype.type(-1e9)).max(axis=1)
            return found
    weights = mask.astype(states.dtype)
    if mode == "weightedmean":
        weights = weights * np.arange(1, states.shape[1] + 1, dtype=states.dtype)[:, None]
    total, count = (states * weights).sum(axis=1), np.maximum(weights.sum(axis=1), _SMALLEST_COUNT)
    mean: Floats = total / (np.sqrt(count) if mode == "mean_sqrt_len_tokens" else count)
    return mean


def normalized(vectors: Floats) -> Floats:
    """Vectors of length 1."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    found: Floats = vectors / np.maximum(lengths, _SMALLEST_NORM)
    return found


def pooling_beside(beside: ModelFiles) -> tuple[tuple[Pooling, ...] | None, bool]:
    """What a sentence-transformers folder says: the pooling, None where it says none, and whether to normalise.

    Raises:
        TaskError: It asks for a pooling that is not supported.
        MalformedModelError: A file is damaged.
    """
    kinds = [str(module.get("type")).rpartition(".")[2] for module in beside.read_list("modules.json")]
    config = beside.read("1_Pooling/config.json")
    if not config:
        return None, "Normalize" in kinds
    named = config.get("pooling_mode")
    if named is None:
        named = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    wanted = [_FLAGS.get(str(name), str(name)) for name in ([named] if isinstance(named, str) else _listed(named))]
    known = get_args(Pooling)
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise TaskError(
            f"`1_Pooling/config.json` asks for the pooling `{unknown[0] if unknown else 'none'}`",
            hint=f"set `pooling` to one of {', '.join(known)}",
        )
    return tuple(mode for mode in known if mode in wanted), "Normalize" in kinds


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
