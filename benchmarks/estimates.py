"""Estimated against measured: time, start and memory of functions, and the order of plans.

    python benchmarks/estimates.py                      # everything: about half an hour
    python benchmarks/estimates.py --quick              # three small models, one round: two minutes
    python benchmarks/estimates.py --parts functions    # or: plans
    python benchmarks/estimates.py --estimate-again     # after a change of the model: new estimates, nothing measured
    python benchmarks/estimates.py --document           # rewrite the tables in the docs from the results file

`functions`: each model as one function, at four memory sizes. `plans`: models whole and as chains of slices, at two
sizes, and whether the estimates put them in the order that was measured.

The limits are real: each function is a process in a cgroup with the memory of its size and the share of a processor
that AWS Lambda gives with it. Needs root with cgroup v1, or a delegated cgroup v2.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, cast

import models
from chain import Slices, Transport, measure_chain, measure_transport
from estimates_report import conclusions, documented
from function import FunctionError
from measure import Sample
from prediction import Predictor, profile_of
from results import ROOT, Group, save, save_again
from tables import print_findings

if TYPE_CHECKING:
    from lamella.planner.plan import Plan

MODELS = ("mobilenet-v1", "squeezenet", "resnet18", "resnet50", "minilm", "distilbert", "bert-base", "gpt2", "vgg19")
QUICK = ("squeezenet", "resnet18", "minilm")
MEMORY_MB = (512, 768, 1024, 1536, 1769, 2240, 3008)
SIZES = 4
PLAN_MODELS = ("mobilenet-v1", "resnet18", "resnet50", "minilm", "distilbert", "gpt2")
PLAN_SLICES = (1, 2, 4, 8)
PLAN_MEMORY_MB = (1024, 1769)
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "concepts" / "estimates.md"


class Subject:
    """One model: its slices on disk, and what is estimated of them."""

    def __init__(self, name: str, settings: argparse.Namespace, transport: Transport) -> None:
        self.model = models.make(name, settings.cache)
        self._folder = settings.cache.parent / "bench-work" / name
        self._slices: dict[int, Slices] = {}
        profile = profile_of(self.model, again=not settings.keep_profiles)
        self._with_profile = Predictor(self.model, profile=profile, transport=transport)
        self._without = Predictor(self.model, profile=None, transport=transport)

    def slices(self, count: int) -> Slices:
        """The model in so many slices."""
        return self._slices.setdefault(count, Slices(self.model, count, self._folder / f"functions-{count}"))

    def measure(self, count: int, memory_mb: int, *, number: int, requests: int) -> Sample:
        """One sample of `count` functions of a size, with the estimates beside it."""
        slices, sizes = self.slices(count), [memory_mb] * count
        label = f"{memory_mb} MB" if count == 1 else f"{count} x {memory_mb} MB"
        try:
            sample = measure_chain(slices, sizes, requests=requests)
            self.estimate(sample, slices.plan)
        except FunctionError as error:
            sample = {"error": str(error)}
        sample |= {"label": label, "round": number}
        print(f"  {label:14}{_line(sample)}", flush=True)
        return sample

    def estimate(self, sample: Sample, plan: Plan) -> None:
        """Put the estimates for a sample's functions beside what was measured of them."""
        sizes = cast("list[int]", sample["facts"]["memory_mb"])
        sample["facts"] |= {
            "estimated": asdict(self._with_profile.predict(plan, sizes)),
            "estimated_without_profile": asdict(self._without.predict(plan, sizes)),
        }

    def holding(self, sizes: Sequence[int]) -> list[int]:
        """The sizes that hold the model in one function."""
        least = self.slices(1).plan.slices[0].memory_mb
        return [size for size in sizes if size >= least]

    def remove(self) -> None:
        """Delete its slices."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _line(sample: Sample) -> str:
    if "error" in sample:
        return sample["error"]
    estimated = sample["facts"]["estimated"]
    assert isinstance(estimated, dict)
    pairs = (
        ("ms", 1000 * sample["seconds"], estimated["warm_ms"]),
        ("ms to start", 1000 * sample["seconds_since_start"], estimated["init_ms"]),
        ("MB", sample["peak_bytes"] / 2**20, sum(estimated["peak_bytes"]) / 2**20),
    )
    return "   ".join(f"{measured:8.1f} {unit} (estimated {guess:.1f})" for unit, measured, guess in pairs)


def functions(subject: Subject, settings: argparse.Namespace) -> list[Group]:
    """One function at several sizes."""
    sizes = _spread(subject.holding(settings.memory), SIZES)
    samples = [
        subject.measure(1, size, number=number, requests=settings.requests)
        for number in range(settings.rounds)
        for size in sizes
    ]
    return [Group(name="function", model=subject.model.name, slices=1, samples=samples)]


def plans(subject: Subject, settings: argparse.Namespace) -> list[Group]:
    """The model whole and in slices, at the sizes that hold it whole."""
    if subject.model.name not in settings.plan_models:
        return []
    sizes = subject.holding(settings.plan_memory)
    samples = [
        subject.measure(count, size, number=number, requests=settings.requests)
        for number in range(settings.rounds)
        for count in settings.slices
        for size in sizes
    ]
    return [Group(name="plan", model=subject.model.name, slices=None, samples=samples)]


def _spread(sizes: Sequence[int], count: int) -> list[int]:
    """At most `count` of `sizes`, from the first to the last."""
    if len(sizes) <= count:
        return list(sizes)
    return [sizes[round(index * (len(sizes) - 1) / (count - 1))] for index in range(count)]


PARTS: dict[str, Callable[[Subject, argparse.Namespace], list[Group]]] = {"functions": functions, "plans": plans}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=tuple(models.RECIPES), default=MODELS)
    parser.add_argument("--plan-models", nargs="+", choices=tuple(models.RECIPES), default=PLAN_MODELS)
    parser.add_argument("--memory", nargs="+", type=int, default=MEMORY_MB, help="sizes to choose four from, in MB")
    parser.add_argument("--plan-memory", nargs="+", type=int, default=PLAN_MEMORY_MB, help="sizes for plans, in MB")
    parser.add_argument("--slices", nargs="+", type=int, default=PLAN_SLICES)
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--rounds", type=int, default=2, help="how often each function is started")
    parser.add_argument("--requests", type=int, default=20, help="requests to idle functions in each round")
    parser.add_argument("--keep-profiles", action="store_true", help="use the profiles that lie beside the models")
    parser.add_argument("--quick", action="store_true", help=f"{', '.join(QUICK)}: one round")
    parser.add_argument("--estimate-again", action="store_true", help="measure nothing: new estimates in the results")
    parser.add_argument("--document", action="store_true", help="measure nothing: the docs' tables from the results")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/estimates.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.models, settings.rounds, settings.requests = QUICK, 1, 10
    settings.output = settings.output or RESULTS / f"estimates{'-quick' if settings.quick else ''}.json"
    return settings


def main() -> None:
    """Measure, write the results file, and the tables in the docs."""
    settings = arguments()
    if settings.document:
        PAGE.write_text(documented(PAGE.read_text(), json.loads(settings.output.read_text())))
        return
    if settings.estimate_again:
        estimate_again(settings)
        return
    try:
        transport = measure_transport(settings.cache.parent / "bench-work" / "identity")
    except OSError as error:
        sys.exit(f"error: {error}")
    print(f"a hop takes {transport.hop_ms:.3f} ms, and {transport.mb_s:,.0f} MB/s", flush=True)
    groups: list[Group] = []
    for name in settings.models:
        subject = Subject(name, settings, transport)
        for part in settings.parts:
            print(f"{name}, {part}", flush=True)
            groups += PARTS[part](subject, settings)
        subject.remove()
        _save(groups, settings, transport)
    print_findings(conclusions(groups))
    print(f"written: {settings.output}; `--document` brings it into the docs")


def estimate_again(settings: argparse.Namespace) -> None:
    """New estimates, by the profiles that lie beside the models, beside what a results file has measured."""
    import lamella

    results = json.loads(settings.output.read_text())
    transport = Transport(**results["settings"]["transport"])
    groups: list[Group] = results["groups"]
    settings.keep_profiles = True
    subjects = {name: Subject(name, settings, transport) for name in {group["model"] for group in groups}}
    for group in groups:
        subject = subjects[group["model"]]
        for sample in group["samples"]:
            if "error" not in sample:
                count = len(cast("list[int]", sample["facts"]["memory_mb"]))
                subject.estimate(sample, lamella.plan(subject.model.path, slices=count))
    findings = conclusions(groups)
    save_again(settings.output, results, groups=groups, findings=findings)
    print_findings(findings)


def _save(groups: list[Group], settings: argparse.Namespace, transport: Transport) -> None:
    kept = {key: value for key, value in vars(settings).items() if not isinstance(value, Path)}
    save(
        settings.output,
        benchmark="estimates",
        settings=kept | {"transport": asdict(transport)},
        digests={group["model"]: models.make(group["model"], settings.cache).sha256 for group in groups},
        groups=groups,
        findings=conclusions(groups),
    )


if __name__ == "__main__":
    main()
