"""Time and memory to plan for a platform, and the plans against simpler ones.

    python benchmarks/planning.py                     # everything: about ten minutes; torch exports six of the models
    python benchmarks/planning.py --quick             # small graphs, three models: a minute
    python benchmarks/planning.py --parts baselines   # or: scale, large
    python benchmarks/planning.py --document          # rewrite the tables in the docs from the results file

`scale`: generated graphs of 1,000 to 20,000 nodes. `large`: a decoder with 20 GB of external weights, in a sparse file.
`baselines`: bytes crossing, peak memory, time and price of the best plan against equal numbers of nodes, equal weights
and greedy by size, with as many slices, each at the memory sizes that are best for it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import exported
import models
import networks
import onnx
from comparison import OBJECTIVES, Contest, contest, contest_from, contests_table
from measure import Job, Sample, compare, rehearse
from network import Network
from networks import Transformer
from results import ROOT, Claim, Finding, Group, evaluate, save, summarised
from tables import between, markdown, print_findings, print_sample

PLATFORM = "aws-lambda"
NODES = (1_000, 2_000, 5_000, 10_000, 20_000)
SCALE_BYTES = 4 << 30
PLAN_SECONDS_AT_MOST = 10.0
PEAK_BYTES_AT_MOST = 500e6
LARGE = Transformer(hidden=4096, layers=24, heads=32, vocabulary=50257, positions=2048)
MODELS = (
    *("mobilenet-v1", "squeezenet", "resnet18", "resnet50", "vgg19"),
    *("minilm", "distilbert", "bert-base", "gpt2", "bert-large", "transformer-5gb"),
)
QUICK = ("squeezenet", "resnet18", "minilm")
SLICES = (2, 4, 8)
SHOWN_SLICES = 4
PAGE = ROOT / "docs" / "concepts" / "baselines.md"
ALIGNMENT_BYTES = 4096

Part = Callable[[argparse.Namespace], tuple[list[Group], list[Finding]]]


def scale(settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """Graphs that grow, with the same bytes of weights."""
    groups: list[Group] = []
    findings: list[Finding] = []
    for nodes in settings.nodes:
        width = round((SCALE_BYTES / 4 / (nodes * 16 / 65)) ** 0.5)
        path = sparse(networks.residual_chain(nodes, width=width), settings.cache.parent / "bench-work" / f"{nodes}")
        for objective in ("latency", "cost"):
            group, found = _planned(path, f"{nodes} nodes", objective, settings)
            groups.append(group)
            findings += found
        shutil.rmtree(path.parent)
    return groups, findings


def large(settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """A model larger than this machine's memory needs to be."""
    path = sparse(networks.decoder("decoder-20gb", LARGE), settings.cache.parent / "bench-work" / "decoder-20gb")
    size = path.with_name(path.name + ".data").stat().st_size
    print(f"  {size / 1e9:.1f} GB of external weights, {path.stat().st_size / 1e6:.1f} MB of graph", flush=True)
    group, findings = _planned(path, "decoder-20gb", "cost", settings)
    shutil.rmtree(path.parent)
    return [group], findings


def _planned(path: Path, model: str, objective: str, settings: argparse.Namespace) -> tuple[Group, list[Finding]]:
    """Plan in fresh processes."""
    label = f"plan for {objective}"
    job = Job(label, "planning_jobs", "plan", {"model": str(path), "platform": PLATFORM, "objective": objective})
    job = replace(job, preload=rehearse(job))
    samples = compare([job], rounds=settings.rounds, report=print_sample)
    group = Group(name=label, model=model, slices=None, samples=samples)
    claims = (
        Claim("time to plan", "seconds", label, at_most=PLAN_SECONDS_AT_MOST, unit="s"),
        Claim(
            "peak memory of the process", "peak_bytes", label, at_most=PEAK_BYTES_AT_MOST / 1e6, divisor=1e6, unit="MB"
        ),
    )
    return group, [evaluate(claim, group) for claim in claims]


def sparse(network: Network, folder: Path) -> Path:
    """Write a model whose random weights are a hole in a data file: no bytes on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    path, end = folder / "model.onnx", 0
    model = network.model()
    for weight in network.weights:
        tensor = model.graph.initializer.add(name=weight.name, dims=weight.shape, data_type=weight.onnx_type)
        if weight.values is not None:
            tensor.raw_data = weight.values.tobytes()
            continue
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", f"{path.name}.data"), ("offset", end), ("length", weight.nbytes)):
            tensor.external_data.add(key=key, value=str(value))
        end += weight.nbytes + -weight.nbytes % ALIGNMENT_BYTES
    path.write_bytes(model.SerializeToString())
    with path.with_name(path.name + ".data").open("wb") as file:
        file.truncate(end)
    return path


def baselines(settings: argparse.Namespace) -> tuple[list[Group], list[Finding]]:
    """The best plans against simple ones."""
    contests: list[Contest] = []
    for name, path in _contestants(settings):
        print(f"  {name}", flush=True)
        contests += contest(name, path, PLATFORM, settings.slices)
    print(contests_table(contests))
    samples: list[Sample] = [{"label": f"{c.model}, {c.way}", "facts": asdict(c)} for c in contests]
    group = Group(name="baselines", model=f"{len({c.model for c in contests})} models", slices=None, samples=samples)
    return [group], [_never_worse(contests, objective) for objective in OBJECTIVES]


def _contestants(settings: argparse.Namespace) -> list[tuple[str, Path]]:
    found = [(name, models.make(name, settings.cache).path) for name in settings.models]
    if not settings.quick:
        found += [(name, exported.export(name, settings.cache)) for name in exported.RECIPES]
        folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
        found += [(path.stem, path) for path in sorted(folder.glob("*.onnx"))]
    return found


def _never_worse(contests: Sequence[Contest], objective: str) -> Finding:
    ratios = [c.ratio for c in contests if c.objective == objective and c.ratio is not None]
    text = f"{objective}: best plan / baseline, at worst (median {statistics.median(ratios):.3f})"
    return summarised(text, [max(ratios)], group="baselines", model=f"{len(ratios)} pairs", at_most=1.0 + 1e-9)


def documented(page: str, results: Mapping[str, object]) -> str:
    """A page with the tables between its markers made from a results file."""
    groups = cast("list[Group]", results["groups"])
    found = [s["facts"] for group in groups if group["name"] == "baselines" for s in group["samples"]]
    contests = [contest_from(facts) for facts in found]
    tables = [
        f"### Least {objective}, about {SHOWN_SLICES} slices\n\n{contests_table(shown)}"
        for objective in OBJECTIVES
        if (shown := [c for c in contests if c.objective == objective and c.wanted == SHOWN_SLICES])
    ]
    findings = cast("list[Finding]", results["findings"])
    return between(page, "\n\n".join((_speed_table(findings), *tables)))


def _speed_table(findings: Sequence[Finding]) -> str:
    """Seconds and memory of `scale` and `large`: their findings come in pairs."""
    heads = ["model", "objective", "s", "peak MB"]
    planned = [finding for finding in findings if finding["group"].startswith("plan for")]
    rows = [
        [time["model"], time["group"].removeprefix("plan for "), f"{time['value']:.2f}", f"{memory['value']:.0f}"]
        for time, memory in zip(planned[::2], planned[1::2], strict=True)
        if time["value"] is not None and memory["value"] is not None
    ]
    return markdown(heads, rows)


PARTS: dict[str, Part] = {"scale": scale, "large": large, "baselines": baselines}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--models", nargs="+", choices=tuple(models.RECIPES), default=MODELS)
    parser.add_argument("--nodes", nargs="+", type=int, default=NODES)
    parser.add_argument("--slices", nargs="+", type=int, default=SLICES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="up to 2,000 nodes, small models, one round")
    parser.add_argument("--document", action="store_true", help="measure nothing: the docs' tables from the results")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/planning.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.models, settings.nodes, settings.rounds = QUICK, NODES[:2], 1
    name = f"planning{'-quick' if settings.quick else ''}.json"
    settings.output = settings.output or ROOT / "benchmarks" / "results" / name
    return settings


def main() -> None:
    """Measure, print the tables, write the results file."""
    settings = arguments()
    if settings.document:
        PAGE.write_text(documented(PAGE.read_text(), json.loads(settings.output.read_text())))
        return
    groups: list[Group] = []
    findings: list[Finding] = []
    for part in settings.parts:
        print(part, flush=True)
        new_groups, new_findings = PARTS[part](settings)
        groups += new_groups
        findings += new_findings
    print_findings(findings)
    named = settings.models if "baselines" in settings.parts else ()
    kept = {key: value for key, value in vars(settings).items() if not isinstance(value, Path)}
    save(
        settings.output,
        benchmark="planning",
        settings=kept | {"platform": PLATFORM},
        digests={name: models.make(name, settings.cache).sha256 for name in named},
        groups=groups,
        findings=findings,
    )


if __name__ == "__main__":
    main()
