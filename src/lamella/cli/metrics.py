"""`lamella metrics`: what the requests to a deployment took and cost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.deployments import Model, Stage, address, find, service
from lamella.cli.options import OUTPUT, Json
from lamella.cli.places import Profile, Region, Target, found_on_aws
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.bench.results import Results
    from lamella.bench.summary import Distribution, Summary
    from lamella.targets.addresses import Address
    from lamella.targets.base import Deployment
    from lamella.targets.reports import Reports

REQUESTS = "Requests"
_AGO = re.compile(r"(\d+)(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_DASH = "-"


def metrics(
    name: Model,
    *,
    stage: Stage = None,
    target: Target = None,
    region: Region = None,
    profile: Profile = None,
    since: Annotated[
        str,
        typer.Option(
            metavar="AGO|TIME", rich_help_panel=REQUESTS, help="From when on: `90s`, `15m`, `1h`, `2d` ago, or a time."
        ),
    ] = "1h",
    until: Annotated[
        str | None,
        typer.Option(metavar="AGO|TIME", rich_help_panel=REQUESTS, help="Until when; by default until now."),
    ] = None,
    part: Annotated[
        int | None,
        typer.Option("--slice", metavar="K", min=0, rich_help_panel=REQUESTS, help="The runs of this slice alone."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="results.json",
            rich_help_panel=OUTPUT,
            help="Save every sample, for other programs and for later; `-` for stdout.",
        ),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE.csv", rich_help_panel=OUTPUT, help="Save a row for each run of a slice."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", metavar="FILE.png|svg|pdf", rich_help_panel=OUTPUT, help="Draw it; needs `lamella[bench]`."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show what the requests to a deployment took and cost: by request, slice and time.

    It is read from what the platform logs of each run, here or on AWS. Nothing is sent to the deployment.
    """
    _check_files(file, csv, plot, json=json)
    now_ms = time() * 1000
    since_ms = read_moment(since, now_ms, flag="--since")
    until_ms = int(now_ms) + 1 if until is None else read_moment(until, now_ms, flag="--until")
    to = address(name, stage)
    deployment, reports = _reports(to, part, since_ms, until_ms, target=target, region=region, profile=profile)
    from lamella.bench.metrics import measured

    found = measured(deployment, reports, model=to.model, slice=part, since_ms=since_ms, until_ms=until_ms)
    _save(found, file, csv, plot)
    if file == "-":
        return
    if json:
        _print_json(found)
    else:
        show(found)
    if not found.verdict.valid:
        raise typer.Exit(1)


def read_moment(text: str, now_ms: float, *, flag: str) -> int:
    """A moment in milliseconds since 1970 from `15m` (ago), or from a time in ISO 8601, UTC where it does not say.

    Raises:
        UsageError: It is neither.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        return max(0, int(now_ms) - int(ago[1]) * _SECONDS[ago[2]] * 1000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise UsageError(
            f"`{flag}` takes a time, not `{text}`", hint="write it like `15m`, `2h`, `1d`, or `2026-11-22T09:30`"
        ) from error
    return max(0, round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000))


def _check_files(file: str | None, csv: Path | None, plot: Path | None, *, json: bool) -> None:
    """Refuse before anything is asked what could not be saved after it."""
    if file == "-" and json:
        raise UsageError("`--json` and `-o -` both write to stdout", hint="save the results to a file")
    for path in (None if file in (None, "-") else Path(str(file)), csv, plot):
        if path is not None and not path.parent.is_dir():
            raise UsageError(f"the folder of `{path}` does not exist", hint="make it first")
    if plot is not None:
        from lamella.bench.charts import check_format

        check_format(plot)


def _reports(
    to: Address,
    part: int | None,
    since_ms: int,
    until_ms: int,
    *,
    target: str | None,
    region: str | None,
    profile: str | None,
) -> tuple[Deployment, Reports]:
    """What is deployed, and what its functions did."""
    from lamella.bench.metrics import check_span, named_model

    check_span(since_ms, until_ms)
    aws = found_on_aws(to.name, to.stage, target=target, region=region, profile=profile)
    deployment = find(to.name, to.stage) if aws is None else aws.find(to.name, stage=to.stage)
    model = named_model(deployment, to.model)
    with output.status(f"reading the logs of {to}"):
        if aws is None:
            return deployment, service().reports(str(to), slice=part, since_ms=since_ms, until_ms=until_ms)
        reports = aws.reports(to.name, stage=to.stage, model=model, slice=part, since_ms=since_ms, until_ms=until_ms)
        return deployment, reports


def _save(found: Results, file: str | None, csv: Path | None, plot: Path | None) -> None:
    from lamella.bench.results_file import write_results, written

    if file == "-":
        output.text(written(found))
    elif file is not None:
        write_results(found, Path(file))
        output.message(f"wrote `{file}`")
    if csv is not None:
        from lamella.bench.tables import write_csv

        write_csv(found, csv)
        output.message(f"wrote `{csv}`")
    if plot is not None:
        from lamella.bench.charts import write_chart

        write_chart(found, plot)
        output.message(f"wrote `{plot}`")


def _print_json(found: Results) -> None:
    """All but the samples."""
    from lamella.bench.results_file import to_json

    content = to_json(found)
    shown = {key: value for key, value in content.items() if key not in ("schema", "samples")}
    output.json_object("lamella.metrics/1", shown)


def show(found: Results) -> None:
    """Print a measurement as tables."""
    from lamella.bench.summary import summarize

    summary, subject = summarize(found), found.subject
    where = subject.target if found.place.region is None else f"{subject.target}, {found.place.region}"
    version = "" if subject.version is None else f", version {subject.version}"
    facts = [
        ("deployment", f"{subject.name}{version}: {subject.file} on {where}"),
        ("from", f"{found.settings['since']} to {found.settings['until']}"),
        ("requests", _requests(summary)),
    ]
    if summary.requests:
        facts += [
            ("rate", f"{summary.qps:.3g} requests a second"),
            ("price", f"{summary.usd_per_1000:.6f} USD per 1,000 requests, for functions"),
        ]
    output.facts([*facts, *(("not valid", reason) for reason in found.verdict.reasons)])
    for table in (_latencies(summary), _slices(summary), _times(summary)):
        if table[1]:
            output.line()
            output.table(table[0], table[1], right=range(1, len(table[0])))


_Table = tuple[list[str], list[tuple[str, ...]]]


def _requests(summary: Summary) -> str:
    parts = [f"{summary.requests:,}", f"{summary.cold_starts:,} cold", f"{summary.failed:,} failed"]
    if summary.partial:
        parts.append(f"and {summary.partial:,} pings, single slices or requests that are only partly in this time")
    return ", ".join(parts)


def _latencies(summary: Summary) -> _Table:
    shown = (
        ("latency", summary.latency_ms),
        ("latency, warm", summary.warm_latency_ms),
        ("latency, cold", summary.cold_latency_ms),
        ("billed", summary.billed_ms),
    )
    rows = [(name, f"{one.count:,}", *_spread(one)) for name, one in shown if one is not None]
    return ["request", "count", "mean", "p50", "p90", "p99", "max"], rows if summary.requests else []


def _spread(found: Distribution) -> Iterator[str]:
    return map(output.milliseconds, (found.mean, found.p50, found.p90, found.p99, found.max))


def _slices(summary: Summary) -> _Table:
    rows = [
        (
            "door" if one.slice is None else str(one.slice),
            f"{one.runs:,}",
            f"{one.cold_starts:,}",
            f"{one.failed:,}",
            *map(output.milliseconds, (one.duration_ms.p50, one.duration_ms.p90, one.duration_ms.p99)),
            _DASH if one.billed_ms is None else output.milliseconds(one.billed_ms.mean),
            _DASH if one.init_ms is None else output.milliseconds(one.init_ms.mean),
            _DASH if one.max_memory_mb is None else f"{one.max_memory_mb.max:.0f}",
            f"{one.memory_mb:.0f} MB",
            f"{one.usd_per_1000:.6f}",
        )
        for one in summary.slices
    ]
    headers = ["slice", "runs", "cold", "failed", "duration p50", "p90", "p99", "billed", "init", "memory", "of"]
    return [*headers, "USD per 1,000"], rows


def _times(summary: Summary) -> _Table:
    rows: list[tuple[str, ...]] = [
        (
            datetime.fromtimestamp(one.begin_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
            f"{one.requests:,}",
            f"{one.cold_starts:,}",
            f"{one.failed:,}",
            *(
                (_DASH, _DASH)
                if one.latency_ms is None
                else (output.milliseconds(one.latency_ms.p50), output.milliseconds(one.latency_ms.p90))
            ),
            _DASH if one.max_memory_mb is None else f"{one.max_memory_mb:.0f} MB",
            f"{1000 * one.usd / one.requests:.6f}",
        )
        for one in summary.times
    ]
    return ["time, UTC", "requests", "cold", "failed", "latency p50", "p90", "memory", "USD per 1,000"], rows
