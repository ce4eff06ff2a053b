"""The process that `trial` starts: one model, inferred and measured.

An order comes in as JSON, and what was found goes to the file that it names, since libraries may print. It imports what
a function would, and nothing of the planner.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import lamella.engines.onnxruntime  # noqa: F401 - in memory before the model, as in a function
from lamella.checking.trial import travels
from lamella.errors import LamellaError
from lamella.runtime.memory import peak_rss_bytes
from lamella.wire import decode, encode
from lamella.workflow.pipeline import Pipeline


def run(order: Mapping[str, object]) -> dict[str, object]:
    """Load the model and infer the requests of an order."""
    floor = peak_rss_bytes()
    requests = order["requests"]
    libraries = order["custom_ops"]
    assert isinstance(requests, list)
    assert isinstance(libraries, list)
    runs: list[dict[str, object]] = []
    load_ms, error = 0.0, None
    started = perf_counter()
    try:
        with Pipeline(str(order["model"]), threads=int(str(order["threads"])), custom_ops=libraries) as pipeline:
            load_ms = (perf_counter() - started) * 1000
            for request in requests:
                runs.append(_infer(pipeline, Path(request), int(str(order["rounds"]))))
                if order["until_first"] and runs[-1]["error"] is None:
                    break
    except LamellaError as failure:
        error = failure.message
    return {"runs": runs, "load_ms": load_ms, "floor_bytes": floor, "peak_bytes": peak_rss_bytes(), "error": error}


def _infer(pipeline: Pipeline, request: Path, rounds: int) -> dict[str, object]:
    infer_ms: list[float] = []
    try:
        inputs = decode(request.read_bytes())
        for _ in range(rounds):
            started = perf_counter()
            found = pipeline.infer(inputs)
            infer_ms.append((perf_counter() - started) * 1000)
    except LamellaError as failure:
        return {"infer_ms": infer_ms, "outputs": None, "no_tensors": [], "error": failure.message}
    target = request.with_suffix(".out")
    tensors = {name: array for name, array in found.items() if travels(array)}
    target.write_bytes(encode(tensors, kind="outputs").to_bytes())
    others = [name for name in found if name not in tensors]
    return {"infer_ms": infer_ms, "outputs": str(target), "no_tensors": others, "error": None}


if __name__ == "__main__":
    wanted = json.load(sys.stdin)
    Path(wanted["result"]).write_text(json.dumps(run(wanted)))
