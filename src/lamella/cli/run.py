"""`lamella run`: run a model, whole or in slices, on this machine."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import (
    ENGINE,
    CustomOps,
    Engine,
    ExecutionProviders,
    Inputs,
    Json,
    NoFallback,
    OutputFile,
    Precision,
    Random,
    Seed,
)
from lamella.cli.views import check_output_file, print_outputs, summary_view
from lamella.errors import EngineError

if TYPE_CHECKING:
    from lamella.cli.results import Summary
    from lamella.tensors import Array
    from lamella.workflow.pipeline import Pipeline, SliceTiming


def run(
    source: Annotated[Path, typer.Argument(metavar="MODEL|DIR", help="A model file, or a slices directory.")],
    *,
    inputs: Inputs = None,
    random: Random = False,
    seed: Seed = 0,
    low_memory: Annotated[
        bool,
        typer.Option(
            "--low-memory",
            envvar="LAMELLA_LOW_MEMORY",
            rich_help_panel=ENGINE,
            help="Keep one slice in memory at a time.",
        ),
    ] = False,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            envvar="LAMELLA_THREADS",
            rich_help_panel=ENGINE,
            help="Threads for one operator; by default this process's share of the CPU.",
            show_default=False,
        ),
    ] = None,
    engine: Engine = None,
    execution_provider: ExecutionProviders = None,
    no_fallback: NoFallback = False,
    precision: Precision = "f32",
    custom_ops: CustomOps = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", rich_help_panel=ENGINE, help="Run this many times.")] = 1,
    file: OutputFile = None,
    json: Json = False,
) -> None:
    """Run a model or its slices, and show outputs, times and peak memory."""
    check_output_file(file, json=json)
    from lamella.cli.inputs import feeds
    from lamella.engines.opening import engine_for
    from lamella.workflow.parts import open_source
    from lamella.workflow.pipeline import Pipeline

    name = engine_for(source, engine)
    opened = open_source(source, name)
    given = feeds(
        inputs or [], opened.inputs, opened.optional_inputs, bounds=opened.index_bounds, random=random, seed=seed
    )
    with (
        output.status(f"running {source}"),
        Pipeline(
            opened,
            low_memory=low_memory,
            threads=threads,
            custom_ops=custom_ops or (),
            engine=name,
            execution_providers=execution_provider or (),
            fallback=not no_fallback,
            precision=precision,
        ) as pipeline,
    ):
        found, latency_ms = _infer(pipeline, given, repeat, made_up=random)
    _show(pipeline, found, latency_ms, file, json=json)


def _infer(
    pipeline: Pipeline, feeds: dict[str, Array], repeat: int, *, made_up: bool
) -> tuple[dict[str, Array], list[float]]:
    latency_ms: list[float] = []
    found: dict[str, Array] = {}
    for _ in range(repeat):
        started = perf_counter()
        try:
            found = pipeline.infer(feeds)
        except EngineError as error:
            if made_up:
                real = "made-up inputs may not suit this model: give real ones with `--input NAME=FILE`"
                error.hint = f"{error.hint}; {real}" if error.hint else real
            raise
        latency_ms.append((perf_counter() - started) * 1000)
    return found, latency_ms


def _show(
    pipeline: Pipeline, found: dict[str, Array], latency_ms: list[float], file: str | None, *, json: bool
) -> None:
    from lamella.cli.results import save, summary
    from lamella.runtime.memory import peak_rss_bytes

    peak = peak_rss_bytes()
    if file == "-":
        save(output.binary_stdout(), found)
        return
    summaries = [summary(spec, found[spec.name]) for spec in pipeline.outputs]
    if file is not None:
        save(Path(file), found)
        output.message(f"wrote `{file}`")
    if json:
        content = _view(summaries, latency_ms, pipeline.timings, peak)
        output.json_object("lamella.run/1", {"engine": pipeline.engine, **content})
    else:
        _print(summaries, latency_ms, pipeline.timings, peak)


def _view(
    summaries: list[Summary], latency_ms: list[float], timings: list[SliceTiming], peak: int
) -> dict[str, object]:
    return {
        "outputs": [summary_view(found) for found in summaries],
        "latency_ms": latency_ms,
        "slices": [
            {"index": index, "load_ms": median(timing.load_ms), "infer_ms": median(timing.infer_ms)}
            for index, timing in enumerate(timings)
        ],
        "peak_rss_bytes": peak,
    }


def _print(summaries: list[Summary], latency_ms: list[float], timings: list[SliceTiming], peak: int) -> None:
    print_outputs(summaries)
    output.line()
    times = [
        (str(index), output.milliseconds(median(timing.load_ms)), output.milliseconds(median(timing.infer_ms)))
        for index, timing in enumerate(timings)
    ]
    output.table(["slice", "load", "infer"], times, right=(0, 1, 2))
    output.line()
    runs = f" (median of {len(latency_ms)})" if len(latency_ms) > 1 else ""
    output.facts(
        [
            ("latency", f"{output.milliseconds(median(latency_ms))}{runs}"),
            ("peak memory", output.memory(peak)),
        ]
    )
