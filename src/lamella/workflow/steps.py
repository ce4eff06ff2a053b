"""What a chain runs: the slices of a model as functions, and which values each of them takes and makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lamella.errors import UnsupportedModelError
from lamella.runtime.function import FunctionConfig
from lamella.tensors import TensorSpec, datatype
from lamella.workflow.manifest import Manifest


@dataclass(frozen=True)
class Step:
    """One slice as a function.

    Attributes:
        slice: The slice's index.
        function: The function's name, as the invoker knows it.
        inputs: The values that it takes.
        optional_inputs: Weights that the caller may override.
        outputs: The values that it makes.
    """

    slice: int
    function: str
    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the values that it takes."""
        return tuple(spec.name for spec in self.inputs)

    @property
    def may_take(self) -> tuple[str, ...]:
        """Names of the weights that the caller may override."""
        return tuple(spec.name for spec in self.optional_inputs)

    @property
    def makes(self) -> tuple[str, ...]:
        """Names of the values that it makes."""
        return tuple(spec.name for spec in self.outputs)


@dataclass(frozen=True)
class Workflow:
    """A model's slices as functions.

    Attributes:
        inputs: What the caller must give.
        optional_inputs: What the caller may give.
        outputs: What the caller gets.
        index_bounds: For inputs that pick rows of a table, its length.
        steps: The functions. Each takes what the caller gives and what others of them make.
    """

    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    index_bounds: Mapping[str, int]
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for `workflow_from_json`."""
        return asdict(self)


def workflow_of(manifest: Manifest, functions: Iterable[FunctionConfig]) -> Workflow:
    """The workflow of a slices directory.

    A slice that gives nothing need not run, and has no step.

    Args:
        manifest: What `slices.json` says.
        functions: The function of each slice.

    Raises:
        UnsupportedModelError: An input or output is no tensor that can travel between functions.
    """
    check_travels(manifest)
    return Workflow(
        manifest.inputs,
        manifest.optional_inputs,
        manifest.outputs,
        dict(manifest.index_bounds),
        tuple(
            Step(config.slice, config.name, config.inputs, config.optional_inputs, config.outputs)
            for config in functions
            if config.outputs
        ),
    )


def check_travels(manifest: Manifest) -> None:
    """Refuse a model whose inputs and outputs do not all travel between functions.

    Raises:
        UnsupportedModelError: One of them is no tensor, or of a type that takes less than a byte.
    """
    for spec in (*manifest.inputs, *manifest.outputs):
        try:
            kind = datatype(spec.datatype)
        except UnsupportedModelError as error:
            raise UnsupportedModelError(
                f"`{spec.name}` is {spec.datatype}, and only tensors travel to functions and back",
                hint="run this model in one process: `lamella run`",
            ) from error
        if 0 < kind.bits < 8:
            raise UnsupportedModelError(
                f"`{spec.name}` is {kind.name}, which does not travel to functions and back",
                hint="let the model take and give a type of at least 8 bits",
            )


def workflow_from_json(content: Mapping[str, Any]) -> Workflow:
    """A workflow from what `Workflow.to_json` gave.

    Raises:
        KeyError: Something is missing.
        TypeError: Something is of another type.
    """
    return Workflow(
        _specs(content["inputs"]),
        _specs(content["optional_inputs"]),
        _specs(content["outputs"]),
        {str(name): int(bound) for name, bound in content["index_bounds"].items()},
        tuple(
            Step(
                int(step["slice"]),
                str(step["function"]),
                _specs(step["inputs"]),
                _specs(step["optional_inputs"]),
                _specs(step["outputs"]),
            )
            for step in content["steps"]
        ),
    )


def _specs(entries: Sequence[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(entry["name"], entry["datatype"], None if entry["shape"] is None else tuple(entry["shape"]))
        for entry in entries
    )
