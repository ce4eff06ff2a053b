"""The model server against others: throughput, latency, memory and start, side by side on this machine.

    python benchmarks/serving.py                       # all models, all servers: a quarter of an hour
    python benchmarks/serving.py --quick               # does it work here: three minutes
    python benchmarks/serving.py --models tiny --servers Lamella FastAPI
    python benchmarks/serving.py --document            # rewrite the tables in the docs from the results file

`make servers` installs the others, each in an environment of its own. All have the same model file, the same number
of threads and the same client; their programs are in `peers/`, each as its documentation says. In each round the
servers take turns: each is started, its answers are checked against the engine's, one client asks, then 16, then 64,
then requests come at random times at half of what it has just managed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from pathlib import Path

import models
from machine import busy
from measure import Sample
from platform_setting import metered, percentile, tree_processor_s
from results import ROOT, Group, save, save_again
from serving_models import DENSE, IMAGES, TEXTS, TINY, Subject, check, engine_answers, subject
from serving_report import conclusions, documented
from serving_servers import BARE, CANDIDATES, LAMELLA, UNBATCHED, Candidate, Running, bare, import_s
from tables import print_findings

MODELS = (TINY, DENSE, TEXTS, IMAGES)
SECONDS = {TINY: 0.6, DENSE: 0.8, TEXTS: 1.2, IMAGES: 2.5}
"""How long each load lasts."""

CLIENTS = (1, 16, 64)
WARM_S = 0.3
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "concepts" / "serving-measured.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--servers", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default: 3; with `--quick` 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="loads last so many times as long")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of an operator, for all")
    parser.add_argument("--quick", action="store_true", help="one round of short loads")
    parser.add_argument("--shared", action="store_true", help="say in the results that others used the machine")
    parser.add_argument("--document", action="store_true", help="measure nothing: the docs' tables from the results")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/serving.json)")
    settings = parser.parse_args()
    settings.rounds = settings.rounds or (1 if settings.quick else 3)
    if settings.quick:
        settings.scale = 0.5
    settings.output = settings.output or RESULTS / f"serving{'-quick' if settings.quick else ''}.json"
    return settings


def main() -> None:
    """Measure, print the findings, write the results file."""
    settings = arguments()
    if settings.document:
        results = json.loads(settings.output.read_text())
        results["findings"] = conclusions(results["groups"])
        save_again(settings.output, results, groups=results["groups"], findings=results["findings"])
        PAGE.write_text(documented(PAGE.read_text(), results))
        return
    wanted = [one for one in CANDIDATES if not settings.servers or one.label in settings.servers]
    missing = [one.label for one in wanted if not one.is_there]
    if missing:
        print(f"not there (`make servers` installs them): {', '.join(missing)}")
    folder = settings.cache.parent / "bench-work" / f"serving-{os.getpid()}"
    groups: list[Group] = []
    subjects: list[Subject] = []
    present = [one for one in wanted if one.is_there]
    try:
        groups.append(_imports(present, settings.rounds))
        subjects = [subject(name, settings.cache, folder) for name in settings.models]
        groups += [Group(name="served", model=one.name, slices=None, samples=[]) for one in subjects]
        for number in range(settings.rounds):
            for one, group in zip(subjects, groups[1:], strict=True):
                print(one.name, flush=True)
                _measure(one, present, settings, folder, number, group["samples"])
                _save(groups, subjects, settings, missing)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print_findings(conclusions(groups))
    print(f"written: {settings.output}; `--document` brings it into the docs")


def _imports(candidates: list[Candidate], rounds: int) -> Group:
    samples = []
    for number in range(rounds):
        for candidate in candidates:
            if candidate.label != UNBATCHED:
                with metered(f"import {candidate.package}", number) as sample:
                    sample["label"], sample["seconds"] = candidate.label, import_s(candidate)
                samples.append(sample)
    return Group(name="import", model="", slices=None, samples=samples)


def _measure(
    served: Subject,
    candidates: list[Candidate],
    settings: argparse.Namespace,
    folder: Path,
    number: int,
    samples: list[Sample],
) -> None:
    """Every server in turn, once; one that has failed does not run again."""
    wanted = engine_answers(served, settings.threads)
    seconds = settings.scale * SECONDS[served.name]
    failed = {sample["label"] for sample in samples if "error" in sample}
    with metered(BARE, number) as sample:
        found = bare(served, settings.threads, seconds)
        sample["seconds"] = found["p50_ms"] / 1000
        sample["facts"] = {key: round(value, 4) for key, value in found.items()}
    samples.append(sample)
    for candidate in candidates:
        if candidate.label in failed:
            continue
        with metered(candidate.label, number) as sample:
            try:
                running = Running(candidate, served, threads=settings.threads, folder=folder / candidate.label)
                with running:
                    check(candidate.label, served, wanted, running.answers())
                    share = _fill(
                        sample, running, seconds, _best_peer(samples, number) if _is_last(candidate) else None
                    )
            except (RuntimeError, OSError) as error:
                if "wrong answer" in str(error):
                    raise
                sample["error"] = str(error)
                failed.add(candidate.label)
        if "error" not in sample:
            sample["others_share"] = share
        samples.append(sample)


def _is_last(candidate: Candidate) -> bool:
    return candidate.label == LAMELLA


def _best_peer(samples: list[Sample], number: int) -> float | None:
    """Half of what the best peer has just managed."""
    peers = [s for s in samples if s["round"] == number and "error" not in s and s["label"] not in (BARE, UNBATCHED)]
    return max((float(str(s["facts"]["open_rate"])) for s in peers), default=None)


def _fill(sample: Sample, running: Running, seconds: float, peer_rate: float | None) -> float:
    """The loads one after the other; the median of one client alone counts as `seconds`.

    Returns the share of the processors that others used. It is taken while the server lives: what its processes have
    used is lost with those that end after their parents.
    """
    before, own_s = busy(), tree_processor_s()
    facts: dict[str, object] = {"start_s": round(running.started_s, 3)}
    running.closed(16, WARM_S)
    for clients in CLIENTS:
        used_s = running.processor_s()
        load = running.closed(clients, seconds)
        used_s = running.processor_s() - used_s
        facts[f"processor_ms_{clients}"] = round(1000 * used_s / len(load["latencies"]), 4)
        facts[f"per_second_{clients}"] = round(len(load["latencies"]) / load["seconds"], 2)
        facts |= _percentiles(load["latencies"], str(clients))
    facts["memory_bytes"] = running.memory_bytes()
    capacity = max(float(str(facts[f"per_second_{clients}"])) for clients in CLIENTS[1:])
    facts["open_rate"] = round(capacity / 2, 2)
    facts |= _percentiles(running.open(capacity / 2, 1.5 * seconds, sample["round"])["latencies"], "open")
    if peer_rate:
        load = running.open(peer_rate, 1.5 * seconds, sample["round"])
        facts |= _percentiles(load["latencies"], "open_as_peer")
    sample["seconds"] = float(str(facts["p50_ms_1"])) / 1000
    sample["facts"] = facts
    return before.others_share(own_s=tree_processor_s() - own_s)


def _percentiles(latencies: list[float], name: str) -> dict[str, float]:
    return {f"p{one}_ms_{name}": round(1000 * percentile(latencies, one), 4) for one in (50, 99)} | {
        f"requests_{name}": len(latencies)
    }


def _save(groups: list[Group], subjects: list[Subject], settings: argparse.Namespace, missing: list[str]) -> None:
    told = {key: value for key, value in vars(settings).items() if not isinstance(value, Path)}
    save(
        settings.output,
        benchmark="serving",
        settings=told | {"not_there": missing},
        digests={one.name: one.sha256 for one in subjects},
        groups=groups,
        findings=conclusions(groups),
    )


if __name__ == "__main__":
    main()
