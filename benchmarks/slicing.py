"""How long it takes, and how much memory, to turn a model into slice files: Lamella, onnx, ssp4onnx and `cp`.

python benchmarks/slicing.py            # all models, all numbers of slices: more than an hour, 25 GB of disk
python benchmarks/slicing.py --quick    # ResNet-50 in 2 and 4 slices, two rounds: a minute
python benchmarks/slicing.py --models bert-large --slices 16 --only lamella --only cp
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import models
from measure import Job, compare, measure, rehearse
from models import BenchModel
from results import ROOT, Claim, Finding, Group, evaluate, save
from tables import print_findings, print_groups, print_sample

MODELS = ("resnet50", "vgg19", "bert-large", "transformer-5gb")
ROUNDS = {"resnet50": 7, "vgg19": 5, "bert-large": 5, "transformer-5gb": 3}
SLICES = (2, 4, 8, 16)
FASTER_THAN_ONE_EXTRACTOR = {"resnet50": 15.0, "bert-large": 100.0, "transformer-5gb": 1000.0}
MEMORY_LIMIT_BYTES = 64 * 2**20

REFERENCE, COPY, CP = "lamella by reference", "lamella copy_weights", "cp"
EXTRACTOR, EXTRACT_MODEL, SSP4ONNX = "onnx one Extractor", "onnx extract_model", "ssp4onnx"
LABELS = (REFERENCE, COPY, CP, EXTRACTOR, EXTRACT_MODEL, SSP4ONNX)
PEERS = ("ssp4onnx==1.0.4", "onnx-graphsurgeon==0.5.8")


def jobs(model: BenchModel, slices: int, settings: argparse.Namespace) -> list[Job]:
    """All ways to slice one model, cutting at Lamella's places where they can be told to."""
    output = settings.cache.parent / "bench-work" / model.name
    path, directory = str(model.path), str(output)
    planned = {"model": path, "directory": directory, "boundaries": boundaries(model, slices)}
    ours = {"model": path, "directory": directory, "slices": slices}
    weights = [str(file) for file in model.files if file.suffix == ".data"] or [path]
    part_kib = model.size_bytes // slices // 1024
    functions: list[tuple[str, str, dict[str, object]]] = [
        (REFERENCE, "lamella_slices", {**ours, "copy_weights": False}),
        (COPY, "lamella_slices", {**ours, "copy_weights": True}),
        (CP, "copy_of_the_weights", {"files": weights, "directory": directory}),
        (EXTRACTOR, "onnx_one_extractor", planned),
        (EXTRACT_MODEL, "onnx_extract_model", planned),
        (SSP4ONNX, "ssp4onnx_split", {"model": path, "directory": directory, "part_kib": part_kib}),
    ]
    every = [
        Job(label, "slicing_jobs", function, arguments, reads=model.files, output=output, budget_s=settings.budget)
        for label, function, arguments in functions
    ]
    every[-1] = replace(every[-1], python=settings.peers_python)
    return [job for job in every if wanted(job.label, settings.only)]


def boundaries(model: BenchModel, slices: int) -> object:
    """Inputs and outputs of each slice in Lamella's plan."""
    sample = measure(Job("plan", "slicing_jobs", "boundaries", {"model": str(model.path), "slices": slices}))
    if "error" in sample:
        sys.exit(f"error: {model.name} cannot be planned in {slices} slices: {sample['error']}")
    return sample["facts"]["boundaries"]


def claims(model: str) -> Iterator[Claim]:
    """What is to be shown for each model and number of slices."""
    target = FASTER_THAN_ONE_EXTRACTOR.get(model)
    yield Claim("one Extractor's time / by reference", "seconds", EXTRACTOR, REFERENCE, at_least=target)
    yield Claim("extract_model's time / by reference", "seconds", EXTRACT_MODEL, REFERENCE)
    yield Claim("ssp4onnx's time / by reference", "seconds", SSP4ONNX, REFERENCE)
    yield Claim("copy_weights' time / cp", "seconds", COPY, CP, at_most=1.1)
    for label in LABELS:
        limit = 25.0 if label == REFERENCE else None
        text = f"{label}: peak above the imports"
        yield Claim(text, "peak_above_imports_bytes", label, at_most=limit, divisor=1e6, unit="MB")


def run(settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """Measure everything that was asked for."""
    groups, findings = [], []
    preloads = {job.label: rehearse(job) for job in jobs(models.make("resnet50", settings.cache), 2, settings)}
    for name in settings.models:
        model = models.make(name, settings.cache)
        for slices in settings.slices:
            print(f"{name}, {slices} slices", flush=True)
            chosen = [replace(job, preload=preloads[job.label]) for job in jobs(model, slices, settings)]
            rounds = settings.rounds or ROUNDS[name]
            samples = compare(chosen, rounds=rounds, once_above_s=settings.once_above, report=print_sample)
            groups.append(Group(name="slicing", model=name, slices=slices, samples=samples))
            labels = {job.label for job in chosen}
            findings += [evaluate(c, groups[-1]) for c in claims(name) if {c.of, c.to or c.of} <= labels]
        group, finding = in_little_memory(model, settings)
        groups.append(group)
        findings.append(finding)
    shutil.rmtree(settings.cache.parent / "bench-work", ignore_errors=True)
    return groups, findings


def in_little_memory(model: BenchModel, settings: argparse.Namespace) -> tuple[Group, Finding]:
    """The whole process, imports included, in a small memory cgroup; the model's pages are charged to it, too."""
    slices, limit_mib = max(settings.slices), MEMORY_LIMIT_BYTES // 2**20
    print(f"{model.name}, {slices} slices, in a memory cgroup of {limit_mib} MiB", flush=True)
    limited = [
        replace(job, memory_limit_bytes=MEMORY_LIMIT_BYTES, cache="cold")
        for job in jobs(model, slices, settings)
        if job.label in {REFERENCE, EXTRACTOR}
    ]
    samples = compare(limited, rounds=1, report=print_sample)
    group = Group(name="in a memory cgroup", model=model.name, slices=slices, samples=samples)
    text = f"by reference, cgroup of {limit_mib} MiB: peak charged"
    claim = Claim(text, "cgroup_peak_bytes", REFERENCE, at_most=limit_mib, divisor=2**20, unit="MiB")
    return group, evaluate(claim, group)


def wanted(label: str, only: Sequence[str]) -> bool:
    """Whether a job is among those that `--only` asks for."""
    return not only or any(part in label for part in only)


def peers_python(given: Path | None) -> Path:
    """The interpreter of the peers' environment, which is made first where it is missing.

    ssp4onnx wants older versions of NumPy and onnx than Lamella does.
    """
    if given is not None:
        return given
    folder = ROOT / ".venv-peers"
    python = folder / "bin" / "python"
    if not python.exists():
        print(f"Making {folder.name} for {', '.join(PEERS)}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    return python


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=tuple(models.RECIPES), default=MODELS)
    parser.add_argument("--slices", nargs="+", type=int, default=SLICES)
    parser.add_argument("--only", action="append", default=[], help="jobs whose name contains this; may be repeated")
    parser.add_argument("--rounds", type=int, help="rounds of A, B, A, B (default: 7 for small models, 3 for large)")
    parser.add_argument("--budget", type=float, default=300.0, help="seconds after which a run is stopped")
    parser.add_argument("--once-above", type=float, default=90.0, help="runs longer than these seconds are made once")
    parser.add_argument("--quick", action="store_true", help="ResNet-50 in 2 and 4 slices, two rounds")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--peers-python", type=Path, help="interpreter that has ssp4onnx (default: makes .venv-peers)")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/slicing.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.models, settings.slices, settings.rounds = ("resnet50",), (2, 4), 2
    return settings


def main() -> None:
    """Measure, print the tables, write the results file."""
    settings = arguments()
    settings.peers_python = peers_python(settings.peers_python)
    groups, findings = run(settings)
    print_groups(groups)
    print_findings(findings)
    default = ROOT / "benchmarks" / "results" / f"slicing{'-quick' if settings.quick else ''}.json"
    digests = {name: models.make(name, settings.cache).sha256 for name in settings.models}
    kept = {key: value for key, value in vars(settings).items() if not isinstance(value, Path)}
    save(
        settings.output or default,
        benchmark="slicing",
        settings=kept | {"page_cache": "warm, except in the memory cgroup"},
        digests=digests,
        groups=groups,
        findings=findings,
    )


if __name__ == "__main__":
    main()
