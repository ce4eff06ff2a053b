"""`question-answering`: the span of a text that answers a question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lamella.errors import ItemError, TaskError
from lamella.tasks.base import Answer, Item, Prepared, State
from lamella.tasks.files import ModelFiles
from lamella.tasks.scores import softmax
from lamella.tasks.settings import changed, check_names, names_of, picked
from lamella.tasks.spans import Floats, Span, Window, spans_of
from lamella.tasks.specs import check_filled, chosen, output_of
from lamella.tasks.texts import TextInput, TextOptions, text_of
from lamella.tensors import Tensors, TensorSpec

NAME = "question-answering"
MOST_TOKENS = 384
_FIELDS = ("question", "context")


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How a long context is read, and what counts as an answer; the defaults are those of the reference for SQuAD.

    Attributes:
        doc_stride: Tokens of the context that two windows share.
        max_answer_tokens: The longest answer.
        n_best: How many starts and ends of each window are combined, and how many answers the scores are shares of.
        null_answers: Whether "there is no answer" is one, as in SQuAD 2.
        null_threshold: By how much that must be likelier than the best answer.
        top_k: How many answers to give, the best first.
        start_output: The output with a logit a token for the first.
        end_output: The output with a logit a token for the last.
    """

    doc_stride: int = 128
    max_answer_tokens: int = 30
    n_best: int = 20
    null_answers: bool = False
    null_threshold: float = 0.0
    top_k: int = 1
    start_output: str | None = None
    end_output: str | None = None


class QuestionAnswering:
    """Splits a context into windows of tokens; answers the best span of all of them.

    Items are `{"question": ..., "context": ...}`, also as the text of a JSON object. An answer is `{"answer", "score",
    "start", "end"}`, with characters of the context, and `"alternatives"` where `top_k` is above 1. Without an answer,
    the text is empty.

    Args:
        inputs: The model's inputs.
        outputs: The model's outputs.
        beside: The model's files.
        settings: Settings of `AnswerOptions` and `TextOptions`.

    Raises:
        UsageError: A setting makes no sense.
        TaskError: The model does not suit the task.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        beside: ModelFiles,
        settings: Mapping[str, object],
    ) -> None:
        check_names(settings, names_of(AnswerOptions, TextOptions), NAME)
        self._options = changed(AnswerOptions(), picked(settings, AnswerOptions), NAME)
        texts = changed(TextOptions(), picked(settings, TextOptions), NAME)
        self._texts = TextInput(inputs, texts, beside, most=MOST_TOKENS, task=NAME)
        check_filled(inputs, self._texts.filled, NAME)
        self._tokenizer = self._texts.tokenizer
        self._special = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        most, stride = self._texts.max_tokens, self._options.doc_stride
        if stride >= most - self._special:
            raise TaskError(f"`doc_stride` is {stride}, and a row has {most} tokens", hint="set a smaller `doc_stride`")
        self._tokenizer.enable_truncation(most, stride=stride, strategy="only_second")
        self._start, self._end = (self._output(outputs, side) for side in ("start", "end"))

    @property
    def batch(self) -> int | None:
        """Windows that the model takes at once; None for any number."""
        return self._texts.batch

    def preprocess(self, items: Sequence[Item]) -> Prepared:
        """Tokens of questions and contexts, a row a window."""
        asked = [_question(item, index) for index, item in enumerate(items)]
        for index, (question, _) in enumerate(asked):
            self._check_length(question, index)
        encoded = self._tokenizer.encode_batch(asked)
        rows = [[one, *one.overflowing] for one in encoded]
        windows = [[_window(row) for row in of_item] for of_item in rows]
        states: list[State] = [
            {"context": context, "windows": of_item} for (_, context), of_item in zip(asked, windows, strict=True)
        ]
        return Prepared(self._texts.rows([row for of_item in rows for row in of_item]), states)

    def postprocess(self, outputs: Tensors, states: Sequence[State]) -> list[Answer]:
        """The best answer to each question."""
        starts, ends = (self._logits(outputs, name) for name in (self._start, self._end))
        found: list[Answer] = []
        row = 0
        for state in states:
            windows = [Window(*one) for one in state["windows"]]  # type: ignore[attr-defined]  # as `_window` wrote it
            after = row + len(windows)
            if after > len(starts):
                raise TaskError(f"the model gave {len(starts)} rows, too few", hint="pass on all that it gave")
            best = self._best(windows, starts[row:after], ends[row:after])
            found.append(self._answer(str(state["context"]), *best))
            row = after
        return found

    def _best(self, windows: Sequence[Window], starts: Floats, ends: Floats) -> tuple[list[Span], Span]:
        """The best spans, and the null answer: the reference takes that from the window where it is unlikeliest."""
        options = self._options
        spans = [
            span
            for window, start, end in zip(windows, starts, ends, strict=True)
            for span in spans_of(window, start, end, n_best=options.n_best, max_tokens=options.max_answer_tokens)
        ]
        null = Span(0, 0, float((starts[:, 0] + ends[:, 0]).min()))
        if options.null_answers:
            spans.append(null)
        ranked = sorted(spans, key=lambda span: -span.score)[: options.n_best]
        if options.null_answers and null not in ranked:
            ranked.append(null)
        return ranked, null

    def _answer(self, context: str, ranked: list[Span], null: Span) -> Answer:
        options = self._options
        if not ranked:
            return {**_view(context, Span(0, 0, 0.0), 0.0), **({"alternatives": []} if options.top_k > 1 else {})}
        shares = softmax(np.array([span.score for span in ranked]))
        views = [_view(context, span, float(share)) for span, share in zip(ranked, shares, strict=True)]
        best = self._first(context, ranked, null)
        ordered = [views[best], *views[:best], *views[best + 1 :]]
        return {**ordered[0], **({"alternatives": ordered[1 : options.top_k]} if options.top_k > 1 else {})}

    def _first(self, context: str, ranked: list[Span], null: Span) -> int:
        """Which of the ranked spans is the answer: null, where it is allowed, must beat the others by the threshold."""
        if not self._options.null_answers:
            return 0
        best = next((i for i, span in enumerate(ranked) if context[span.start : span.end]), None)
        if best is None or null.score - ranked[best].score > self._options.null_threshold:
            return ranked.index(null)
        return best

    def _check_length(self, question: str, index: int) -> None:
        """Leave room for more of the context than two windows share: the tokeniser would never come to an end."""
        most = self._texts.max_tokens - self._special - self._options.doc_stride - 1
        try:
            tokens = len(self._tokenizer.encode(question, add_special_tokens=False).ids)
        except Exception:  # noqa: BLE001 - the library raises nothing narrower where a question alone is longer than a row
            tokens = most + 1
        if tokens > most:
            raise ItemError(
                f"has a question of more than {most} tokens, which leaves too little of a row for the context",
                item=index,
                hint="ask something shorter, or set a smaller `doc_stride`",
            )

    def _output(self, outputs: Sequence[TensorSpec], side: str) -> str:
        named = self._options.start_output if side == "start" else self._options.end_output
        if named is not None:
            return chosen(named, f"{side}_output", outputs).name
        found = [spec.name for spec in outputs if side in spec.name.lower()]
        if len(found) != 1:
            listed = ", ".join(f"`{spec.name}`" for spec in outputs)
            raise TaskError(
                f"none of the model's outputs is clearly that of an answer's {side}: {listed}",
                hint=f"name it with the setting `{side}_output`",
            )
        return found[0]

    def _logits(self, outputs: Tensors, name: str) -> Floats:
        array = output_of(outputs, name, (2, 3))
        return array.reshape(array.shape[:2])


def _question(item: Item, index: int) -> tuple[str, str]:
    fields = item if isinstance(item, Mapping) else _object(item, index)
    if set(fields) != set(_FIELDS):
        extra, lacking = sorted(set(fields).difference(_FIELDS)), [name for name in _FIELDS if name not in fields]
        said = f"has no `{lacking[0]}`" if lacking else f"has a field `{extra[0]}` that means nothing"
        raise ItemError(said, item=index, hint='give `{"question": ..., "context": ...}`')
    texts = []
    for name in _FIELDS:
        if not isinstance(value := fields[name], str) or not value.strip():
            raise ItemError(f"has no text as its `{name}`", item=index, hint="give at least one word")
        texts.append(text_of(value, index))
    return texts[0].lstrip(), texts[1]


def _object(item: str | bytes, index: int) -> Mapping[str, object]:
    hint = 'give `{"question": ..., "context": ...}`'
    try:
        value = json.loads(item)
    except (ValueError, RecursionError) as error:
        raise ItemError("is no JSON object", item=index, hint=hint) from error
    if not isinstance(value, dict):
        raise ItemError("is no JSON object", item=index, hint=hint)
    return value


def _window(row: object) -> list[object]:
    """A `Window`, as JSON has it."""
    parts = row.sequence_ids  # type: ignore[attr-defined]  # an encoding
    of_context = [index for index, part in enumerate(parts) if part == 1]
    offsets = row.offsets  # type: ignore[attr-defined]
    return [of_context[0] if of_context else 0, [list(offsets[index]) for index in of_context], len(parts)]


def _view(context: str, span: Span, score: float) -> dict[str, object]:
    return {"answer": context[span.start : span.end], "score": score, "start": span.start, "end": span.end}
