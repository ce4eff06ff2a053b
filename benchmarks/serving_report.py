"""From the samples of `serving.py` to its findings, and to the tables in the docs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import cast

from measure import Sample
from results import Finding, Group, disturbance, summarised
from serving_models import TINY
from serving_servers import BARE, LAMELLA, UNBATCHED
from tables import between, markdown

OVERHEAD_AT_MOST_MS = 0.5
BATCHING_AT_LEAST = 3.0
ENGINE_SHARE = 0.5
"""Batching is said to pay where the engine computes three times the rows in batches, and takes most of a request."""

IDLE_AT_MOST = 1.1


def conclusions(groups: Sequence[Group]) -> list[Finding]:
    """What is to be shown, as measured."""
    return [finding for group in groups if group["name"] == "served" for finding in _served(group)]


def _samples(group: Group, label: str) -> dict[int, Sample]:
    """By round."""
    return {s["round"]: s for s in group["samples"] if s["label"] == label and "error" not in s}


def _labels(group: Group) -> list[str]:
    return list(dict.fromkeys(sample["label"] for sample in group["samples"]))


def _peers(group: Group) -> list[str]:
    return [label for label in _labels(group) if label not in (BARE, LAMELLA, UNBATCHED) and _samples(group, label)]


def _fact(sample: Sample, name: str) -> float:
    return float(cast("float", sample["facts"][name]))


def _median(group: Group, label: str, name: str) -> float:
    return statistics.median(_fact(sample, name) for sample in _samples(group, label).values())


def _capacity(sample: Sample) -> float:
    return max(_fact(sample, "per_second_16"), _fact(sample, "per_second_64"))


def _served(group: Group) -> list[Finding]:
    ours, plain, engine = (_samples(group, label) for label in (LAMELLA, UNBATCHED, BARE))
    if not ours:
        return []
    found = []
    peers = _peers(group)
    if peers:
        best = max(peers, key=lambda label: statistics.median(map(_capacity, _samples(group, label).values())))
        found.append(_ratio(group, f"throughput / {best}, the best peer's", ours, _samples(group, best), at_least=1.0))
        found += _at_half_load(group, best, peers)
    if plain:
        gain = statistics.median(map(_gain, engine.values()))
        share = statistics.median(_engine_share(engine[r], plain[r]) for r in sorted(engine.keys() & plain.keys()))
        at_least = BATCHING_AT_LEAST if gain >= BATCHING_AT_LEAST and share >= ENGINE_SHARE else None
        text = f"throughput / without batching (the engine alone: {gain:.1f})"
        found.append(_ratio(group, text, ours, plain, at_least=at_least))
        idle = [_fact(ours[r], "p50_ms_1") / _fact(plain[r], "p50_ms_1") for r in sorted(ours.keys() & plain.keys())]
        text = "p50 of one client / without batching"
        found.append(_finding(group, text, idle, "x", of=[LAMELLA, UNBATCHED], at_most=IDLE_AT_MOST))
    over = [_fact(ours[r], "p50_ms_1") - _fact(engine[r], "p50_ms") for r in sorted(ours.keys() & engine.keys())]
    at_most = OVERHEAD_AT_MOST_MS if group["model"] == TINY else None
    found.append(_finding(group, "p50 over the bare engine", over, "ms", of=[LAMELLA, BARE], at_most=at_most))
    return found


def _gain(bare: Sample) -> float:
    """How many times the rows the engine computes in batches, at best."""
    best = max(_fact(bare, name) for name in bare["facts"] if name.startswith("rows_per_second_"))
    return best / _fact(bare, "per_second")


def _engine_share(bare: Sample, plain: Sample) -> float:
    """The engine's part in what a request takes without batching, under load."""
    return _capacity(plain) / _fact(bare, "per_second")


def _ratio(
    group: Group, text: str, of: Mapping[int, Sample], to: Mapping[int, Sample], *, at_least: float | None
) -> Finding:
    values = [_capacity(of[number]) / _capacity(to[number]) for number in sorted(of.keys() & to.keys())]
    labels = [next(iter(one.values()))["label"] for one in (of, to)]
    return _finding(group, text, values, "x", of=labels, at_least=at_least)


def _at_half_load(group: Group, best: str, peers: Sequence[str]) -> list[Finding]:
    """At the rate that is half load for the best peer; and each at its own, against the peer that is quickest there."""
    ours, peer = _samples(group, LAMELLA), _samples(group, best)
    rounds = sorted(ours.keys() & peer.keys())
    same = [_fact(ours[r], "p99_ms_open_as_peer") / _fact(peer[r], "p99_ms_open") for r in rounds]
    quickest = min(peers, key=lambda label: _median(group, label, "p99_ms_open"))
    least = _samples(group, quickest)
    own = [_fact(ours[r], "p99_ms_open") / _fact(least[r], "p99_ms_open") for r in sorted(ours.keys() & least.keys())]
    rates = _median(group, LAMELLA, "open_rate") / _median(group, quickest, "open_rate")
    return [
        _finding(group, f"p99 at half of {best}'s load / {best}", same, "x", of=[LAMELLA, best], at_most=1.0),
        _finding(
            group, f"p99 at half of its load / {quickest} ({rates:.1f} x the rate)", own, "x", of=[LAMELLA, quickest]
        ),
    ]


def _finding(
    group: Group,
    text: str,
    values: Sequence[float],
    unit: str,
    *,
    of: Sequence[str],
    at_most: float | None = None,
    at_least: float | None = None,
) -> Finding:
    """A finding on the samples with the labels `of`."""
    objection = disturbance([sample for label in of for sample in _samples(group, label).values()])
    found = summarised(
        text,
        values,
        group=group["name"],
        model=group["model"],
        at_most=at_most,
        at_least=at_least,
        objection=objection,
    )
    found["unit"] = unit
    return found


def documented(page: str, results: Mapping[str, object]) -> str:
    """A page with the tables between its markers made from a results file."""
    every = cast("list[Group]", results["groups"])
    groups = [group for group in every if group["samples"]]
    findings = cast("list[Finding]", results["findings"])
    told = cast("dict[str, object]", results["settings"])
    parts = [_said(every, told), *([_SHARED] if told["shared"] else [])]
    parts += [f"### Targets\n\n{_targets(findings)}"]
    for group in groups:
        table = _imports(group) if group["name"] == "import" else _loads(group)
        parts.append(f"### {_TITLES.get(group['model'], group['model'])}\n\n{table}")
    return between(page, "\n\n".join(parts))


def _said(groups: Sequence[Group], settings: Mapping[str, object]) -> str:
    """How much was measured, and what was not."""
    done = {g["model"]: len({s["round"] for s in g["samples"]}) for g in groups if g["name"] == "served"}
    rounds = "; ".join(f"`{model}`: {number or 'not measured'}" for model, number in done.items())
    return f"Rounds of each model: {rounds}. Loads last {settings['scale']} times as long as by default."


_SHARED = (
    "**Others used this machine's processors during this run, more than half of them at times.** All servers suffered "
    "in turn; how they compare says something, the figures themselves are far too low, and no target has a verdict."
)
_TITLES = {
    "": "Import",
    TINY: "A tiny model: what the server itself costs",
    "dense": "Three layers of 2048: batching pays most",
    "minilm": "MiniLM: sentences of 6 to 47 tokens",
    "resnet50": "ResNet-50: images of 0.6 MB",
}


def _targets(findings: Sequence[Finding]) -> str:
    rows = [
        [
            finding["model"],
            finding["claim"],
            "-" if finding["value"] is None else f"{finding['value']:.3g} {finding['unit']}",
            " to ".join(f"{quartile:.3g}" for quartile in finding["quartiles"]),
            finding["target"],
            finding["verdict"],
        ]
        for finding in findings
    ]
    return markdown(["model", "what", "measured", "quartiles", "target", "verdict"], rows)


def _loads(group: Group) -> str:
    rows = []
    for label in _labels(group):
        if not _samples(group, label):
            error = next(sample["error"] for sample in group["samples"] if sample["label"] == label)
            rows.append([label, f"failed: {error}", *[""] * 8])
        elif label == BARE:
            cells = [f"{_median(group, label, 'per_second'):,.0f}", _ms(group, label, "p50_ms"), "", ""]
            rows.append([label, *cells, *[""] * 5])
        else:
            rows.append([label, *_cells(group, label)])
    heads = ["1 client /s", "p50 ms", "16 clients /s", "64 clients /s", "p99 ms", "half load /s", "p50 ms", "p99 ms"]
    return markdown(["server", *heads, "memory MB, start s"], rows)


def _cells(group: Group, label: str) -> list[str]:
    rates = {clients: f"{_median(group, label, f'per_second_{clients}'):,.0f}" for clients in (1, 16, 64)}
    memory = f"{_median(group, label, 'memory_bytes') / 1e6:,.0f}"
    return [
        rates[1],
        _ms(group, label, "p50_ms_1"),
        rates[16],
        rates[64],
        _ms(group, label, "p99_ms_64"),
        f"{_median(group, label, 'open_rate'):,.0f}",
        _ms(group, label, "p50_ms_open"),
        _ms(group, label, "p99_ms_open"),
        f"{memory}, {_median(group, label, 'start_s'):.1f}",
    ]


def _ms(group: Group, label: str, name: str) -> str:
    return f"{_median(group, label, name):.3g}"


def _imports(group: Group) -> str:
    rows = [
        [label, f"{statistics.median(s['seconds'] for s in _samples(group, label).values()):.2f}"]
        for label in _labels(group)
    ]
    return markdown(["package", "seconds"], rows)
