"""What the benchmarks print: progress while they run, medians per job, and each target with its verdict."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from measure import Sample
from results import Finding, Group


def print_sample(sample: Sample) -> None:
    """One line for a run that has just ended."""
    if "error" in sample:
        print(f"  {sample['label']:32} {sample['error']}", flush=True)
        return
    memory = sample["peak_above_imports_bytes"] / 1e6
    print(f"  {sample['label']:32} {sample['seconds']:9.3f} s  {memory:+9.1f} MB", flush=True)


def print_groups(groups: Sequence[Group]) -> None:
    """Median seconds and peak memory of each job."""
    print(f"\n{'model':17}{'slices':>6}  {'job':32}{'seconds':>10}{'peak MB':>10}{'anonymous':>10}{'runs':>5}")
    for group in groups:
        for label in dict.fromkeys(sample["label"] for sample in group["samples"]):
            samples = [sample for sample in group["samples"] if sample["label"] == label]
            print(f"{group['model']:17}{group['slices'] or '':>6}  {label:32}{_medians(samples)}")


def _medians(samples: Sequence[Sample]) -> str:
    done = [sample for sample in samples if "error" not in sample]
    if not done:
        return f"  {samples[0]['error']}"
    seconds = statistics.median(sample["seconds"] for sample in done)
    if "peak_above_imports_bytes" not in done[0]:
        return f"{seconds:10.4f}{'':20}{len(done):5}"
    peak = statistics.median(sample["peak_above_imports_bytes"] for sample in done) / 1e6
    anonymous = statistics.median(_anonymous_bytes(sample) for sample in done) / 1e6
    return f"{seconds:10.3f}{peak:10.1f}{anonymous:10.1f}{len(done):5}"


def _anonymous_bytes(sample: Sample) -> int:
    return max(sample["sampled_peak_anonymous_bytes"] - sample["imports_anonymous_bytes"], 0)


def print_findings(findings: Sequence[Finding]) -> None:
    """Each claim with its value, its quartiles, its target and the verdict."""
    print(f"\n{'model':17}{'slices':>6}  {'claim':58}{'measured':>12}  {'quartiles':19}{'target':9}verdict")
    for finding in findings:
        value = "-" if finding["value"] is None else f"{finding['value']:,.3g} {finding['unit']}"
        quartiles = " - ".join(f"{quartile:,.3g}" for quartile in finding["quartiles"])
        place = f"{finding['model']:17}{finding['slices'] or '':>6}"
        print(f"{place}  {finding['claim']:58}{value:>12}  {quartiles:19}{finding['target']:9}{finding['verdict']}")
    judged = [finding for finding in findings if finding["target"]]
    print(f"\n{sum(finding['verdict'] == 'pass' for finding in judged)} of {len(judged)} targets met")


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table for the docs; the first column is text, the others are right-aligned."""
    rule = [":--", *["--:"] * (len(heads) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


BEGIN, END = "<!-- written by a benchmark: begin -->", "<!-- end -->"


def between(page: str, body: str) -> str:
    """A page of the docs with `body` between its markers, in place of what stood there."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{body}\n\n{END}{after}"
