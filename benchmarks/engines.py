"""The same models in ONNX Runtime, OpenVINO and OpenCV: warm latency, taking turns.

    python benchmarks/engines.py                       # some minutes
    python benchmarks/engines.py --quick               # MiniLM alone: a minute

Each engine runs the whole model through `lamella.Pipeline`, in a process of its own, in FP32. Every ratio is to ONNX
Runtime; ONNX Runtime against itself shows the noise.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import models
from pipeline import check_answers
from prepared import Prepared
from resident import Candidate, take_turns
from results import ROOT, Claim, Finding, Group, evaluate, save
from tables import print_findings, print_groups

MODELS = ("minilm", "resnet50")
INFERENCES = {"minilm": 30, "resnet50": 20}
BASE, AGAIN = "onnxruntime", "onnxruntime again"
OTHERS = (AGAIN, "openvino", "opencv")


def measured(prepared: Prepared, rounds: int) -> tuple[Group, list[Finding]]:
    """All engines on one model."""
    base = {"inputs": str(prepared.inputs), "threads": prepared.threads, "slices": str(prepared.model.path)}
    candidates = [Candidate(label, {**base, "engine": label.partition(" ")[0]}) for label in (BASE, *OTHERS)]
    samples = take_turns(candidates, rounds=rounds, inferences=INFERENCES.get(prepared.model.name, 10))
    check_answers(samples)
    group = Group(name="engines", model=prepared.model.name, slices=None, samples=samples)
    claims = [Claim(f"{label} / {BASE}, latency", "seconds", label, BASE) for label in OTHERS]
    return group, [evaluate(claim, group) for claim in claims]


def main() -> None:
    """Measure, print the tables, write the results file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=tuple(models.RECIPES), default=MODELS)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of every engine")
    parser.add_argument("--quick", action="store_true", help="MiniLM alone, five rounds")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/engines.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.models, settings.rounds = MODELS[:1], 5
    groups: list[Group] = []
    findings: list[Finding] = []
    made = {name: models.make(name, settings.cache) for name in settings.models}
    for name, model in made.items():
        print(name, flush=True)
        group, found = measured(Prepared(model, cache=settings.cache, threads=settings.threads), settings.rounds)
        groups.append(group)
        findings += found
    shutil.rmtree(settings.cache.parent / "bench-work", ignore_errors=True)
    print_groups(groups)
    print_findings(findings)
    save(
        settings.output or ROOT / "benchmarks" / "results" / f"engines{'-quick' if settings.quick else ''}.json",
        benchmark="engines",
        settings={key: value for key, value in vars(settings).items() if not isinstance(value, Path)},
        digests={name: model.sha256 for name, model in made.items()},
        groups=groups,
        findings=findings,
    )


if __name__ == "__main__":
    main()
