"""What every converter takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lamella.slicing.placement import Placement
from lamella.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Converted:
    """A trained model that has become an ONNX file.

    Attributes:
        path: The `.onnx` file.
        opset: Version of the default operator set that it uses.
        verified: Whether its answers were compared with the source's arithmetic.
        max_abs_diff: Largest absolute difference found, over all outputs and inputs tried; None if not verified.
        inputs: The model's inputs.
        outputs: The model's outputs.
        files: The files of weights it refers to, and how each came beside it.
        note: What the user should know about the result; None if nothing.
    """

    path: Path
    opset: int
    verified: bool
    max_abs_diff: float | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[Placement, ...]
    note: str | None = None


class Converter(Protocol):
    """One kind of source, such as a Hugging Face folder of a BERT-family encoder."""

    @property
    def describes(self) -> str:
        """What it converts, for the message that lists what is supported."""
        ...

    def accepts(self, source: str) -> bool:
        """Whether `source` looks like its kind of source; looks at names only."""
        ...

    def convert(self, source: str, output: Path, *, opset: int | None, verify: bool) -> Converted:
        """Write `output`, an `.onnx` file, from `source`.

        Args:
            source: What `accepts` said yes to.
            output: The file to write; replaced if it exists.
            opset: Version of the default operator set; None for the one that most runtimes take.
            verify: Compare the answers with the source's arithmetic before `output` appears.

        Raises:
            ConversionError: The source cannot be converted.
            MalformedModelError: A file of the source is damaged.
            VerificationError: The answers differ; nothing is left behind.
        """
        ...
