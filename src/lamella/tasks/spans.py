"""The best spans of a text, from the scores of their first and last tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Window:
    """A row of the model's input: the question, and a part of the context.

    Attributes:
        first: Index of the row's first token that is of the context.
        offsets: Where each of the context's tokens in the row begins and ends in the text, in characters.
        tokens: How many tokens the row has without padding.
    """

    first: int
    offsets: Sequence[Sequence[int]]
    tokens: int


@dataclass(frozen=True, slots=True)
class Span:
    """A candidate; an empty one at 0 is that there is no answer.

    Attributes:
        start: Its first character.
        end: The character after its last.
        score: The sum of two logits.
    """

    start: int
    end: int
    score: float


def spans_of(window: Window, starts: Floats, ends: Floats, *, n_best: int, max_tokens: int) -> list[Span]:
    """Spans within a window's context, from the tokens that are likeliest to be the first, and the last.

    As the reference for SQuAD in transformers (`postprocess_qa_predictions`) finds them: the best starts are combined
    with the best ends, and what is outside of the context, reversed or too long is dropped. Padding does not count.

    Args:
        window: Which tokens are of the context.
        starts: A logit a token.
        ends: The same.
        n_best: How many starts and ends are combined.
        max_tokens: The longest span.
    """
    best = [_largest(logits[: window.tokens], n_best) for logits in (starts, ends)]
    first, last = (index.reshape(shape) for index, shape in zip(best, ((-1, 1), (1, -1)), strict=True))
    end_of_context = window.first + len(window.offsets)
    fits = (first >= window.first) & (last < end_of_context) & (last >= first) & (last - first < max_tokens)
    found = []
    for row, column in zip(*np.nonzero(fits), strict=True):
        start, end = int(best[0][row]), int(best[1][column])
        offsets = window.offsets[start - window.first][0], window.offsets[end - window.first][1]
        found.append(Span(*offsets, float(starts[start] + ends[end])))
    return found


def _largest(logits: Floats, count: int) -> npt.NDArray[np.intp]:
    """Indexes of the largest, those first; of equal ones the later, as the reference's reversed `argsort`."""
    return np.argsort(logits, kind="stable")[::-1][:count]
