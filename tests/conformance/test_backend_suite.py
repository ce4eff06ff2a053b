"""Every model of the ONNX backend suite, in slices; and the report of it."""

from __future__ import annotations

from tests.conformance.cases import SUITES
from tests.conformance.report import REPORT, render, run_suite


def test_slices_of_every_model_give_the_whole_models_outputs_as_reported() -> None:
    results = run_suite()
    assert {result.name: result.failures for result in results if result.failures} == {}
    assert {result.suite for result in results if not result.excluded} == set(SUITES)
    assert REPORT.read_text() == render(results), "run `python -m tests.conformance.report` and look at what changed"
