"""Results as a picture: six charts on a page, as PNG, SVG or PDF. The only place that knows matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lamella.bench.results import Results, Run, Sample
from lamella.bench.summary import distribution
from lamella.errors import MissingDependencyError, UsageError
from lamella.slicing.placement import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Those that colour-blind people tell apart (Okabe and Ito, 2008); markers tell slices apart as well."""

_MARKERS = "osD^vP*X"
_MOST_NAMED = 24  # slices in a legend, and boxes with a name below
_MOST_CUT = 12  # bars that reach above the chart and are told of
_MOST_JOINED = 60  # runs of a slice that are joined by a line
_INCHES, _DOTS = (13.0, 12.5), 130
_STYLE = {
    "font.size": 10.5,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titleweight": "bold",
    "axes.titlesize": 11.5,
    "axes.titlelocation": "left",
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",  # text stays text: it can be found and read aloud
    "svg.hashsalt": "lamella",
    "pdf.fonttype": 42,
}


def write_chart(results: Results, path: Path) -> None:
    """Draw a measurement: requests over time, and by slice their durations, charges and memory.

    Args:
        results: The measurement.
        path: Where to; its suffix says as what: `.png`, `.svg` or `.pdf`.

    Raises:
        UsageError: It is none of these, or there is nothing to draw.
        MissingDependencyError: matplotlib is not installed.
        OSError: It cannot be written.
    """
    check_format(path)
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "charts need `matplotlib`, which is not installed", hint="pip install 'lamella[bench]'"
        ) from error
    if not any(sample.runs for sample in results.samples):
        raise UsageError("there is nothing to draw: no function ran in this span of time", hint="give a longer one")
    with mpl.rc_context(_STYLE):  # type: ignore[arg-type]  # it wants every key to be a literal
        figure = Figure(figsize=_INCHES, dpi=_DOTS, layout="constrained")
        _draw(figure, results)
        kind = path.suffix[1:].lower()
        write_atomically(path, lambda partial: figure.savefig(partial, format=kind, metadata=_undated(kind)))


def check_format(path: Path) -> None:
    """Refuse what a chart cannot be written as.

    Raises:
        UsageError: The suffix is none that is known.
    """
    if path.suffix[1:].lower() not in FORMATS:
        known = ", ".join(f"`.{name}`" for name in FORMATS)
        raise UsageError(f"`{path}` is no name for a chart", hint=f"end it in one of {known}")


def _undated(kind: str) -> dict[str, str | None]:
    """The same results give the same file."""
    dates: dict[str, dict[str, str | None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    return dates.get(kind, {})


def _draw(figure: Figure, results: Results) -> None:
    places = figure.subplots(3, 2)
    slices = _by_slice(results)
    figure.suptitle(_title(results), fontsize=14, fontweight="bold", x=0.01, ha="left")
    whole = [sample for sample in results.samples if sample.whole]
    _requests_over_time(places[0, 0], whole)
    _charges(places[0, 1], whole, list(slices))
    _over_time(places[1, 0], slices, "duration", "ms")
    _over_time(places[1, 1], slices, "most memory", "MB")
    _boxes(places[2, 0], slices, "duration", "ms")
    _boxes(places[2, 1], slices, "start of an instance", "ms")
    handles, labels = places[1, 0].get_legend_handles_labels()
    if len(labels) <= _MOST_NAMED:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(8, len(labels)))


def _title(results: Results) -> str:
    subject, where = results.subject, results.place.region or "this machine"
    whole = sum(sample.whole for sample in results.samples)
    return f"{subject.name}: {subject.file}, {whole} requests on {subject.target} ({where})"


def _by_slice(results: Results) -> dict[str, list[Run]]:
    """The runs of each slice, by time; those of doors last."""
    found: dict[tuple[bool, int], list[Run]] = {}
    for sample in results.samples:
        for run in sample.runs:
            found.setdefault((run.slice is None, run.slice or 0), []).append(run)
    return {
        "door" if is_door else f"slice {index}": sorted(runs, key=lambda run: run.ended_ms)
        for (is_door, index), runs in sorted(found.items())
    }


def _requests_over_time(axes: Axes, samples: Sequence[Sample]) -> None:
    good = [sample for sample in samples if sample.status == "success"]
    for name, cold, colour, marker in (("warm", False, _COLOURS[0], "o"), ("cold", True, _COLOURS[5], "^")):
        shown = [sample for sample in good if sample.cold_start == cold]
        label = f"{name} ({len(shown)})"
        times, values = [_moment(one.began_ms) for one in shown], [one.latency_ms for one in shown]
        axes.scatter(times, values, s=26, c=colour, marker=marker, alpha=0.8, linewidths=0, label=label)  # type: ignore[arg-type]  # dates
    found = distribution(sample.latency_ms for sample in good)
    if found is not None:
        for percent, value, style in ((50, found.p50, "-"), (90, found.p90, "--"), (99, found.p99, ":")):
            axes.axhline(value, color="#555555", linestyle=style, linewidth=1, label=f"p{percent}: {_figure(value)} ms")
    _finish(axes, "Latency of requests", "latency, ms", [sample.latency_ms for sample in good])
    _clock(axes)
    axes.legend(loc="lower left", bbox_to_anchor=(0, 0.98), ncols=5, columnspacing=1.2, handletextpad=0.5)
    axes.set_title("Latency of requests", pad=24)


def _charges(axes: Axes, samples: Sequence[Sample], names: Sequence[str]) -> None:
    """What each request is charged for, slice upon slice; many requests become steps without gaps."""
    from matplotlib.ticker import MaxNLocator

    bottom = [0.0] * len(samples)
    for number, name in enumerate(names):
        if name == "door":
            continue
        index = int(name.removeprefix("slice "))
        heights = [sum(run.billed_ms or 0.0 for run in one.runs if run.slice == index) for one in samples]
        width = 0.8 if len(samples) <= 60 else 1.0
        axes.bar(range(1, len(samples) + 1), heights, width, bottom, color=_colour(number, len(names)), label=name)
        bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, "Charged for each request, all slices together", "billed duration, ms", [])
    _cut(axes, bottom)
    axes.set_xlabel("request, in the order in which they began")


def _cut(axes: Axes, heights: Sequence[float]) -> None:
    """Where few bars, such as those of cold starts, would press all others flat: cut them, and say how high they are.

    The axis then ends at three times what nine of ten bars reach.
    """
    found = distribution(heights)
    if found is None or found.p90 <= 0 or found.max <= 8 * found.p90:
        return
    top = 3 * found.p90
    axes.set_ylim(0, top)
    cut = [(number, height) for number, height in enumerate(heights, 1) if height > top]
    for number, height in cut[:_MOST_CUT]:
        axes.annotate(
            f"{_figure(height)} ↑", (number, top), xytext=(3, -2), textcoords="offset points", va="top", fontsize=9
        )


def _over_time(axes: Axes, slices: dict[str, list[Run]], what: str, unit: str) -> None:
    values: list[float] = []
    for number, (name, runs) in enumerate(slices.items()):
        colour, marker = _colour(number, len(slices)), _MARKERS[number % len(_MARKERS)]
        known = [(_moment(run.ended_ms), value) for run in runs if (value := _value(run, what)) is not None]
        times, heights = [time for time, _ in known], [value for _, value in known]
        many = len(known) > _MOST_JOINED
        line = {"linewidth": 0.0 if many else 0.8, "markersize": 3.0 if many else 4.5, "markeredgewidth": 0.0}
        axes.plot(times, heights, color=colour, marker=marker, label=name, alpha=0.85, **line)  # type: ignore[arg-type]  # dates
        values += heights
    title = f"{what.capitalize()} of each run"
    if what == "most memory":
        sizes = sorted({run.memory_mb for runs in slices.values() for run in runs})
        title += f" (of {', '.join(f'{size:,.0f}' for size in sizes)} MB)"
        for size in sizes:
            if values and max(values) > size / 2:  # else it would press everything else together
                axes.axhline(size, color="#b00020", linestyle="--", linewidth=1)
    _finish(axes, title, f"{what}, {unit}", [] if what == "most memory" else values)
    _clock(axes)


def _boxes(axes: Axes, slices: dict[str, list[Run]], what: str, unit: str) -> None:
    """Half of the values lie in a box, whiskers reach 1.5 times as far, and what lies beyond is a dot."""
    shown = {name: [r for r in runs if what != "duration" or not r.cold_start] for name, runs in slices.items()}
    found = {name: [v for run in runs if (v := _value(run, what)) is not None] for name, runs in shown.items()}
    found = {name: values for name, values in found.items() if values}
    title = f"{what.capitalize()}{' of warm runs' if what == 'duration' else ''}"
    if not found:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", va="center", color="#777777")
    else:
        boxes = axes.boxplot(list(found.values()), patch_artist=True, widths=0.55, medianprops={"color": "black"})
        names = list(slices)
        for box, dots, name in zip(boxes["boxes"], boxes["fliers"], found, strict=True):
            box.set(facecolor=_colour(names.index(name), len(names)), alpha=0.75)
            dots.set(markersize=3.5, markerfacecolor="#777777", markeredgewidth=0)
        step = -(-len(found) // _MOST_NAMED)
        labels = [f"{name.removeprefix('slice ')}\n({len(values)})" for name, values in found.items()]
        axes.set_xticks(range(1, len(found) + 1, step), labels[::step])
    axes.set_xlabel("slice (and how many runs)")
    axes.grid(visible=False, axis="x")
    _finish(axes, title, f"{what}, {unit}", [value for values in found.values() for value in values])


def _value(run: Run, what: str) -> float | None:
    if what == "most memory":
        return run.max_memory_mb
    return run.init_ms if what == "start of an instance" else run.duration_ms


def _finish(axes: Axes, title: str, label: str, values: Sequence[float]) -> None:
    """Names and scale: logarithmic where the values differ eightfold, from zero where they do not."""
    axes.set_title(title)
    axes.set_ylabel(label)
    if values and min(values) > 0 and max(values) > 8 * min(values):
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _figure(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        highest = axes.dataLim.y1
        axes.set_ylim(0, 1.08 * highest if 0 < highest < float("inf") else None)


def _clock(axes: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator(tz=UTC, minticks=3, maxticks=11)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.set_xlabel("time, UTC")


def _colour(number: int, count: int) -> str | tuple[float, ...]:
    """A colour of its own for each slice; where there are too many, from a scale that all can see."""
    if count <= len(_COLOURS):
        return _COLOURS[number]
    from matplotlib import colormaps

    return colormaps["viridis"](number / max(1, count - 1))


def _moment(ms: float) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
