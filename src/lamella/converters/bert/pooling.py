"""What a sentence-transformers folder adds to the encoder: pooling over the tokens, and normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lamella.converters.huggingface import part_of
from lamella.errors import ConversionError, MalformedModelError
from lamella.json_files import read_object, read_objects

Mode = Literal["cls", "max", "mean", "mean_sqrt_len"]

# In the order in which sentence-transformers joins them.
_FLAGS: dict[str, Mode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
}
_MODES: dict[str, Mode] = {
    "cls": "cls",
    "max": "max",
    "mean": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}


@dataclass(frozen=True, slots=True)
class Sentences:
    """How a sentence's embedding comes out of its tokens'.

    Attributes:
        folder: Where the encoder itself is.
        modes: Poolings, joined along the last axis; empty where the folder gives tokens only.
        normalized: Whether the result is scaled to length 1.
    """

    folder: Path
    modes: tuple[Mode, ...]
    normalized: bool


def read_sentences(folder: Path) -> Sentences:
    """Read `modules.json` and what it names; a folder without it is an encoder alone.

    Raises:
        ConversionError: A module or a pooling is not supported.
        MalformedModelError: A file is damaged.
    """
    if not (folder / "modules.json").exists():
        return Sentences(folder, (), normalized=False)
    modules = [(str(entry.get("type")).rpartition(".")[2], entry) for entry in read_objects(folder / "modules.json")]
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ConversionError(
            f"`modules.json` chains {', '.join(kinds)[:200] or 'nothing'}; only Transformer, Pooling, Normalize "
            "in this order are converted",
            hint="remove `modules.json` from a copy of the folder to convert the encoder alone",
        )
    paths = [part_of(folder, str(entry.get("path", ""))) for _, entry in modules[:2]]
    return Sentences(
        folder=paths[0],
        modes=_modes(read_object(paths[1] / "config.json")) if len(paths) > 1 else (),
        normalized="Normalize" in kinds,
    )


def _modes(config: Mapping[str, object]) -> tuple[Mode, ...]:
    named = config.get("pooling_mode")
    if isinstance(named, str):
        wanted = [named]
    elif isinstance(named, list):
        wanted = [str(name) for name in named]
    else:
        wanted = [name for name, on in config.items() if name.startswith("pooling_mode_") and on is True]
    known = {**_FLAGS, **_MODES}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConversionError(
            f"the pooling `{unknown[0][:60]}` is not supported", hint=f"supported are: {', '.join(_MODES)}"
        )
    if not wanted:
        raise MalformedModelError("the pooling's `config.json` turns no pooling on", hint="download the model again")
    order = tuple(_FLAGS.values())
    return tuple(sorted({known[name] for name in wanted}, key=order.index))
