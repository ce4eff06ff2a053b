"""What a deployment's requests took and cost, from what the platform logs of every run of a function.

Nothing runs for this, and no request is slower for it: the `REPORT` lines are there anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from time import time

from lamella.bench.results import FunctionUnderTest, Place, Results, Run, Sample, Setting, Subject, Verdict
from lamella.bench.surroundings import here
from lamella.errors import UsageError
from lamella.planner.cost import CostModel
from lamella.platforms import load_platform
from lamella.platforms.base import Platform
from lamella.targets import Endpoint
from lamella.targets.base import Deployment
from lamella.targets.reports import Invocation, Reports

HOUR_S = 3600.0
KIND = "metrics"


def metrics(
    endpoint: Endpoint,
    *,
    since_s: float = HOUR_S,
    until_s: float = 0.0,
    model: str | None = None,
    slice: int | None = None,
) -> Results:
    """What the requests to an endpoint took and cost.

    Args:
        endpoint: The deployment.
        since_s: From how many seconds ago on.
        until_s: Until how many seconds ago.
        model: The model's name; not needed where there is one.
        slice: One slice alone; its runs then count as requests.

    Raises:
        UsageError: The span of time is empty; there are several models, and none is named; or there is no such slice.
        RemoteError: AWS refuses to show its logs.

    Example:
        ```python
        results = lamella.metrics(endpoint, since_s=600)
        print(lamella.bench.summarize(results).latency_ms)
        ```
    """
    now_ms = time() * 1000
    since_ms, until_ms = int(now_ms - since_s * 1000), int(now_ms - until_s * 1000) + 1
    check_span(since_ms, until_ms)
    deployment = endpoint.deployment
    chosen = named_model(deployment, model)
    reports = endpoint.reports(model=chosen, slice=slice, since_ms=since_ms, until_ms=until_ms)
    return measured(deployment, reports, model=model, slice=slice, since_ms=since_ms, until_ms=until_ms)


def check_span(since_ms: int, until_ms: int) -> None:
    """Refuse a span of time with nothing in it.

    Raises:
        UsageError: It ends before it begins.
    """
    if since_ms >= until_ms:
        raise UsageError("the span of time ends before it begins", hint="give a beginning that is longer ago")


def named_model(deployment: Deployment, model: str | None) -> str | None:
    """The model to ask reports of: where it is the only one, None, since the door's runs are of interest, too.

    Raises:
        NotDeployedError: There is no such model.
        UsageError: There are several models, and none is named.
    """
    found = deployment.model(model).name
    return None if len(deployment.version.models) == 1 else found


def measured(
    deployment: Deployment,
    reports: Reports,
    *,
    model: str | None = None,
    slice: int | None = None,
    since_ms: int,
    until_ms: int,
) -> Results:
    """The runs of a deployment's functions as results. Reads nothing but the platform's prices.

    Args:
        deployment: What is deployed.
        reports: What its functions did.
        model: The model that they belong to.
        slice: The only slice that was asked for.
        since_ms: When the span of time begins, in milliseconds since 1970.
        until_ms: When it ends.

    Raises:
        UsageError: There are several models, and none is named; or the platform's file is gone.
    """
    platform = load_platform(deployment.platform)
    wanted = _wanted(deployment, deployment.model(model).name, slice)
    samples = _samples(reports, platform, wanted)
    settings: dict[str, Setting] = {"since": iso(since_ms), "until": iso(until_ms), "slice": slice}
    place = here(reports.region)
    return Results(
        KIND,
        datetime.now(UTC).isoformat(timespec="seconds"),
        _subject(deployment, reports, model, slice, place),
        place,
        settings,
        samples,
        _verdict(samples),
    )


def iso(moment_ms: float) -> str:
    """A moment in milliseconds since 1970 as ISO 8601, UTC."""
    return datetime.fromtimestamp(moment_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wanted(deployment: Deployment, model: str, slice: int | None) -> set[frozenset[int]]:
    """Which slices make a whole request, in any version that is kept."""
    if slice is not None:
        return {frozenset((slice,))}
    models = (one for version in deployment.versions for one in version.models if one.name == model)
    return {frozenset(step.slice for step in one.workflow.steps) for one in models}


def _samples(reports: Reports, platform: Platform, wanted: set[frozenset[int]]) -> tuple[Sample, ...]:
    prices = CostModel(platform, reports.architecture, 0)
    requests: dict[str, list[Run]] = {}
    for invocation in reports.invocations:
        requests.setdefault(invocation.request, []).append(_run(invocation, prices))
    pings = {invocation.request for invocation in reports.invocations if invocation.ping}
    samples = (_sample(request, runs, set() if request in pings else wanted) for request, runs in requests.items())
    return tuple(sorted(samples, key=lambda sample: (sample.began_ms, sample.request)))


def _run(invocation: Invocation, prices: CostModel) -> Run:
    report = invocation.report
    usd = report.billed_ms / 1000 * float(prices.second_usd(report.memory_mb)) + prices.platform.pricing.request_usd
    started_ms = [part for part in (report.init_ms, report.restore_ms) if part is not None]
    return Run(
        invocation.slice,
        invocation.function,
        invocation.ended_ms,
        report.duration_ms,
        report.billed_ms,
        report.memory_mb,
        report.max_memory_mb,
        sum(started_ms) if started_ms else None,
        usd,
        report.status,
    )


def _sample(request: str, runs: list[Run], wanted: set[frozenset[int]]) -> Sample:
    """A request succeeded if each of its slices did at last, and is whole if one failed for good, too."""
    began_ms = min(run.began_ms for run in runs)
    last = {run.slice: run.status for run in sorted(runs, key=lambda run: run.ended_ms)}
    failures = [status for status in last.values() if status != "success"]
    seen = frozenset(index for index in last if index is not None)
    whole = seen in wanted or (bool(failures) and any(seen < slices for slices in wanted))
    ended_ms = max(run.ended_ms for run in runs)
    return Sample(request, began_ms, ended_ms - began_ms, failures[0] if failures else "success", whole, tuple(runs))


def _subject(deployment: Deployment, reports: Reports, model: str | None, slice: int | None, place: Place) -> Subject:
    chosen, version = deployment.model(model), deployment.version
    functions = tuple(
        FunctionUnderTest(one.slice, one.name, one.memory_mb, one.sha256)
        for one in version.functions
        if one.model == chosen.name and slice in (None, one.slice)
    )
    return Subject(
        name=deployment.key,
        model=chosen.name,
        file=chosen.file,
        version=version.number,
        target=deployment.target,
        platform=deployment.platform,
        architecture=reports.architecture,
        engine=_engine(place.versions),
        delivery=version.delivery,
        functions=functions,
    )


def _engine(versions: Mapping[str, str]) -> str:
    return f"onnxruntime {versions['onnxruntime']}" if "onnxruntime" in versions else "onnxruntime"


def _verdict(samples: Iterable[Sample]) -> Verdict:
    if any(sample.whole for sample in samples):
        return Verdict(True)
    if not samples:
        return Verdict(False, ("no function ran in this span of time",))
    return Verdict(False, ("functions ran in this span of time, and no request went through all slices",))
