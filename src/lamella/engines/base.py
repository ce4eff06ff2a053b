"""What an engine is: it loads a model and infers. Nothing else here knows which one is at work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from lamella.errors import UsageError
from lamella.tensors import Array, TensorSpec

Optimization = Literal["none", "basic", "extended", "all"]
Precision = Literal["f32", "bf16", "f16"]

Item = object
"""A tensor in the engine's own memory, an array, or a Python list or dict where ONNX has sequences and maps."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How to load and run.

    Attributes:
        threads: Threads for one operator; from the CPU share, never from the host's count.
        optimization: Graph optimisations to apply when loading.
        low_memory: Leave weights in the page cache instead of copying them into the kernels' layout, and give memory
            back after each run: about 15 to 20 % slower once warm.
        spin: Let threads spin between runs, too, and not only during one: it makes a session alone in its process a
            little faster, and every other one much slower.
        custom_ops: Shared libraries with custom operators to register.
        execution_providers: ONNX Runtime's execution providers, the most wanted first, as `lamella.engines.providers`
            reads them: `cuda`, `tensorrt:trt_fp16_enable=1`. Without any, the CPU's.
        fallback: Whether the CPU may run what these cannot. Where it does so for a whole provider, a `LamellaWarning`
            says it; where it may not, that is an error.
        precision: What OpenVINO computes FP32 in; ONNX Runtime and OpenCV compute in the model's own.
    """

    threads: int = 1
    optimization: Optimization = "all"
    low_memory: bool = False
    spin: bool = False
    custom_ops: tuple[Path, ...] = ()
    execution_providers: tuple[str, ...] = ()
    fallback: bool = True
    precision: Precision = "f32"


def check_precision(options: EngineOptions, engine: str) -> None:
    """Refuse a precision, for an engine that computes in the model's own.

    Raises:
        UsageError: One is wanted.
    """
    if options.precision != "f32":
        raise UsageError(
            f"{engine} computes in the model's own precision, and not in {options.precision}",
            hint="use OpenVINO: `--engine openvino`, or convert the model's weights",
        )


@dataclass(frozen=True, slots=True)
class Initializer:
    """A weight in memory, as its model's file would hold it.

    Attributes:
        datatype: Name of its datatype, as in `lamella.tensors.DATATYPES`: that of the model, of at least 8 bits.
        shape: Its dimensions, those of the model.
        data: Its elements, little-endian; at any address.
    """

    datatype: str
    shape: tuple[int, ...]
    data: memoryview


class Session(Protocol):
    """A loaded model."""

    @property
    def inputs(self) -> Sequence[TensorSpec]:
        """What it takes."""
        ...

    @property
    def outputs(self) -> Sequence[TensorSpec]:
        """What it gives."""
        ...

    def infer(self, feeds: Mapping[str, Item]) -> dict[str, Item]:
        """Run once. Items come as given by `infer` of another session of this engine, or as arrays."""
        ...

    def close(self) -> None:
        """Release the model's memory; the session cannot be used afterwards."""
        ...


class Engine(Protocol):
    """Loads models."""

    def load(
        self,
        model: Path | bytes,
        options: EngineOptions,
        *,
        folder: Path | None = None,
        initializers: Mapping[str, Initializer] | None = None,
    ) -> Session:
        """Load a model from a file, or from bytes whose external data lies in `folder`.

        Args:
            model: The file, or its bytes.
            options: How to load and run.
            folder: Where references in bytes start from.
            initializers: Values of initializers with external data, by name. The files that these refer to must have
                their length and need not hold them. What the session needs of the memory it keeps.
        """
        ...

    def describe(self, model: Path) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
        """What the model in a file takes and gives, without the cost of making it ready to run."""
        ...

    def to_array(self, item: Item) -> Array:
        """A tensor out of the engine as a NumPy array, which owns or keeps its memory."""
        ...
