"""Warm latency of two resident candidates that take turns, each in its own process.

Why two processes: an idle ONNX Runtime session keeps its threads spinning for a while after a run, and those of one
candidate would take the cores from the other, which no user of either would see. Why turns: a machine's speed drifts,
so a ratio is made from neighbouring turns. A turn is a pause (in which the other's threads go to sleep), inferences
that do not count, and inferences that do. The processor time that the idle processes and everything else on the
machine used meanwhile is kept with each sample, so that a disturbed comparison can be told.

This file is also the program of those processes: python resident.py '{"inputs": ..., "model" or "slices": ...}'
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, cast

from machine import busy, processor_s
from measure import Sample

if TYPE_CHECKING:
    from models import Array, Inputs

    from lamella.engines.opening import EngineName

PAUSE_S = 0.1
UNCOUNTED = 2


@dataclass(frozen=True)
class Candidate:
    """One way to run a model.

    Attributes:
        label: Its name in tables and results.
        settings: What `serve` needs.
    """

    label: str
    settings: dict[str, object]


def take_turns(candidates: Sequence[Candidate], *, rounds: int, inferences: int) -> list[Sample]:
    """Run the candidates A, B, A, B, ...; a sample's seconds are the median latency of a turn."""
    samples: list[Sample] = []
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_process(candidate)) for candidate in candidates]
        for number in range(rounds):
            for process in running:
                time.sleep(PAUSE_S)
                idle = [other for other in running if other is not process]
                sample = _turn(process, idle, inferences)
                samples.append({"round": number, **sample})
    return samples


@dataclass(frozen=True)
class _Running:
    label: str
    process: subprocess.Popen[str]
    requests: IO[str]
    answers: IO[str]

    def ask(self, inferences: int) -> dict[str, float]:
        self.requests.write(f"{inferences}\n")
        self.requests.flush()
        return self.answer()

    def answer(self) -> dict[str, float]:
        line = self.answers.readline()
        if not line:
            raise RuntimeError(f"{self.label}: the process ended with status {self.process.wait()}")
        return dict(json.loads(line))


@contextlib.contextmanager
def _process(candidate: Candidate) -> Iterator[_Running]:
    command = [sys.executable, __file__, json.dumps(candidate.settings)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        running = _Running(candidate.label, process, process.stdin, process.stdout)
        running.answer()
        try:
            yield running
        finally:
            process.stdin.close()


def _turn(process: _Running, idle: Sequence[_Running], inferences: int) -> Sample:
    idle_s, own_s, before = sum(processor_s(other.process.pid) for other in idle), _used_s(process), busy()
    started = time.perf_counter()
    report = process.ask(inferences)
    elapsed_s = time.perf_counter() - started
    disturbance_s = sum(processor_s(other.process.pid) for other in idle) - idle_s
    return {
        "label": process.label,
        "elapsed_s": elapsed_s,
        "seconds": report["seconds"],
        "others_share": before.others_share(own_s=_used_s(process) - own_s),
        "facts": {"answer": report["answer"], "idle_processor_share": round(disturbance_s / elapsed_s, 3)},
    }


def _used_s(process: _Running) -> float:
    return processor_s(process.process.pid) + time.process_time()


def serve(settings: dict[str, object]) -> None:
    """Load a candidate, then answer each line `N` on standard input with the median latency of N inferences."""
    import numpy as np

    with np.load(str(settings["inputs"])) as file:
        tensors = dict(file)
    infer = _loaded(settings)
    infer(tensors)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(_latency(lambda: infer(tensors), int(line))), flush=True)


def _loaded(settings: dict[str, object]) -> Callable[[Inputs], Array]:
    """The first output of a candidate, as a function of its inputs."""
    threads = int(str(settings["threads"]))
    if "model" in settings:
        from pipeline_jobs import whole_session

        session = whole_session(str(settings["model"]), threads=threads, optimised=bool(settings["optimised"]))
        return lambda tensors: session.run(None, tensors)[0]
    import lamella

    engine = cast("EngineName | None", settings.get("engine"))
    running = lamella.Pipeline(str(settings["slices"]), threads=threads, engine=engine)
    return lambda tensors: next(iter(running.infer(tensors).values()))


def _latency(infer: Callable[[], Array], inferences: int) -> dict[str, float]:
    from statistics import median

    from pipeline_jobs import digest

    seconds = []
    for _ in range(UNCOUNTED):
        infer()
    for _ in range(inferences):
        started = time.perf_counter()
        answer = infer()
        seconds.append(time.perf_counter() - started)
    return {"seconds": median(seconds), "answer": digest(answer)}


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
