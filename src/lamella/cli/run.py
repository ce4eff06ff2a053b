"""`lamella run`: run a model, whole or in slices, on this machine."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.items import Named, answers_view, of_file, print_answers, read_items, task_choice
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
    Task,
    TaskFolder,
    TaskSettings,
    Texts,
)
from lamella.cli.views import check_output_file, print_outputs, summary_view
from lamella.errors import EngineError, ItemError, UsageError

if TYPE_CHECKING:
    from lamella.cli.results import Summary
    from lamella.tasks.base import Answer
    from lamella.tensors import Array
    from lamella.workflow.pipeline import Pipeline, SliceTiming


def run(
    source: Annotated[Path, typer.Argument(metavar="MODEL|DIR", help="A model file, or a slices directory.")],
    *,
    inputs: Inputs = None,
    random: Random = False,
    seed: Seed = 0,
    task: Task = None,
    task_folder: TaskFolder = None,
    task_settings: TaskSettings = None,
    texts: Texts = None,
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
    """Run a model or its slices, and show outputs or answers, times and peak memory."""
    check_output_file(file, json=json)
    from lamella.engines.opening import engine_for
    from lamella.workflow.pipeline import Pipeline

    name = engine_for(source, engine)
    load = partial(
        Pipeline,
        low_memory=low_memory,
        threads=threads,
        custom_ops=custom_ops or (),
        engine=name,
        execution_providers=execution_provider or (),
        fallback=not no_fallback,
        precision=precision,
    )
    if task is not None:
        if random or file is not None:
            raise UsageError("a task makes its own inputs, and answers", hint="leave `--random` out; save `--json`")
        choice, items = task_choice(task, task_folder, task_settings or []), read_items(inputs or [], texts or [])
        with output.status(f"running {source}"), load(source, task=choice) as pipeline:
            answers, latency_ms = _answer(pipeline, items, repeat)
        _show_answers(pipeline, items, answers, latency_ms, json=json)
        return
    if task_folder or task_settings or texts:
        raise UsageError("there is no task for what is said of one", hint="name it with `--task`")
    from lamella.cli.inputs import feeds
    from lamella.workflow.parts import open_source

    opened = open_source(source, name)
    given = feeds(
        inputs or [], opened.inputs, opened.optional_inputs, bounds=opened.index_bounds, random=random, seed=seed
    )
    with output.status(f"running {source}"), load(opened) as pipeline:
        found, latency_ms = _infer(pipeline, given, repeat, made_up=random)
    _show(pipeline, found, latency_ms, file, json=json)


def _answer(pipeline: Pipeline, items: list[Named], repeat: int) -> tuple[list[Answer], list[float]]:
    latency_ms: list[float] = []
    answers: list[Answer] = []
    for _ in range(repeat):
        started = perf_counter()
        try:
            answers = pipeline.answer([named.item for named in items])
        except ItemError as error:
            raise of_file(error, items) from error
        latency_ms.append((perf_counter() - started) * 1000)
    return answers, latency_ms


def _show_answers(
    pipeline: Pipeline, items: list[Named], answers: list[Answer], latency_ms: list[float], *, json: bool
) -> None:
    from lamella.runtime.memory import peak_rss_bytes

    peak = peak_rss_bytes()
    if json:
        view = _view([], latency_ms, pipeline.timings, peak)
        output.json_object("lamella.run/1", {"answers": answers_view(items, answers), **view})
        return
    print_answers(items, answers)
    output.line()
    _print_costs(latency_ms, peak)


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
    _print_costs(latency_ms, peak)


def _print_costs(latency_ms: list[float], peak: int) -> None:
    runs = f" (median of {len(latency_ms)})" if len(latency_ms) > 1 else ""
    output.facts(
        [
            ("latency", f"{output.milliseconds(median(latency_ms))}{runs}"),
            ("peak memory", output.memory(peak)),
        ]
    )
