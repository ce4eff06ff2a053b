"""What the local platform costs: its overhead, its hops, its cold starts, and its shares of the processors.

    python benchmarks/platform_local.py                        # everything: about half an hour
    python benchmarks/platform_local.py --quick                # does it work here: a minute or two
    python benchmarks/platform_local.py --parts overhead hops  # or: throughput, starts, sweep, fetch
    python benchmarks/platform_local.py --document             # rewrite the tables in the docs from the results file

`overhead`: empty requests in this process, over HTTP and by boto3. `throughput`: clients side by side. `hops`: a tensor
from one function to the next. `starts`: the phases of a cold start. `sweep`: one classifier at four memory sizes.
`fetch`: the cold start of a model of 1.3 GB that is fetched at 78 MB/s a function, whole and in slices.

It is not called `platform.py`: a program of that name would hide the standard library's module from all programs here.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import models
import platform_fetch
import platform_sweep
from platform_fetch import fetch
from platform_hops import hops
from platform_report import conclusions, documented
from platform_requests import overhead, throughput
from platform_setting import Setting
from platform_starts import MODELS, starts
from platform_sweep import sweep
from results import ROOT, Group, save
from tables import print_findings

PARTS: dict[str, Callable[[Setting], list[Group]]] = {
    "overhead": overhead,
    "throughput": throughput,
    "hops": hops,
    "starts": starts,
    "sweep": sweep,
    "fetch": fetch,
}
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "concepts" / "platform-measured.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is measured; `fetch` 3 at most")
    parser.add_argument("--quick", action="store_true", help="one round, small models")
    parser.add_argument("--document", action="store_true", help="measure nothing: the docs' tables from the results")
    parser.add_argument("--cache", type=Path, default=models.CACHE, help="folder of the models")
    parser.add_argument("--output", type=Path, help="results file (default: benchmarks/results/platform.json)")
    settings = parser.parse_args()
    if settings.quick:
        settings.rounds = 1
    settings.output = settings.output or RESULTS / f"platform{'-quick' if settings.quick else ''}.json"
    return settings


def main() -> None:
    """Measure, print the findings, write the results file."""
    settings = arguments()
    if settings.document:
        PAGE.write_text(documented(PAGE.read_text(), json.loads(settings.output.read_text())))
        return
    folder = settings.cache.parent / "bench-work" / f"platform-{os.getpid()}"
    setting = Setting(folder, settings.cache, settings.rounds, settings.quick)
    folder.mkdir(parents=True)
    groups: list[Group] = []
    try:
        for part in settings.parts:
            print(part, flush=True)
            groups += PARTS[part](setting)
            _save(groups, settings)
    finally:
        setting.remove()
    print_findings(conclusions(groups))
    print(f"written: {settings.output}; `--document` brings it into the docs")


def _save(groups: list[Group], settings: argparse.Namespace) -> None:
    names = {*MODELS, platform_sweep.MODEL, platform_fetch.MODEL, platform_fetch.QUICK_MODEL}
    measured = names & {group["model"] for group in groups}
    save(
        settings.output,
        benchmark="platform_local",
        settings={key: value for key, value in vars(settings).items() if not isinstance(value, Path)},
        digests={name: models.make(name, settings.cache).sha256 for name in sorted(measured)},
        groups=groups,
        findings=conclusions(groups),
    )


if __name__ == "__main__":
    main()
