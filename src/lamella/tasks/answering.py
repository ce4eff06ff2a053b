"""From items to answers, over anything that infers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lamella.errors import ItemError, TaskError
from lamella.tasks.base import Answer, Item, Task
from lamella.tensors import Array, Tensors

Infer = Callable[[Tensors], Tensors]


def answer(task: Task, infer: Infer, items: Sequence[Item]) -> list[Answer]:
    """Answers for items, in their order.

    All items go through the model together. A model whose batch is fixed runs as often as they need, the last time with
    repeated rows where it lacks some; one that takes a single row has the items one by one.

    Args:
        task: What `open_task` returned.
        infer: What runs the model, such as `Pipeline.infer` or `Endpoint.infer`.
        items: What to answer.

    Raises:
        ItemError: An item is not what the task takes.
        TaskError: The model's outputs are not those of such a model.
    """
    if not items:
        return []
    if task.batch == 1 and len(items) > 1:
        return [_one(task, infer, item, index) for index, item in enumerate(items)]
    prepared = task.preprocess(items)
    outputs = infer(prepared.inputs) if task.batch is None else _in_batches(infer, prepared.inputs, task.batch)
    return task.postprocess(outputs, prepared.states)


def _one(task: Task, infer: Infer, item: Item, index: int) -> Answer:
    """By itself, since the outputs of such models need not have a batch at all, as those of torchvision's detectors."""
    try:
        return answer(task, infer, [item])[0]
    except ItemError as error:
        raise ItemError(error.reason, item=index, hint=error.hint) from error


def _in_batches(infer: Infer, inputs: Tensors, size: int) -> dict[str, Array]:
    rows = max(len(array) for array in inputs.values())
    found = [
        infer({name: _rows(array, start, size) for name, array in inputs.items()}) for start in range(0, rows, size)
    ]
    if len(found) == 1 and rows == size:
        return dict(found[0])
    return {name: _joined([outputs[name] for outputs in found], name)[:rows] for name in found[0]}


def _rows(array: Array, start: int, size: int) -> Array:
    rows = array[start : start + size]
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _joined(arrays: list[Array], name: str) -> Array:
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise TaskError(
            f"the output `{name}` has another shape each time, and no rows that can be joined",
            hint="give one item at a time, or export the model with a batch of any size",
        ) from error
