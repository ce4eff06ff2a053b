"""From items to answers, over anything that infers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from lamella.errors import ItemError, TaskError
from lamella.tasks.base import Answer, Item, Task
from lamella.tensors import Array, Tensors

MOST_ROWS = 64
"""Rows that a model of any batch is given at once: a book as context has thousands."""

Infer = Callable[[Tensors], Tensors]


def answer(task: Task, infer: Infer, items: Sequence[Item]) -> list[Answer]:
    """Answers for items, in their order.

    All items go through the model together, at most `MOST_ROWS` rows at once. A model whose batch is fixed runs as
    often as they need, the last time with repeated rows where it lacks some; one that takes a single row has the items
    one by one.

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
    return task.postprocess(_in_batches(infer, prepared.inputs, task.batch), prepared.states)


def _one(task: Task, infer: Infer, item: Item, index: int) -> Answer:
    """By itself, since the outputs of such models need not have a batch at all, as those of torchvision's detectors."""
    try:
        return answer(task, infer, [item])[0]
    except ItemError as error:
        raise ItemError(error.reason, item=index, hint=error.hint) from error


def _in_batches(infer: Infer, inputs: Tensors, batch: int | None) -> Tensors:
    lengths = {len(array) if array.ndim else None for array in inputs.values()}
    rows = next(iter(lengths), None)
    size = MOST_ROWS if batch is None else batch
    if len(lengths) != 1 or rows is None or rows == batch or (batch is None and rows <= size):
        return infer(inputs)  # all at once; also where a user's own inputs are no rows of the same batch
    found = []
    for start in range(0, rows, size):
        parts = {name: array[start : start + size] for name, array in inputs.items()}
        found.append(infer(parts if batch is None else {name: _filled(part, batch) for name, part in parts.items()}))
    return {name: _joined([outputs[name] for outputs in found], name)[:rows] for name in found[0]}


def _filled(rows: Array, size: int) -> Array:
    return rows if len(rows) == size else np.concatenate([rows, np.repeat(rows[-1:], size - len(rows), axis=0)])


def _joined(arrays: list[Array], name: str) -> Array:
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        raise TaskError(
            f"the output `{name}` has another shape each time, and no rows that can be joined",
            hint="give one item at a time, or export the model with a batch of any size",
        ) from error
