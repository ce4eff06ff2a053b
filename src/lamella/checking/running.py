"""Memory and time."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

from lamella.checking.measuring import Figures
from lamella.checking.report import Check, Origin, source_of
from lamella.checking.setting import Setting
from lamella.platforms.base import MB

_FASTER = "give it more memory, and with it more of a processor"


def running_checks(setting: Setting, figures: Figures, way_out: str) -> Iterator[Check]:
    """What a function takes of memory and time."""
    if figures.error is not None and not figures.killed:
        yield _refused(setting, figures)
        return
    yield _memory(setting, figures, way_out)
    yield from _times(setting, figures, way_out)


def _refused(setting: Setting, figures: Figures) -> Check:
    return Check(
        "engine",
        f"engine{figures.subject.label}",
        None,
        setting.closure.engine,
        "",
        "violated",
        "measured",
        setting.closure.engine,
        detail=figures.error,
        hint="build the library with its operators for this engine"
        if figures.subject.custom_ops
        else "export the model for an older opset, or name the library with its operators with `--custom-ops`",
        slice=figures.subject.index,
    )


def _memory(setting: Setting, figures: Figures, way_out: str) -> Check:
    taken = ceil(figures.peak_bytes / MB)
    fits = taken <= setting.memory_mb and not figures.killed
    sizes = setting.limits.memory_sizes(taken)
    details = [f"a function of {sizes[0]:,} MB holds it"] if sizes else []
    if figures.added_bytes:
        details.append(
            f"{ceil(figures.added_bytes / MB):,} MB of it are added, since the platform's runtime takes more"
        )
    if figures.killed:
        details = ["the system killed the process that ran it here"]
    larger = f"give it {sizes[0]:,} MB, or " if sizes and not fits and not setting.largest else ""
    return Check(
        "memory_max_mb" if setting.largest else "memory_mb",
        f"memory{figures.subject.label}",
        taken,
        setting.memory_mb,
        "MB",
        "ok" if fits else "violated",
        "measured" if figures.measured else "estimated",
        source_of(setting.platform, "memory_max_mb") if setting.largest else "what was asked for",
        "; ".join(details) or None,
        None if fits else f"{_fewer(setting)}{larger}{way_out}",
        figures.subject.index,
    )


def _times(setting: Setting, figures: Figures, way_out: str) -> Iterator[Check]:
    """The request and the initialisation, from what was measured here or from operator statistics.

    An initialisation that the platform stops runs again within the request, and its time counts there.
    """
    costs = setting.cost_model.costs(figures.load, setting.memory_mb, workflow=False)
    origin: Origin = "estimated"
    init_s = float(costs.runtime_ms + costs.weights_ms + costs.session_ms) / 1000
    again = float(costs.lost_ms) > 0
    request_s = float(costs.transfer_ms + costs.compute_ms) / 1000 + (init_s if again else 0.0)
    basis = "from a run here" if figures.measured else "from operator statistics"
    detail = f"with {setting.memory_mb:,} MB, {basis}"
    label = figures.subject.label
    yield setting.against(
        "timeout_s",
        f"time{label}",
        _rounded(request_s),
        origin=origin,
        unit="s",
        hint=f"{_fewer(setting)}{'' if setting.largest else f'{_FASTER}, or '}{way_out}",
        detail=f"{detail}, and the initialisation, which runs again" if again else detail,
    )
    yield setting.against(
        "init_timeout_s",
        f"initialisation{label}",
        _rounded(init_s),
        origin=origin,
        unit="s",
        above="warning",
        hint=f"it is stopped, and runs again within the first request: {way_out}, whose parts load side by side",
        detail=detail,
    )


def _fewer(setting: Setting) -> str:
    return "send fewer rows at a time, or " if setting.batch > 1 else ""


def _rounded(seconds: float) -> float:
    return float(f"{seconds:.3g}")
