"""ONNX Runtime with no server: latency and throughput of `session.run` on the same requests, one by one and in batches.

python serving_bare.py MODEL OUTPUT NAMES REQUESTS.npz THREADS SECONDS
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime
from serving_models import Array, Feeds

_BATCHES = (1, 8, 16, 32, 64)


def main() -> None:
    """Measure, and print the figures as JSON."""
    model, output, names, place, threads, seconds = sys.argv[1:]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    with np.load(place) as arrays:
        requests = _requests(json.loads(names), [arrays[name] for name in arrays.files])
    times = _timed(lambda index: session.run([output], requests[index % len(requests)]), float(seconds))
    found = {"p50_ms": 1000 * statistics.median(times), "p99_ms": 1000 * float(np.percentile(times, 99))}
    found["per_second"] = len(times) / sum(times)
    for size in _BATCHES[1:]:
        batch = _batch(requests, size)
        times = _timed(lambda _index: session.run([output], batch), float(seconds) / 4)  # noqa: B023 - called here
        found[f"rows_per_second_{size}"] = size * len(times) / sum(times)
    print(json.dumps(found))


def _requests(names: Sequence[str], arrays: Sequence[Array]) -> list[Feeds]:
    step = len(names)
    return [dict(zip(names, arrays[start : start + step], strict=True)) for start in range(0, len(arrays), step)]


def _batch(requests: Sequence[Feeds], size: int) -> Feeds:
    """As many rows as are alike: those of the first request, where lengths differ."""
    return {name: np.concatenate([array] * size) for name, array in requests[0].items()}


def _timed(run: Callable[[int], object], seconds: float) -> list[float]:
    for index in range(3):
        run(index)
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        run(len(times))
        times.append(time.perf_counter() - began)
    return times


if __name__ == "__main__":
    main()
