"""Vectors are those of sentence-transformers, whose arithmetic is written here with torch."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from tests.task_models import write_json

from lamella.errors import TaskError
from lamella.tasks.files import ModelFiles
from lamella.tasks.pooling import Pooling, normalized, pool, pooling_beside


def reference(states: np.ndarray, counts: np.ndarray, mode: str) -> np.ndarray:
    """`Pooling.forward` of sentence-transformers, for padding at the end."""
    torch = pytest.importorskip("torch")
    token_embeddings = torch.from_numpy(states)
    attention_mask = (torch.arange(states.shape[1])[None] < torch.from_numpy(counts)[:, None]).to(torch.int64)
    expanded = attention_mask.unsqueeze(-1).expand(token_embeddings.size()).to(token_embeddings.dtype)
    if mode == "cls":
        return token_embeddings[:, 0].numpy()
    if mode == "max":
        token_embeddings = token_embeddings.clone()
        token_embeddings[expanded == 0] = -1e9
        return torch.max(token_embeddings, 1)[0].numpy()
    if mode in ("mean", "mean_sqrt_len_tokens"):
        total = torch.sum(token_embeddings * expanded, 1)
        count = torch.clamp(expanded.sum(1), min=1e-9)
        return (total / (count if mode == "mean" else torch.sqrt(count))).numpy()
    if mode == "weightedmean":
        weights = torch.arange(1, states.shape[1] + 1).unsqueeze(0).unsqueeze(-1).expand(token_embeddings.size())
        expanded = expanded * weights.to(token_embeddings.dtype)
        total = torch.sum(token_embeddings * expanded, 1)
        return (total / torch.clamp(expanded.sum(1), min=1e-9)).numpy()
    last = attention_mask.sum(1) - 1
    return token_embeddings[torch.arange(len(states)), last].numpy()


@pytest.mark.parametrize("mode", get_args(Pooling))
def test_poolings_are_those_of_sentence_transformers(mode: Pooling) -> None:
    random = np.random.default_rng(0)
    states = random.standard_normal((5, 9, 16)).astype(np.float32)
    counts = np.array([9, 1, 4, 8, 2])
    found = pool(states, counts, (mode,))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, reference(states, counts, mode), rtol=1e-6, atol=1e-6)


def test_several_poolings_are_joined() -> None:
    states = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    counts = np.array([3, 2])
    found = pool(states, counts, ("cls", "mean"))
    np.testing.assert_array_equal(found[:, :4], pool(states, counts, ("cls",)))
    np.testing.assert_array_equal(found[:, 4:], pool(states, counts, ("mean",)))


def test_vectors_get_length_one_as_by_torch() -> None:
    torch = pytest.importorskip("torch")
    vectors = np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32)
    vectors[1] = 0
    wanted = torch.nn.functional.normalize(torch.from_numpy(vectors), p=2, dim=1).numpy()
    np.testing.assert_allclose(normalized(vectors), wanted, rtol=1e-6)


MODULES = [{"type": f"sentence_transformers.models.{kind}"} for kind in ("Transformer", "Pooling", "Normalize")]


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, ("mean",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, ("cls", "mean")),
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["weightedmean", "max"]}, ("max", "weightedmean")),
    ],
)
def test_what_sentence_transformers_files_say_is_read(config: object, wanted: object, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling" / "config.json", config)
    assert pooling_beside(ModelFiles(tmp_path)) == (wanted, False)
    write_json(tmp_path / "modules.json", MODULES)
    assert pooling_beside(ModelFiles(tmp_path)) == (wanted, True)


@pytest.mark.parametrize(
    ("config", "said"), [({"pooling_mode": "attention"}, "attention"), ({"pooling_mode_mean_tokens": False}, "none")]
)
def test_a_pooling_that_is_not_known_is_refused(config: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    write_json(tmp_path / "1_Pooling" / "config.json", config)
    with pytest.raises(TaskError, match=f"asks for the pooling `{said}`"):
        pooling_beside(ModelFiles(tmp_path))


def test_without_files_nothing_is_said() -> None:
    assert pooling_beside(ModelFiles()) == (None, False)
