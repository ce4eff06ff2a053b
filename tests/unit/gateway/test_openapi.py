"""The OpenAPI document, from what is told of models."""

from __future__ import annotations

from typing import Any

import pytest
from openapi_spec_validator import validate

from lamella.gateway.dataplane import ModelInfo
from lamella.gateway.openapi.document import document
from lamella.gateway.openapi.examples import infer_example
from lamella.tensors import TensorSpec


def info(name: str, *inputs: TensorSpec) -> ModelInfo:
    return ModelInfo(name, ["3"], "onnxruntime_onnx", inputs, [], 8)


def test_document_without_models_is_valid() -> None:
    found: Any = document([], needs_token=False)
    validate(found)
    assert "security" not in found
    assert "securitySchemes" not in found["components"]
    assert "401" not in found["paths"]["/v2"]["get"]["responses"]


def test_health_needs_no_token() -> None:
    found: Any = document([], needs_token=True)
    validate(found)
    assert found["paths"]["/v2/health/live"]["get"]["security"] == []
    assert "401" in found["paths"]["/v2"]["get"]["responses"]


def test_names_and_versions_are_suggested() -> None:
    found: Any = document([info("a"), info("b/..")], needs_token=False)
    validate(found)
    parameters = found["components"]["parameters"]
    assert [example["value"] for example in parameters["model"]["examples"].values()] == ["a", "b/.."]
    assert [example["value"] for example in parameters["version"]["examples"].values()] == ["3"]


@pytest.mark.parametrize(
    ("spec", "shape", "data"),
    [
        (TensorSpec("x", "INT64", ("batch", "length")), [1, 4], [1, 1, 1, 1]),
        (TensorSpec("x", "FP32", (2, 1)), [2, 1], [0.5, 0.5]),
        (TensorSpec("x", "BYTES", (None,)), [1], ["text"]),
        (TensorSpec("x", "BOOL", ()), [], [True]),
    ],
)
def test_example_has_the_shape_that_the_model_takes(spec: TensorSpec, shape: list[int], data: list[object]) -> None:
    assert infer_example([spec]) == {"inputs": [{"name": "x", "shape": shape, "datatype": spec.datatype, "data": data}]}


@pytest.mark.parametrize(
    "spec",
    [
        TensorSpec("x", "FP32", ("batch", 3, "height", "width")),  # an image
        TensorSpec("x", "seq(tensor(float))", None),
        TensorSpec("x", "INT4", (2,)),
    ],
)
def test_there_is_no_example_of_what_nobody_would_write(spec: TensorSpec) -> None:
    assert infer_example([spec]) is None
    validate(document([info("m", spec)], needs_token=False))
