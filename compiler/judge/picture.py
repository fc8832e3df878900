"""A chart of lines over named places as SVG text: no library, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, isfinite
from typing import TypeGuard

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 130
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
STEPS = (1, 2, 5, 10, 20, 50, 100)
MOST_LABELS = 60


@dataclass(frozen=True)
class Axes:
    """Where places and values lie on the picture."""

    places: Sequence[str]
    low: float
    step: float
    ticks: int

    @property
    def high(self) -> float:
        return self.low + self.ticks * self.step

    def x(self, place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / max(len(self.places), 1)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low)


def chart(
    title: str, unit: str, places: Sequence[str], lines: Mapping[str, Sequence[float | None]]
) -> str:
    """An SVG of one line for each name; a value that is None is left out, and the line joins its neighbours."""
    axes = _axes(places, [v for line in lines.values() for v in line if _is_known(v)])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, f"{title} ({unit})", size=14),
        *_ticks(axes),
        *_labels(axes),
    ]
    for number, ((name, line), colour) in enumerate(zip(lines.items(), COLOURS, strict=False)):
        parts += _line(axes, line, colour)
        left = WIDTH - RIGHT - 110 * (len(lines) - number)
        parts.append(_text(left, 20, name, fill=colour, size=13))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _axes(places: Sequence[str], known: Sequence[float]) -> Axes:
    """Round steps that hold all values, eight at most."""
    step = _step(known)
    low = step * floor(min(known, default=0.0) / step)
    high = max(step * ceil(max(known, default=1.0) / step), low + step)
    return Axes(places, low, step, round((high - low) / step))


def _ticks(axes: Axes) -> Iterator[str]:
    for tick in range(axes.ticks + 1):
        value = axes.low + tick * axes.step
        at = axes.y(value)
        line = f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        yield line + _text(LEFT - 6, at + 4, f"{value:g}", anchor="end")


def _labels(axes: Axes) -> Iterator[str]:
    """Names below; where there are too many, every so many."""
    every = max(ceil(len(axes.places) / MOST_LABELS), 1)
    for place in range(0, len(axes.places), every):
        at = f"translate({axes.x(place) + 4:.1f} {HEIGHT - BOTTOM + 10}) rotate(-60)"
        name = escape(axes.places[place])
        yield f'<text transform="{at}" text-anchor="end" font-size="9">{name}</text>'


def _line(axes: Axes, line: Sequence[float | None], colour: str) -> Iterator[str]:
    points = [(axes.x(p), axes.y(v)) for p, v in enumerate(line) if _is_known(v)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
    for x, y in points:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'


def _is_known(value: float | None) -> TypeGuard[float]:
    return value is not None and isfinite(value)


def _step(values: Sequence[float]) -> float:
    span = max(values, default=1.0) - min(values, default=0.0)
    return next((step for step in STEPS if span / step <= 8), STEPS[-1])


def _text(
    x: float, y: float, text: str, anchor: str = "start", fill: str = "#222", size: int = 11
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-size="{size}">{escape(text)}</text>'
    )
