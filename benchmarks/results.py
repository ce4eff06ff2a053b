"""Results files: what ran, where, how, every sample, the ratios of paired runs, and a verdict for each target."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypedDict

from measure import Sample

SCHEMA = "lamella.benchmark/1"
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("lamella", "onnx", "onnxruntime", "onnx-ir", "numpy", "openvino", "opencv-python-headless")

DISTURBED_SHARE = 0.1  # others used more than this share of all processors: the run counts as disturbed
DISTURBED_RUNS = 0.2  # more than this share of runs disturbed: no verdict

Metric = Literal["seconds", "seconds_since_start", "peak_bytes", "peak_above_imports_bytes", "cgroup_peak_bytes"]


class Group(TypedDict):
    """Jobs that ran in turn on one model."""

    name: str
    model: str
    slices: int | None
    samples: list[Sample]


class Finding(TypedDict):
    """One claim, as measured: `value` is a median of ratios of paired runs, or the worst of the samples."""

    group: str
    model: str
    slices: int | None
    claim: str
    value: float | None
    quartiles: list[float]
    pairs: int
    unit: str
    target: str
    verdict: str


@dataclass(frozen=True)
class Claim:
    """Something to be shown about a group's samples.

    Attributes:
        text: What is compared, for the table.
        metric: Which measurement.
        of: Label of the job that is measured.
        to: Label of the job that it is divided by, run by run; None for an absolute value, where the worst run counts.
        at_most: The target, where small is good.
        at_least: The target, where large is good. With neither, the value is only reported.
        offset: Subtracted from the value before it is divided.
        divisor: Divides the value (bytes per MB, say).
        unit: What the value is then in.
    """

    text: str
    metric: Metric
    of: str
    to: str | None = None
    at_most: float | None = None
    at_least: float | None = None
    offset: float = 0.0
    divisor: float = 1.0
    unit: str = "x"


def evaluate(claim: Claim, group: Group) -> Finding:
    """Measure a claim on the samples of a group."""
    values, missing = _values(claim, group["samples"])
    worst = max if claim.at_least is None else min
    value = None if not values else statistics.median(values) if claim.to else worst(values)
    return {
        "group": group["name"],
        "model": group["model"],
        "slices": group["slices"],
        "claim": claim.text,
        "value": value,
        "quartiles": _quartiles(values),
        "pairs": len(values),
        "unit": claim.unit,
        "target": _target(claim),
        "verdict": _verdict(claim, value, missing or _disturbance(claim, group["samples"])),
    }


def _values(claim: Claim, samples: Sequence[Sample]) -> tuple[list[float], str]:
    """The claim's value in each round that has all it needs, and why there is none, if so."""
    of = {s["round"]: s for s in samples if s["label"] == claim.of and "error" not in s}
    to = {s["round"]: s for s in samples if s["label"] == claim.to and "error" not in s}
    errors = [f"{s['label']}: {s['error']}" for s in samples if s["label"] in {claim.of, claim.to} and "error" in s]
    rounds = sorted(of.keys() & to.keys() if claim.to else of.keys())
    divisors = [to[r][claim.metric] if claim.to else claim.divisor for r in rounds]
    values = [(of[r][claim.metric] - claim.offset) / d for r, d in zip(rounds, divisors, strict=True)]
    reason = f"not measured: {errors[0] if errors else 'did not run'}"
    return values, "" if values else reason


def _disturbance(claim: Claim, samples: Sequence[Sample]) -> str:
    """Why a time on a busy machine gets no verdict; peak memory does not depend on what others do."""
    if "seconds" not in claim.metric:
        return ""
    return disturbance([s for s in samples if s["label"] in {claim.of, claim.to}])


def disturbance(runs: Sequence[Sample]) -> str:
    """Why times of these runs get no verdict: too many of them on a busy machine; empty where they may."""
    disturbed = sum(s.get("others_share", 0.0) > DISTURBED_SHARE for s in runs)
    if disturbed <= DISTURBED_RUNS * len(runs):
        return ""
    return f"invalid: others used the machine in {disturbed} of {len(runs)} runs"


def summarised(
    text: str,
    values: Sequence[float],
    *,
    group: str,
    model: str,
    at_most: float | None = None,
    at_least: float | None = None,
    objection: str = "",
) -> Finding:
    """A finding on values that are no samples, such as the errors of estimates: their median and quartiles."""
    claim = Claim(text, "seconds", text, at_most=at_most, at_least=at_least)
    value = statistics.median(values) if values else None
    return {
        "group": group,
        "model": model,
        "slices": None,
        "claim": text,
        "value": value,
        "quartiles": _quartiles(values),
        "pairs": len(values),
        "unit": "",
        "target": _target(claim),
        "verdict": _verdict(claim, value, objection or ("" if values else "not measured")),
    }


def _quartiles(values: Sequence[float]) -> list[float]:
    if len(values) < 2:
        return []
    quartiles = statistics.quantiles(values, n=4, method="inclusive")
    return [quartiles[0], quartiles[-1]]


def _target(claim: Claim) -> str:
    if claim.at_most is not None:
        return f"<= {claim.at_most:g}"
    return f">= {claim.at_least:g}" if claim.at_least is not None else ""


def _verdict(claim: Claim, value: float | None, objection: str) -> str:
    if objection or value is None:
        return objection
    if claim.at_most is not None:
        return "pass" if value <= claim.at_most else "fail"
    if claim.at_least is not None:
        return "pass" if value >= claim.at_least else "fail"
    return ""


def environment() -> dict[str, object]:
    """The machine, the versions and the commit."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--", ".", ":!benchmarks/results")),
    }


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def save(
    path: Path,
    *,
    benchmark: str,
    settings: dict[str, object],
    digests: dict[str, dict[str, str]],
    groups: Sequence[Group],
    findings: Sequence[Finding],
) -> None:
    """Write the results file; each sample and each finding is one line of it."""
    verdicts = [finding["verdict"].partition(":")[0] for finding in findings if finding["target"]]
    head = {
        "schema": SCHEMA,
        "benchmark": benchmark,
        "command": _command(),
        "written": _now(),
        "environment": environment(),
        "settings": settings,
        "models_sha256": digests,
        "targets": dict(Counter(verdicts)),
    }
    _write(path, head, groups, findings)


def save_again(
    path: Path, results: Mapping[str, object], *, groups: Sequence[Group], findings: Sequence[Finding]
) -> None:
    """Write new findings on old measurements, whose origin stays; `concluded` says when and by what these were made."""
    verdicts = [finding["verdict"].partition(":")[0] for finding in findings if finding["target"]]
    head = {key: value for key, value in results.items() if key not in ("groups", "findings")}
    head["targets"] = dict(Counter(verdicts))
    head["concluded"] = {"command": _command(), "written": _now(), "commit": _git("rev-parse", "HEAD")}
    _write(path, head, groups, findings)


def _command() -> str:
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]).replace(str(ROOT), ".")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _write(path: Path, head: Mapping[str, object], groups: Sequence[Group], findings: Sequence[Finding]) -> None:
    lines = [json.dumps(head, indent=1)[: -len("\n}")], ' ,"findings": [', _lines(findings), ' ],\n "groups": [']
    lines.append(",\n".join(_group_lines(group) for group in groups))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n ]\n}\n")


def _group_lines(group: Group) -> str:
    samples = _lines([{k: v for k, v in sample.items() if k != "late_imports"} for sample in group["samples"]])
    head = json.dumps({key: value for key, value in group.items() if key != "samples"})
    return f'  {head[:-1]}, "samples": [\n{samples}\n  ]}}'


def _lines(entries: Sequence[object]) -> str:
    return ",\n".join(f"   {json.dumps(_rounded(entry))}" for entry in entries)


def _rounded(entry: object) -> object:
    """The same with floats to the microsecond: more digits are noise."""
    if isinstance(entry, float):
        return round(entry, 6)
    if isinstance(entry, dict):
        return {key: _rounded(value) for key, value in entry.items()}
    return [_rounded(item) for item in entry] if isinstance(entry, list) else entry
