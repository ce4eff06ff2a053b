"""What `lamella check` found: one entry for each limit, and the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lamella.packaging.closure import Closure
from lamella.platforms.base import Platform

Verdict = Literal["ok", "violated", "warning", "skipped"]
Origin = Literal["measured", "counted", "recorded", "estimated"]
Quantity = int | float | str | None


@dataclass(frozen=True)
class Check:
    """One limit against one model or slice.

    Attributes:
        limit: What limits: a field of `platforms.base.Limits`, or `memory_mb`, `opset`, `ir_version`, `engine`,
            `engine_version`, `batch`, `saturation`.
        title: The same for people, with the slice or domain that it is about.
        value: What the model takes, in `unit`; None where that is not known.
        allowed: What the limit is, in `unit`; None where the platform sets none.
        unit: `bytes`, `MB` (of 1024 KB), `s`, `rows`, `version`, or empty.
        verdict: `violated` means that it does not fit; `warning` that it may cost time, money or accuracy.
        origin: How `value` was found.
        source: Where `allowed` comes from, with the date it was read.
        detail: What else there is to say.
        hint: What to do about it, where the verdict is not `ok`.
        slice: Index of the slice that was checked; None for a whole model.
    """

    limit: str
    title: str
    value: Quantity
    allowed: Quantity
    unit: str
    verdict: Verdict
    origin: Origin
    source: str | None = None
    detail: str | None = None
    hint: str | None = None
    slice: int | None = None

    @property
    def text(self) -> str:
        """What it says, on one line."""
        return f"{self.title}: {'; '.join(text for text in (self.detail, self.hint) if text)}"


@dataclass(frozen=True)
class Report:
    """Whether a platform takes a model, or its slices.

    Attributes:
        model: The model's file or the slices directory, as it was given.
        platform: Name of the platform.
        profile: Its variant, such as `new-account`.
        architecture: Processors of the functions.
        memory_mb: Memory of the functions that was asked for; the platform's largest by default.
        batch: Rows in one request.
        closure: What a package holds beside the model.
        checks: Every check that was made.
        minimum_slices: The fewest slices of which each fits a function's memory and package, as estimated; None where
            no number of slices does.
        notes: What limits how far the figures can be trusted.
    """

    model: str
    platform: str
    profile: str | None
    architecture: str
    memory_mb: int
    batch: int
    closure: Closure
    checks: tuple[Check, ...]
    minimum_slices: int | None
    notes: tuple[str, ...] = ()

    @property
    def violations(self) -> tuple[Check, ...]:
        """The checks that say no."""
        return tuple(check for check in self.checks if check.verdict == "violated")

    @property
    def fits(self) -> bool:
        """Whether no limit is violated."""
        return not self.violations

    @property
    def warnings(self) -> tuple[str, ...]:
        """What does not keep the model from running, but should be known."""
        return (*(check.text for check in self.checks if check.verdict == "warning"), *self.notes)


def source_of(platform: Platform, limit: str) -> str | None:
    """Where a platform's file has a limit from, and when it was read."""
    figure = platform.figures.get(f"limits.{limit}")
    return None if figure is None else f"{figure.source} ({figure.as_of.isoformat()})"
