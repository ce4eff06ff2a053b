"""The encoder's weights by the names that the code uses, whatever the checkpoint calls them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lamella.converters.safetensors import StoredTensor
from lamella.errors import ConversionError

_ANCHOR = "embeddings.word_embeddings.weight"
# Checkpoints that began as TensorFlow's keep its names; transformers renames them on loading too.
_OLD_NAMES = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
_FLOATS = ("FP32", "FP16", "BF16")


@dataclass(frozen=True, slots=True)
class Weights:
    """Stored tensors, found by name and checked.

    Attributes:
        stored: All tensors of the checkpoint.
        prefix: What stands before the encoder's own names: nothing, or `bert.` and the like.
    """

    stored: Mapping[str, StoredTensor]
    prefix: str

    def find(self, name: str, shape: tuple[int | None, ...]) -> StoredTensor:
        """Look a weight up and check its shape and datatype.

        Args:
            name: Its name; below the encoder's prefix where it starts with a dot.
            shape: The sizes it must have; None where any will do.

        Raises:
            ConversionError: There is none, its shape is another, or it is no float.
        """
        full = self.prefix + name[1:] if name.startswith(".") else name
        found = self.stored.get(full) or self.stored.get(_old_name(full))
        if found is None:
            raise ConversionError(
                f"the weights have no tensor `{full}`", hint="check that `config.json` and the weights belong together"
            )
        if len(found.shape) != len(shape) or any(w not in (None, h) for w, h in zip(shape, found.shape, strict=True)):
            wanted = [("any" if size is None else size) for size in shape]
            raise ConversionError(
                f"tensor `{full}` has the shape {list(found.shape)}, and `config.json` wants {wanted}",
                hint="check that `config.json` and the weights belong together",
            )
        if found.length == 0:
            raise ConversionError(
                f"tensor `{full}` is empty: its shape is {list(found.shape)}", hint="give a model that was trained"
            )
        if found.datatype.name not in _FLOATS:
            raise ConversionError(
                f"tensor `{full}` is {found.datatype.name}; only {', '.join(_FLOATS)} are converted",
                hint="save the model unquantised first",
            )
        return found


def locate(stored: Mapping[str, StoredTensor]) -> Weights:
    """Find the encoder among the tensors, by its table of word embeddings.

    Raises:
        ConversionError: There is none, or more than one.
    """
    found = [name for name in stored if name == _ANCHOR or name.endswith(f".{_ANCHOR}")]
    if len(found) != 1:
        listed = f": {', '.join(found[:3])}" if found else ""
        raise ConversionError(
            f"the weights have {len(found)} tensors named `{_ANCHOR}`, not one{listed}",
            hint="give the folder of a single BERT-family encoder",
        )
    return Weights(stored, found[0].removesuffix(_ANCHOR))


def _old_name(name: str) -> str:
    for suffix, old in _OLD_NAMES.items():
        if name.endswith(suffix):
            return name.removesuffix(suffix) + old
    return name
