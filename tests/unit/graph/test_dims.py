"""Sizes for symbolic dimensions: what is given, what is assumed, and names that no input has."""

from pathlib import Path

import pytest
from tests import models

from lamella.errors import UsageError
from lamella.graph.reader import load
from lamella.graph.samples import assumed_dims, sample_inputs
from lamella.planner.sizes import value_sizes
from lamella.tensors import TensorSpec

INPUTS = (TensorSpec("ids", "INT64", ("batch", "sequence")), TensorSpec("mask", "INT64", ("batch", "past + sequence")))


def test_what_is_not_given_is_assumed() -> None:
    assert assumed_dims(INPUTS) == {"batch": 1, "sequence": 64, "past + sequence": 64}
    assert assumed_dims(INPUTS, given={"batch": 5}, sequence=7) == {"batch": 5, "sequence": 7, "past + sequence": 7}


@pytest.mark.parametrize(
    ("inputs", "name", "hint"),
    [
        (INPUTS, "sequenc", "did you mean `sequence`?"),
        (INPUTS, "width", "they have `batch`, `sequence`, `past + sequence`"),
        ((TensorSpec("x", "FP32", (1, None)), TensorSpec("y", "FP32", None)), "batch", "leave it out: they have none"),
    ],
)
def test_a_name_that_no_input_has_is_refused(inputs: tuple[TensorSpec, ...], name: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"have no symbolic dimension `{name}`") as caught:
        assumed_dims(inputs, given={name: 3})
    assert caught.value.hint == hint


def test_a_name_in_arithmetic_is_known() -> None:
    assert assumed_dims(INPUTS, given={"past": 3})["past"] == 3


def test_samples_take_sizes_of_other_inputs_too() -> None:
    made = sample_inputs(INPUTS[:1], bounds={}, given={"sequence": 3, "past": 8})
    assert made["ids"].shape == (1, 3)


def test_sizes_of_values_refuse_it_too(tmp_path: Path) -> None:
    model = load(models.mlp(tmp_path / "m.onnx"))
    assert value_sizes(model, dims={"batch": 3})[0]["hidden0"] == 3 * 32 * 4
    with pytest.raises(UsageError, match="`bach`"):
        value_sizes(model, dims={"bach": 3})
