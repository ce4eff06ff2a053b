"""What slices cost and save at run time, against the whole model in plain ONNX Runtime.

    python benchmarks/pipeline.py                      # everything: about half an hour
    python benchmarks/pipeline.py --quick              # ResNet-50 in 2 and 4 slices: a minute
    python benchmarks/pipeline.py --parts resident     # or: fresh, first

`resident`: warm latency of resident slices. `fresh`: a new process that loads and answers once, its time and its peak
memory above the imports. `first`: the same including the start of Python and the imports.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import models
from measure import Job, Sample, compare, rehearse
from models import BenchModel
from prepared import Prepared
from resident import Candidate, take_turns
from results import ROOT, Claim, Finding, Group, Metric, evaluate, save
from tables import print_findings, print_groups, print_sample

MODELS = ("resnet50", "bert-base", "bert-large")
SLICES = (2, 4, 8, 16)
FIRST_SLICES = 4
INFERENCES = {"resnet50": 20, "bert-base": 10, "bert-large": 4}
RESIDENT_AT_MOST = {2: 1.05, 4: 1.05, 8: 1.05, 16: 1.08}
OPTIMISED_AT_MOST = 1.04
FIRST_AT_MOST = {"resnet50": 0.4, "bert-large": 0.25}
LOW_MEMORY_TARGETS = ("bert-large", 16)  # time and memory are promised for this model in so many slices
SAME_ANSWER = 1e-3

WHOLE, AGAIN, RESIDENT = "whole", "whole again", "resident slices"
OPTIMISED_WHOLE, OPTIMISED = "optimised whole", "optimised slices"
BY_REFERENCE, LOW_MEMORY = "whole by reference", "low-memory slices"


def resident(prepared: Prepared, settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """Warm latency, resident slices against the whole; first the whole against itself, which shows the noise."""
    name, base = prepared.model.name, {"inputs": str(prepared.inputs), "threads": prepared.threads}
    whole_settings = {**base, "model": str(prepared.model.path), "optimised": False}
    optimised_settings = {**base, "model": str(prepared.optimised()), "optimised": True}
    whole, optimised = Candidate(WHOLE, whole_settings), Candidate(OPTIMISED_WHOLE, optimised_settings)
    rounds, inferences = settings.rounds or 20, INFERENCES.get(name, 4)
    groups: list[Group] = []
    findings: list[Finding] = []

    def add(slices: int | None, candidates: list[Candidate], *claims: Claim) -> None:
        samples = take_turns(candidates, rounds=rounds, inferences=inferences)
        check_answers(samples)
        groups.append(Group(name="resident", model=name, slices=slices, samples=samples))
        for claim in claims:
            findings.append(evaluate(claim, groups[-1]))
            print(f"  {slices or ''} {claim.text}: {findings[-1]['value']:.3f}", flush=True)

    add(None, [whole, Candidate(AGAIN, whole_settings)], _latency(AGAIN, WHOLE))
    for slices in settings.slices:
        plain = Candidate(RESIDENT, {**base, "slices": str(prepared.slices(slices))})
        add(slices, [whole, plain], _latency(RESIDENT, WHOLE, RESIDENT_AT_MOST.get(slices)))
        ready = Candidate(OPTIMISED, {**base, "slices": str(prepared.slices(slices, optimised=True))})
        against_optimised = _latency(OPTIMISED, OPTIMISED_WHOLE, OPTIMISED_AT_MOST)
        add(slices, [optimised, ready, whole], against_optimised, _latency(OPTIMISED, WHOLE))
    return groups, findings


def _latency(of: str, to: str, at_most: float | None = None) -> Claim:
    return Claim(f"{of} / {to}, latency", "seconds", of, to, at_most=at_most)


def fresh(prepared: Prepared, settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """A new process that loads, answers once, and never runs again."""
    groups: list[Group] = []
    findings: list[Finding] = []
    for slices in settings.slices:
        directory = prepared.slices(slices)
        jobs = [
            prepared.whole_job(WHOLE),
            prepared.pipeline_job(BY_REFERENCE, prepared.model.path, low_memory=True),
            prepared.pipeline_job(LOW_MEMORY, directory, low_memory=True),
        ]
        samples = _compared(jobs, settings, preload=True)
        groups.append(Group(name="fresh process", model=prepared.model.name, slices=slices, samples=samples))
        claims = _fresh_claims(prepared.model, slices, _largest_slice_bytes(directory))
        findings += [evaluate(claim, groups[-1]) for claim in claims]
    return groups, findings


def _fresh_claims(model: BenchModel, slices: int, largest_slice_bytes: int) -> list[Claim]:
    targeted = (model.name, slices) == LOW_MEMORY_TARGETS
    peak: Metric = "peak_above_imports_bytes"

    def target(value: float) -> float | None:
        return value if targeted else None

    return [
        Claim("low-memory / whole, time", "seconds", LOW_MEMORY, WHOLE, at_most=target(0.35)),
        Claim("low-memory / whole, peak memory", peak, LOW_MEMORY, WHOLE, at_most=target(0.10)),
        Claim("low-memory / by reference, time", "seconds", LOW_MEMORY, BY_REFERENCE, at_most=target(1.15)),
        Claim("by reference / whole, time", "seconds", BY_REFERENCE, WHOLE),
        Claim("by reference / whole, peak memory", peak, BY_REFERENCE, WHOLE),
        Claim(
            "low-memory: (peak - activations) / largest slice",
            peak,
            LOW_MEMORY,
            at_most=1.1 if model.name == LOW_MEMORY_TARGETS[0] else None,
            offset=model.activation_bytes,
            divisor=largest_slice_bytes,
        ),
    ]


def _largest_slice_bytes(directory: Path) -> int:
    manifest = json.loads((directory / "slices.json").read_text())
    return max(int(part["weights_bytes"]) for part in manifest["slices"])


def first(prepared: Prepared, settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """From the start of the process to the first answer: what a cold start adds."""
    directory = prepared.slices(FIRST_SLICES, optimised=True)
    low, warm = f"optimised {LOW_MEMORY}", f"optimised {RESIDENT}"
    jobs = [
        prepared.whole_job(WHOLE),
        prepared.pipeline_job(low, directory, low_memory=True),
        prepared.pipeline_job(warm, directory, low_memory=False),
    ]
    samples = _compared(jobs, settings, preload=False)
    group = Group(name="first inference", model=prepared.model.name, slices=FIRST_SLICES, samples=samples)
    target = FIRST_AT_MOST.get(prepared.model.name)
    claims = [
        Claim(f"{label} / whole, first", "seconds_since_start", label, WHOLE, at_most=target) for label in (low, warm)
    ]
    return [group], [evaluate(claim, group) for claim in claims]


def _compared(jobs: Sequence[Job], settings: argparse.Namespace, *, preload: bool) -> list[Sample]:
    """Run jobs in turn, after one run of each that does not count and shows what it imports late."""
    late = [rehearse(job) for job in jobs]
    if preload:
        jobs = [replace(job, preload=modules) for job, modules in zip(jobs, late, strict=True)]
    samples = compare(jobs, rounds=settings.rounds or 10, report=print_sample)
    check_answers(samples)
    return samples


def check_answers(samples: Sequence[Sample]) -> None:
    """A fast wrong answer is no result."""
    answers = {s["label"]: float(str(s["facts"]["answer"])) for s in samples if "facts" in s}
    expected = next(iter(answers.values()), 0.0)
    wrong = [label for label, answer in answers.items() if abs(answer - expected) > SAME_ANSWER * abs(expected)]
    if wrong:
        sys.exit(f"error: another answer than the whole model's: {', '.join(wrong)}")


PARTS: dict[str, Callable[[Prepared, argparse.Namespace], tuple[list[Group], list[Finding]]]] = {
    "resident": resident,
    "fresh": fresh,
    "first": first,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=tuple(models.RECIPES), default=MODELS)
    parser.add_argument("--slices", nargs="+", type=int, default=SLICES)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--rounds", type=int, help="rounds of A, B, A, B (default: 20 resident, 10 fresh)")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--threads", type=int, default=cores, help="threads of every candidate (default: the cores)")
    parser.add_argument("--quick", action="store_true", help="ResNet-50 in 2 and 4 slices, three rounds")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/pipeline.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.models, settings.slices, settings.rounds = ("resnet50",), (2, 4), 3
    return settings


def main() -> None:
    """Measure, print the tables, write the results file."""
    settings = arguments()
    groups: list[Group] = []
    findings: list[Finding] = []
    for name in settings.models:
        prepared = Prepared(models.make(name, settings.cache), cache=settings.cache, threads=settings.threads)
        for part in settings.parts:
            print(f"{name}, {part}", flush=True)
            new_groups, new_findings = PARTS[part](prepared, settings)
            groups += new_groups
            findings += new_findings
    shutil.rmtree(settings.cache.parent / "bench-work", ignore_errors=True)
    print_groups(groups)
    print_findings(findings)
    default = ROOT / "benchmarks" / "results" / f"pipeline{'-quick' if settings.quick else ''}.json"
    digests = {name: models.make(name, settings.cache).sha256 for name in settings.models}
    kept = {key: value for key, value in vars(settings).items() if not isinstance(value, Path)}
    save(
        settings.output or default,
        benchmark="pipeline",
        settings=kept | {"page_cache": "warm"},
        digests=digests,
        groups=groups,
        findings=findings,
    )


if __name__ == "__main__":
    main()
