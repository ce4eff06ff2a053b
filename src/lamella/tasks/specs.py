"""What a model's inputs and outputs are for, by their names and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from lamella.errors import TaskError, UsageError
from lamella.tensors import Tensors, TensorSpec

Floats = npt.NDArray[np.floating]


def rank(spec: TensorSpec) -> int | None:
    """How many dimensions it has; None where that is not known."""
    return None if spec.shape is None else len(spec.shape)


def fixed(spec: TensorSpec, axis: int) -> int | None:
    """The size of an axis, where the model says it."""
    if spec.shape is None or not -len(spec.shape) <= axis < len(spec.shape):
        return None
    size = spec.shape[axis]
    return size if isinstance(size, int) and size > 0 else None


def check_filled(specs: Sequence[TensorSpec], filled: Iterable[str], task: str) -> None:
    """Refuse a model with inputs that a task does not fill.

    Raises:
        TaskError: There is one.
    """
    lacking = [spec.name for spec in specs if spec.name not in set(filled)]
    if lacking:
        raise TaskError(
            f"the task `{task}` has nothing for the model's input `{lacking[0]}`",
            hint="write `preprocess` and `postprocess` in a Python file and choose the task `custom`",
        )


def chosen(name: str, setting: str, specs: Sequence[TensorSpec]) -> TensorSpec:
    """The input or output that a setting names.

    Raises:
        UsageError: The model has none of this name.
    """
    for spec in specs:
        if spec.name == name:
            return spec
    listed = ", ".join(f"`{spec.name}`" for spec in specs)
    raise UsageError(f"the setting `{setting}` names `{name}`, which the model lacks", hint=f"it has {listed}")


def output_of(outputs: Tensors, name: str, ranks: Iterable[int]) -> Floats:
    """An output as numbers of at least 32 bits.

    Raises:
        TaskError: It is missing, or has none of these ranks.
    """
    if name not in outputs:
        raise TaskError(f"the model gave no `{name}`", hint="choose another output in the task's settings")
    array = np.asarray(outputs[name])
    wanted = sorted(ranks)
    if array.ndim not in wanted:
        raise TaskError(
            f"the output `{name}` has shape {list(array.shape)}, not {' or '.join(map(str, wanted))} dimensions",
            hint="choose another output in the task's settings",
        )
    return array.astype(np.float64 if array.dtype == np.float64 else np.float32, copy=False)


def check_rows(array: Floats, name: str, rows: int) -> Floats:
    """The array, if it has as many rows as were asked for.

    Raises:
        TaskError: It has not.
    """
    if len(array) != rows:
        raise TaskError(
            f"the output `{name}` has {len(array)} rows for {rows} of the input",
            hint="choose an output whose first axis is the batch",
        )
    return array
