"""Answers are those of the reference for SQuAD, over a real tokeniser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.task_models import CONTEXTS, minilm_folder, write_json

from lamella.errors import ItemError, TaskError
from lamella.tasks.files import ModelFiles
from lamella.tasks.question_answering import QuestionAnswering
from lamella.tensors import TensorSpec

IDS = [TensorSpec(name, "INT64", ("batch", "tokens")) for name in ("input_ids", "attention_mask", "token_type_ids")]
LOGITS = [TensorSpec(name, "FP32", ("batch", "tokens")) for name in ("start_logits", "end_logits")]
QUESTIONS = ("How tall is it?", "  What colour has the blood of an octopus?", "Why does bread rise?")
ITEMS = [{"question": q, "context": c} for q in QUESTIONS for c in (*CONTEXTS, "Short.", " ".join(CONTEXTS))]


def task(folder: Path | None = None, **settings: Any) -> QuestionAnswering:
    return QuestionAnswering(IDS, LOGITS, ModelFiles(folder or minilm_folder()), settings)


def tokenizer() -> Any:
    from transformers import PreTrainedTokenizerFast

    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    return PreTrainedTokenizerFast(tokenizer_file=str(minilm_folder() / "tokenizer.json"), **special)


def features(item: dict[str, str], **options: Any) -> Any:
    """`prepare_validation_features` of transformers' `run_qa.py`: windows, offsets only of the context."""
    found = tokenizer()(
        item["question"].lstrip(),
        item["context"],
        truncation="only_second",
        max_length=options["max_tokens"],
        stride=options["doc_stride"],
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_token_type_ids=True,
        padding=False,
    )
    found["offset_mapping"] = [
        [(o if found.sequence_ids(i)[k] == 1 else None) for k, o in enumerate(offsets)]
        for i, offsets in enumerate(found["offset_mapping"])
    ]
    return found


def reference(
    item: dict[str, str], mapping: Any, starts: list[np.ndarray], ends: list[np.ndarray], **options: Any
) -> tuple[str, list[dict[str, Any]]]:
    """`postprocess_qa_predictions` of transformers' `utils_qa.py`: the answer, and the n best."""
    n_best, v2 = options["n_best"], options["null_answers"]
    prelim: list[dict[str, Any]] = []
    min_null: dict[str, Any] | None = None
    for offsets, start_logits, end_logits in zip(mapping, starts, ends, strict=True):
        null_score = start_logits[0] + end_logits[0]
        if min_null is None or min_null["score"] > null_score:
            min_null = {"offsets": (0, 0), "score": null_score, "start": start_logits[0], "end": end_logits[0]}
        for s in np.argsort(start_logits)[-1 : -n_best - 1 : -1].tolist():
            for e in np.argsort(end_logits)[-1 : -n_best - 1 : -1].tolist():
                if offsets[s] is None or offsets[e] is None or e < s or e - s + 1 > options["max_answer_tokens"]:
                    continue
                score = start_logits[s] + end_logits[e]
                span = (offsets[s][0], offsets[e][1])
                prelim.append({"offsets": span, "score": score, "start": start_logits[s], "end": end_logits[e]})
    if v2:
        prelim.append(min_null)
    found = sorted(prelim, key=lambda x: x["score"], reverse=True)[:n_best]
    if v2 and not any(p["offsets"] == (0, 0) for p in found):
        found.append(min_null)
    for p in found:
        p["text"] = item["context"][p["offsets"][0] : p["offsets"][1]]
    scores = np.array([p["score"] for p in found])
    powers = np.exp(scores - np.max(scores))
    for share, p in zip(powers / powers.sum(), found, strict=True):
        p["probability"] = share
    if not v2:
        return found[0]["text"], found
    best = next((p for p in found if p["text"]), None)
    if best is None or min_null["score"] - best["start"] - best["end"] > options["null_threshold"]:
        return "", found
    return best["text"], found


@pytest.mark.parametrize("null_answers", [False, True])
@pytest.mark.parametrize("lean", [0.0, 15.0])
@pytest.mark.parametrize(("max_tokens", "doc_stride"), [(48, 16), (384, 128)])
def test_answers_are_those_of_the_reference(max_tokens: int, doc_stride: int, lean: float, null_answers: bool) -> None:
    options = {
        "max_tokens": max_tokens,
        "doc_stride": doc_stride,
        "null_answers": null_answers,
        "null_threshold": 0.5,
        "n_best": 20,
        "max_answer_tokens": 12,
    }
    own = task(**options, top_k=20)
    prepared = own.preprocess(ITEMS)
    random = np.random.default_rng(0)
    shape = prepared.inputs["input_ids"].shape
    starts, ends = (random.normal(size=shape).astype(np.float32) * 3 for _ in range(2))
    starts[:, 0] += lean
    answers = own.postprocess({"start_logits": starts, "end_logits": ends}, prepared.states)
    row = nulls = 0
    for item, answer in zip(ITEMS, answers, strict=True):
        windows = features(item, **options)
        lengths = [len(ids) for ids in windows["input_ids"]]
        rows = range(row, row + len(lengths))
        for index, window in zip(rows, range(len(lengths)), strict=True):
            for name in ("input_ids", "attention_mask", "token_type_ids"):
                wanted = windows[name][window]
                assert prepared.inputs[name][index, : lengths[window]].tolist() == wanted
                assert not prepared.inputs[name][index, lengths[window] :].any()
        logits = [[side[i, :n] for i, n in zip(rows, lengths, strict=True)] for side in (starts, ends)]
        text, n_best = reference(item, windows["offset_mapping"], *logits, **options)
        row += len(lengths)
        nulls += not text
        assert answer["answer"] == text
        shown = [answer, *answer["alternatives"]]
        assert sorted((a["start"], a["end"]) for a in shown) == sorted(p["offsets"] for p in n_best[:20])
        probabilities = {p["offsets"]: p["probability"] for p in reversed(n_best)}
        assert answer["score"] == pytest.approx(probabilities[answer["start"], answer["end"]], rel=1e-4)
        assert item["context"][answer["start"] : answer["end"]] == answer["answer"]
    assert row == shape[0]
    if lean:
        assert (nulls > 0) == null_answers


def test_offsets_are_characters_of_the_text_itself() -> None:
    item = {"question": "Wie?", "context": "  Größe: 量 😀 ist  die Antwort."}
    own = task()
    prepared = own.preprocess([item])
    first, offsets, _ = prepared.states[0]["windows"][0]
    answer = [item["context"].index("Antwort"), item["context"].index("Antwort") + 7]
    starts, ends = np.zeros((2, *prepared.inputs["input_ids"].shape), np.float32)
    starts[0, first + [start for start, _ in offsets].index(answer[0])] = 9
    ends[0, first + [end for _, end in offsets].index(answer[1])] = 9
    (found,) = own.postprocess({"start_logits": starts, "end_logits": ends}, prepared.states)
    assert (found["answer"], found["start"], found["end"]) == ("Antwort", *answer)
    assert 0.9 < found["score"] <= 1
    assert "alternatives" not in found


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("question?", "item 0 is no JSON object"),
        ('["a"]', "item 0 is no JSON object"),
        ({"question": "q"}, "item 0 has no `context`"),
        ({"question": "q", "context": 3}, "item 0 has no text as its `context`"),
        ({"question": "  ", "context": "c"}, "item 0 has no text as its `question`"),
        ({"question": "q", "context": "c", "id": "1"}, "item 0 has a field `id` that means nothing"),
        (
            {"question": "why " * 300, "context": "c"},
            "item 0 has a question of more than 252 tokens, which leaves too little of a row for the context",
        ),
        (
            {"question": "why " * 3000, "context": "c"},
            "item 0 has a question of more than 252 tokens, which leaves too little of a row for the context",
        ),
    ],
)
def test_what_is_no_question_is_refused(item: Any, message: str) -> None:
    with pytest.raises(ItemError) as caught:
        task().preprocess([item])
    assert caught.value.message == message
    assert caught.value.hint


def test_the_longest_question_that_is_taken_has_an_answer() -> None:
    own = task(max_tokens=40, doc_stride=16)
    prepared = own.preprocess([{"question": "why " * 20, "context": CONTEXTS[2]}])
    assert prepared.inputs["input_ids"].shape[1] == 40
    assert len(prepared.states[0]["windows"]) > 10
    with pytest.raises(ItemError, match="a question of more than 20 tokens"):
        own.preprocess([{"question": "why " * 21, "context": CONTEXTS[2]}])


def test_a_context_without_tokens_has_no_answer() -> None:
    own = task()
    prepared = own.preprocess([{"question": "q", "context": "\u200b\u200d"}])
    logits = np.ones(prepared.inputs["input_ids"].shape, np.float32)
    (found,) = own.postprocess({"start_logits": logits, "end_logits": logits}, prepared.states)
    assert found == {"answer": "", "score": 0.0, "start": 0, "end": 0}


def test_rows_are_as_long_as_the_model_takes() -> None:
    fixed = [TensorSpec("input_ids", "INT32", (1, 64))]
    own = QuestionAnswering(fixed, LOGITS, ModelFiles(minilm_folder()), {"doc_stride": 16})
    prepared = own.preprocess([ITEMS[0]])
    assert prepared.inputs["input_ids"].shape[1] == 64
    assert prepared.inputs["input_ids"].dtype == np.int32
    assert own.batch == 1


def test_the_models_positions_bound_its_rows(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((minilm_folder() / "tokenizer.json").read_bytes())
    write_json(tmp_path / "config.json", {"max_position_embeddings": 66, "model_type": "roberta"})
    assert task(tmp_path, doc_stride=16).preprocess([ITEMS[2]]).inputs["input_ids"].shape[1] == 64
    with pytest.raises(TaskError, match="`max_tokens` is 100, and the model takes 64"):
        task(tmp_path, max_tokens=100)
    with pytest.raises(TaskError, match="`doc_stride` is 128, and a row has 64 tokens"):
        task(tmp_path)


def test_outputs_that_are_not_clearly_an_answers_are_refused() -> None:
    outputs = [TensorSpec(name, "FP32", ("batch", "tokens")) for name in ("a", "b")]
    with pytest.raises(TaskError, match="none of the model's outputs is clearly that of an answer's start: `a`, `b`"):
        QuestionAnswering(IDS, outputs, ModelFiles(minilm_folder()), {})
    named = {"start_output": "a", "end_output": "b"}
    own = QuestionAnswering(IDS, outputs, ModelFiles(minilm_folder()), named)
    prepared = own.preprocess([ITEMS[0]])
    logits = np.zeros(prepared.inputs["input_ids"].shape, np.float32)
    with pytest.raises(TaskError, match="the model gave no `a`"):
        own.postprocess({"start_logits": logits}, prepared.states)
    with pytest.raises(TaskError, match="the model gave 1 rows, too few"):
        own.postprocess({"a": logits, "b": logits}, [*prepared.states, *prepared.states])


def test_a_missing_tokeniser_is_named(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"there is no `tokenizer\.json` in"):
        task(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(TaskError, match="is no tokeniser"):
        task(tmp_path)
