"""A frontier as a picture: one SVG file that any browser shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_WIDTH, _HEIGHT, _MARGIN = 720, 440, 70
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#444}line{stroke:#ccc}polyline{fill:none;stroke:#00796b;stroke-width:2}"
    "circle{fill:#00796b}"
)


@dataclass(frozen=True)
class Point:
    """One plan: where it lies, and what is shown when one points at it."""

    x: float
    y: float
    text: str


def write_frontier(path: Path, points: Sequence[Point], *, title: str, x_label: str, y_label: str) -> None:
    """Write the points, joined by steps: between two of them there is no plan."""
    points = sorted(points, key=lambda point: point.x)
    x_of = _scale([point.x for point in points], _MARGIN, _WIDTH - 20)
    y_of = _scale([point.y for point in points], _HEIGHT - _MARGIN, 40)
    steps = []
    for index, point in enumerate(points):
        if index:
            steps.append(f"{x_of(point.x):.1f},{y_of(points[index - 1].y):.1f}")
        steps.append(f"{x_of(point.x):.1f},{y_of(point.y):.1f}")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<text x="{_MARGIN}" y="22" font-weight="bold">{escape(title)}</text>',
        *_axis(x_of, [point.x for point in points], horizontal=True),
        *_axis(y_of, [point.y for point in points], horizontal=False),
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(16 {_HEIGHT / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
        f'<polyline points="{" ".join(steps)}"/>',
        *(
            f'<circle cx="{x_of(p.x):.1f}" cy="{y_of(p.y):.1f}" r="4"><title>{escape(p.text)}</title></circle>'
            for p in points
        ),
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n")


def _scale(values: Sequence[float], start: float, end: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    return lambda value: start + (end - start) * (0.03 + 0.94 * (value - low) / span)


def _axis(place: Callable[[float], float], values: Sequence[float], *, horizontal: bool) -> list[str]:
    low, high = min(values), max(values)
    marks = [low + (high - low) * step / 4 for step in range(5)] if high > low else [low]
    lines = []
    for mark in marks:
        at = place(mark)
        if horizontal:
            lines.append(f'<line x1="{at:.1f}" y1="40" x2="{at:.1f}" y2="{_HEIGHT - _MARGIN}"/>')
            lines.append(f'<text x="{at:.1f}" y="{_HEIGHT - _MARGIN + 18}" text-anchor="middle">{mark:.4g}</text>')
        else:
            lines.append(f'<line x1="{_MARGIN}" y1="{at:.1f}" x2="{_WIDTH - 20}" y2="{at:.1f}"/>')
            lines.append(f'<text x="{_MARGIN - 6}" y="{at + 4:.1f}" text-anchor="end">{mark:.4g}</text>')
    return lines
