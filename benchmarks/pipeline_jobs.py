"""What `pipeline.py` measures, each in a process of its own: a job imports, yields, and works.

What a job opened is kept open until the process ends: closing it is no part of the time to the answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probe import Job

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import onnxruntime

_KEPT_OPEN: list[object] = []


def lamella_slices(model: str, directory: str, slices: int, optimize_first: bool) -> Job:
    """Make the slices that other jobs run."""
    import lamella

    yield
    lamella.slice(lamella.load(model), directory, slices=slices, optimize_first=optimize_first, verify=False)
    return {}


def optimised_whole(model: str, optimised: str) -> Job:
    """Make the whole model as ONNX Runtime optimises it, in the form that any machine can load (extended, no NCHWc)."""
    import onnxruntime

    yield
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = optimised
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_file_name", Path(optimised).name + ".data"
    )
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return {}


def whole(model: str, inputs: str, threads: int) -> Job:
    """The whole model as anyone would run it: one session with default settings."""
    import numpy as np
    import onnxruntime  # noqa: F401  # imported before the clock starts

    with np.load(inputs) as file:
        tensors = dict(file)
    yield
    session = whole_session(model, threads=threads)
    _KEPT_OPEN.append(session)
    return {"answer": digest(session.run(None, tensors)[0])}


def pipeline(source: str, inputs: str, threads: int, low_memory: bool) -> Job:
    """A model or its slices through `lamella.Pipeline`."""
    import numpy as np

    import lamella

    with np.load(inputs) as file:
        tensors = dict(file)
    yield
    running = lamella.Pipeline(source, low_memory=low_memory, threads=threads)
    _KEPT_OPEN.append(running)
    outputs = running.infer(tensors)
    return {"answer": digest(next(iter(outputs.values())))}


def whole_session(model: str, *, threads: int, optimised: bool = False) -> onnxruntime.InferenceSession:
    """A session on a whole model: ONNX Runtime's defaults, except for the number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def digest(output: npt.NDArray[np.generic]) -> float:
    """One number by which two answers can be told apart: the mean absolute value."""
    import numpy as np

    return float(np.abs(output.astype(np.float64)).mean())
