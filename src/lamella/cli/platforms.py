"""`lamella platforms`: what platforms allow and charge, how fast they are, and where each value comes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from lamella.cli import output
from lamella.cli.options import OUTPUT, Json
from lamella.errors import UsageError

if TYPE_CHECKING:
    from lamella.platforms.base import Figure, Platform

_SECTIONS = {"limits": "limit", "pricing": "price", "speeds": "speed"}


def platforms(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME|FILE.toml", help="One platform, or a file that describes one.")
    ] = None,
    *,
    profile: Annotated[
        str | None,
        typer.Option(
            metavar="PROFILE",
            rich_help_panel=OUTPUT,
            help="A variant of the platform, such as `new-account`.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the limits, prices and speeds of platforms, and where each value comes from."""
    from lamella.platforms.reading import load_platform
    from lamella.platforms.reading import platforms as known_platforms

    if name is None and profile is not None:
        raise UsageError(
            "`--profile` needs a platform", hint=f"write `lamella platforms aws-lambda --profile {profile}`"
        )
    found = known_platforms() if name is None else [load_platform(name, profile=profile)]
    if json:
        output.json_object("lamella.platforms/1", {"platforms": [_view(platform) for platform in found]})
    elif name is None:
        _print_all(found)
    else:
        _print(found[0])


def _view(platform: Platform) -> dict[str, object]:
    return {
        "name": platform.name,
        "title": platform.title,
        "profile": platform.profile,
        "profiles": list(platform.profiles),
        "architectures": list(platform.architectures),
        "python_versions": list(platform.python_versions),
        **{section: _figures_view(_section(platform, section)) for section in _SECTIONS},
    }


def _figures_view(figures: Mapping[str, Figure]) -> dict[str, object]:
    return {
        key: {
            "value": list(figure.value) if isinstance(figure.value, tuple) else figure.value,
            "unit": figure.unit,
            "source": figure.source,
            "as_of": figure.as_of.isoformat(),
        }
        for key, figure in figures.items()
    }


def _section(platform: Platform, section: str) -> dict[str, Figure]:
    prefix = f"{section}."
    return {
        place.removeprefix(prefix): figure for place, figure in platform.figures.items() if place.startswith(prefix)
    }


def _print_all(platforms: list[Platform]) -> None:
    rows = [
        (
            platform.name,
            _memory(platform),
            _megabytes(platform.limits.package_unzipped_bytes),
            "none" if platform.limits.timeout_s is None else f"{platform.limits.timeout_s:,g} s",
            _megabytes(platform.limits.request_bytes),
            _price_of_time(platform),
            f"{platform.pricing.request_usd * 1e6:.2f}",
        )
        for platform in platforms
    ]
    headers = ["platform", "memory", "package", "timeout", "payload", "USD per GB-s", "USD per million requests"]
    output.table(headers, rows, right=(2, 3, 4, 6))


def _memory(platform: Platform) -> str:
    limits = platform.limits
    if limits.memory_sizes_mb:
        return f"{', '.join(output.count(size) for size in limits.memory_sizes_mb)} MB"
    return f"{output.count(limits.memory_min_mb)} to {output.count(limits.memory_max_mb)} MB"


def _megabytes(size_bytes: int | None) -> str:
    """A size as platforms write it: their MB has 1024 KB."""
    return "none" if size_bytes is None else f"{size_bytes / (1 << 20):,g} MB"


def _price_of_time(platform: Platform) -> str:
    pricing = platform.pricing
    if pricing.gb_s_usd:
        return ", ".join(f"{_decimal(pricing.gb_s_usd[name])} {name}" for name in platform.architectures)
    return f"{_decimal(pricing.gib_s_usd)}, and {_decimal(pricing.vcpu_s_usd)} per vCPU-s"


def _print(platform: Platform) -> None:
    pairs = [
        ("platform", platform.name),
        ("title", platform.title),
        ("profile", platform.profile or ""),
        ("profiles", ", ".join(platform.profiles)),
        ("architectures", ", ".join(platform.architectures)),
        ("Python", ", ".join(platform.python_versions) or "any"),
    ]
    output.facts([(name, value) for name, value in pairs if value])
    for section, title in _SECTIONS.items():
        rows = [
            (key, _value(figure), figure.unit, figure.as_of.isoformat(), figure.source)
            for key, figure in _section(platform, section).items()
        ]
        output.line()
        output.table([title, "value", "unit", "as of", "source"], rows, right=(1,))


def _value(figure: Figure) -> str:
    value = figure.value
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(output.count(item) for item in value)
    return _decimal(value) if isinstance(value, float) else output.count(value)


def _decimal(number: float) -> str:
    """All digits of a small price, without an exponent: `0.0000166667`."""
    whole, _, digits = f"{number:,.12f}".partition(".")
    return f"{whole}.{digits.rstrip('0')}".rstrip(".")
