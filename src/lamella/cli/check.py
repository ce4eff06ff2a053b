"""`lamella check`: whether a platform takes a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import ENGINE, CustomOps, Json
from lamella.cli.sizes import parse_memory_mb

if TYPE_CHECKING:
    from lamella.checking.report import Check, Quantity, Report

_PLATFORM = "Platform"
_SHOWN = {"ok": "ok", "skipped": "not known", "warning": "warning", "violated": "NO"}  # the worst one last


def check(
    model: Annotated[Path, typer.Argument(metavar="MODEL|DIR", help="An `.onnx` file, or a slices directory.")],
    *,
    platform: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            envvar="LAMELLA_PLATFORM",
            rich_help_panel=_PLATFORM,
            help="A platform, such as `aws-lambda`, or a `.toml` file of your own.",
        ),
    ],
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", rich_help_panel=_PLATFORM, help="A variant of it, such as `new-account`."),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            envvar="LAMELLA_ARCHITECTURE",
            rich_help_panel=_PLATFORM,
            help="`x86_64` or `arm64`; by default the platform's first.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="MB|SIZE",
            envvar="LAMELLA_MEMORY",
            rich_help_panel=_PLATFORM,
            help="Memory of the functions, such as `1769` or `2GB`; by default the platform's largest.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", min=1, rich_help_panel=_PLATFORM, help="Rows in one request.")] = 1,
    run: Annotated[
        bool,
        typer.Option(
            "--run/--no-run",
            rich_help_panel=ENGINE,
            help="Run the model to measure memory and time, or estimate them and fetch nothing.",
        ),
    ] = True,
    custom_ops: CustomOps = None,
    json: Json = False,
) -> None:
    """Check a model or its slices against every limit of a platform. Exit status 1 if it does not fit."""
    from lamella.checking.check import check as run_checks

    with output.status(f"checking {model}"):
        report = run_checks(
            model,
            platform=platform,
            profile=profile,
            architecture=architecture,
            memory_mb=None if memory is None else parse_memory_mb(memory),
            batch=batch,
            run=run,
            custom_ops=tuple(custom_ops or ()),
        )
    if json:
        output.json_object("lamella.check/1", _view(report))
    else:
        _print(report)
    if not report.fits:
        raise typer.Exit(1)


def _view(report: Report) -> dict[str, object]:
    closure = report.closure
    return {
        "model": report.model,
        "platform": report.platform,
        "profile": report.profile,
        "architecture": report.architecture,
        "memory_mb": report.memory_mb,
        "batch": report.batch,
        "fits": report.fits,
        "violations": [_check_view(found) for found in report.violations],
        "warnings": list(report.warnings),
        "checks": [_check_view(found) for found in report.checks],
        "minimum_slices": report.minimum_slices,
        "closure": {
            "python": closure.python,
            "as_of": closure.as_of,
            "unzipped_bytes": closure.unzipped_bytes,
            "zipped_bytes": closure.zipped_bytes,
            "own_bytes": closure.own_bytes,
            "wheels": [
                {
                    "name": wheel.name,
                    "version": wheel.version,
                    "unzipped_bytes": wheel.unzipped_bytes,
                    "zipped_bytes": wheel.zipped_bytes,
                    "unused_bytes": wheel.unused_bytes,
                }
                for wheel in closure.wheels
            ],
            "heaviest": [{"path": path, "bytes": size} for path, size in closure.heaviest],
        },
    }


def _check_view(found: Check) -> dict[str, object]:
    return {
        "limit": found.limit,
        "title": found.title,
        "slice": found.slice,
        "value": found.value,
        "allowed": found.allowed,
        "unit": found.unit,
        "verdict": found.verdict,
        "origin": found.origin,
        "source": found.source,
        "detail": found.detail,
        "hint": found.hint,
    }


def _print(report: Report) -> None:
    rows = [
        (
            found.title,
            *_quantities(found),
            found.origin,
            _verdict(found),
        )
        for found in _worst(report)
    ]
    output.table(["check", "value", "allowed", "how", "fits"], rows, right=(1, 2))
    for found in report.violations:
        output.line()
        _print_violation(found)
    output.line()
    output.line(_summary(report))
    for found in _worst(report):
        if found.verdict == "warning":
            output.warning(found.text)
    for note in report.notes:
        output.warning(note)


def _worst(report: Report) -> list[Check]:
    """Of each check that is known to say something, the one that says it of the slice nearest to the limit."""
    worst: dict[tuple[str, str], Check] = {}
    for found in report.checks:
        if found.allowed is None and found.verdict == "skipped" and found.limit != "batch":
            continue
        key = (found.limit, found.title if found.limit == "opset" else "")
        known = worst.get(key)
        if known is None or _rank(found) > _rank(known):
            worst[key] = found
    return list(worst.values())


def _rank(found: Check) -> tuple[int, float]:
    value = found.value if isinstance(found.value, int | float) else 0.0
    return list(_SHOWN).index(found.verdict), value


def _verdict(found: Check) -> str:
    larger = isinstance(found.value, int) and isinstance(found.allowed, int) and found.value > found.allowed
    if found.limit == "workflow_payload_bytes" and larger:
        return "by reference"
    return _SHOWN[found.verdict]


def _print_violation(found: Check) -> None:
    pairs = [
        ("does not fit", found.title),
        ("because", found.detail or ""),
        ("source", found.source or ""),
        ("what to do", found.hint or ""),
    ]
    output.facts([(name, value) for name, value in pairs if value])


def _summary(report: Report) -> str:
    variant = f" ({report.profile})" if report.profile else ""
    where = f"{report.platform}{variant}, {report.architecture}, {report.memory_mb:,} MB"
    if report.fits:
        return f"fits {where}"
    count = len(report.violations)
    slices = "; no number of slices fits"
    if report.minimum_slices is not None:
        least = report.minimum_slices
        slices = f"; fits memory and package from {least} slices on" if least > 1 else ""
    return f"does not fit {where}: {count} limit{'s' * (count != 1)}{slices}"


def _quantities(found: Check) -> tuple[str, str]:
    """Value and limit, in the same unit: the one that suits the larger of them."""
    largest = max((size for size in (found.value, found.allowed) if isinstance(size, int | float)), default=0)
    return _quantity(found.value, found.unit, largest), _quantity(found.allowed, found.unit, largest)


def _quantity(value: Quantity, unit: str, largest: float) -> str:
    if value is None:
        return "-"
    if unit == "bytes" and isinstance(value, int):
        if largest < 10 << 20:
            return output.count(value) + " B"
        return "< 1 MiB" if 0 < value < 1 << 20 else output.memory(value)
    if unit == "s" and isinstance(value, int | float):
        return f"{output.number(float(value))} s" if largest >= 1 else f"{output.number(float(value) * 1000)} ms"
    text = output.count(value) if isinstance(value, int) else output.number(value)
    return f"{text} {unit}" if unit == "MB" else text
