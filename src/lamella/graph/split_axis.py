"""What is said of a split: which node, along which axis, into how many parts, and how these become the whole."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

Join = Literal["concat", "sum", "select"]

MOST_PARTS = 1024
"""Parts of one node; with more of them, what goes between the slices outweighs what each one holds."""


@dataclass(frozen=True)
class Split:
    """One node computed in parts, as a plan records it.

    Attributes:
        node: Its index in the graph.
        weight: Name of the initializer that is parted.
        axis: Axis of the weight.
        parts: How many parts, of as equal size as the axis allows.
    """

    node: int
    weight: str
    axis: int
    parts: int


@dataclass(frozen=True)
class InputCut:
    """An input of which each part takes its own part.

    Attributes:
        position: Which input.
        axis: The axis that is parted.
        step: Elements along that axis for one step of the split.
    """

    position: int
    axis: int
    step: int


@dataclass(frozen=True)
class SplitAxis:
    """A way to compute a node in parts.

    Attributes:
        node: Its index in the graph.
        weight: Name of the initializer that is parted.
        axis: Axis of the weight.
        steps: The most parts, as long as these are no more than `MOST_PARTS`: what one step holds stays together.
        join: How the parts become the whole.
        contiguous: Whether a part of the weight is one run of bytes in its file.
        cuts: The inputs that are parted, the weight among them; every part takes the others whole.
        output_axis: Axis of the output that the parts are concatenated along.
        once: Position of an input that only the first part takes, since the parts are added; -1 for none.
    """

    node: int
    weight: str
    axis: int
    steps: int
    join: Join
    contiguous: bool
    cuts: tuple[InputCut, ...]
    output_axis: int = 0
    once: int = -1

    def bounds(self, parts: int) -> list[tuple[int, int]]:
        """The steps `[start, end)` of each of `parts` parts."""
        return [(i * self.steps // parts, (i + 1) * self.steps // parts) for i in range(parts)]

    def largest_share(self, parts: int) -> Fraction:
        """The largest of `parts` parts, as a fraction of the whole."""
        return Fraction(-(-self.steps // parts), self.steps)

    @property
    def label(self) -> str:
        """For messages, such as `axis 0 of 'w' (in place, concatenated)`."""
        how = {"concat": "concatenated", "sum": "added", "select": "selected from"}[self.join]
        return f"axis {self.axis} of `{self.weight}` ({'in place' if self.contiguous else 'copied'}, {how})"
