"""Whether an ONNX file gives the answers of the model that it was made from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lamella.engines.base import EngineOptions
from lamella.errors import VerificationError
from lamella.runtime.cpu import thread_count
from lamella.tensors import Tensors

RELATIVE_TOLERANCE = 1e-3
ABSOLUTE_TOLERANCE = 1e-5


def compare(model: Path, cases: Sequence[Tensors], reference: Callable[[Tensors], Tensors]) -> float:
    """Run a model in ONNX Runtime, and compare its outputs with a reference's.

    An element may differ by 1e-5 plus a thousandth of its size.

    Args:
        model: The `.onnx` file.
        cases: Inputs.
        reference: Gives the right outputs for inputs.

    Returns:
        The largest absolute difference.

    Raises:
        VerificationError: An output differs.
        EngineError: ONNX Runtime refuses the model.
    """
    from lamella.engines.onnxruntime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine()
    # Weights stay pages of their file, so that a check takes no memory of the model's size.
    session = engine.load(model, EngineOptions(threads=thread_count(), low_memory=True))
    try:
        return max(
            _compare_case({name: engine.to_array(item) for name, item in session.infer(case).items()}, reference(case))
            for case in cases
        )
    finally:
        session.close()


_REPORT = "report this with the model's `config.json`, or convert without verification to look at the file"


def _compare_case(found: Tensors, expected: Tensors) -> float:
    worst = 0.0
    for name, right in expected.items():
        difference = np.abs(np.asarray(found[name], np.float64) - np.asarray(right, np.float64))
        largest = float(difference.max(initial=0.0))
        allowed = ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(right)
        if not bool(np.all(difference <= allowed)):  # written so that NaN fails
            raise VerificationError(
                f"output `{name}` differs from the source model's by {largest:.3g} "
                f"(at most {ABSOLUTE_TOLERANCE:g} + {RELATIVE_TOLERANCE:g} of its size)",
                hint=_REPORT,
            )
        worst = max(worst, largest)
    return worst
