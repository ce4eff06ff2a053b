"""What a task is: it makes a model's inputs of items, and answers of its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lamella.tensors import Array, Tensors

Item = str | bytes | Mapping[str, object]
"""What is asked about: text; the bytes of a file, such as an image; or the fields of a question."""

State = Mapping[str, object]
"""What `postprocess` must know of one item. JSON can hold it, since another function may make the answer."""

Answer = Mapping[str, object]
"""What comes out for one item. JSON can hold it."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch, ready for the model.

    Attributes:
        inputs: The model's inputs by name; an item takes one row or several along their first axis, in order.
        states: What the answers need, an entry an item.
    """

    inputs: dict[str, Array]
    states: list[State]


class Task(Protocol):
    """Prepares items and makes answers of what the model says. May be called from several threads at once."""

    @property
    def batch(self) -> int | None:
        """Rows that the model takes at once; None for any number."""
        ...

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """The model's inputs for all items together, in their order.

        Raises:
            ItemError: An item is not what the task takes; the error says which.
            MissingDependencyError: A library is not installed.
        """
        ...

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """An answer for each item, in order.

        Args:
            outputs: The model's outputs, with the rows that `preprocess` made.
            states: What `preprocess` returned.

        Raises:
            TaskError: The outputs are not those of such a model.
        """
        ...
