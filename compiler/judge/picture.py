"""A chart of lines over named places as SVG text: no library, the same bytes for the same numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, isfinite

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 34, 130
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")
STEPS = (1, 2, 5, 10, 20, 50, 100)
MOST_LABELS = 60


def chart(
    title: str, unit: str, places: Sequence[str], lines: Mapping[str, Sequence[float | None]]
) -> str:
    """An SVG of one line for each name; a value that is None is left out, and the line joins its neighbours."""
    known = [v for line in lines.values() for v in line if v is not None and isfinite(v)]
    step = _step(known)
    low = step * floor(min(known, default=0.0) / step)
    high = max(step * ceil(max(known, default=1.0) / step), low + step)

    def x(place: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (place + 0.5) / max(len(places), 1)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, f"{title} ({unit})", size=14),
    ]
    for tick in range(round((high - low) / step) + 1):
        value = low + tick * step
        parts.append(
            f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
            + _text(LEFT - 6, y(value) + 4, f"{value:g}", anchor="end")
        )
    every = ceil(len(places) / MOST_LABELS)
    for place in range(0, len(places), max(every, 1)):
        at = f"translate({x(place) + 4:.1f} {HEIGHT - BOTTOM + 10}) rotate(-60)"
        parts.append(
            f'<text transform="{at}" text-anchor="end" font-size="9">{escape(places[place])}</text>'
        )
    for (name, line), colour, number in zip(
        lines.items(), COLOURS, range(len(lines)), strict=False
    ):
        points = [(x(p), y(v)) for p, v in enumerate(line) if v is not None and isfinite(v)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        )
        parts += [
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="2.5" fill="{colour}"/>' for px, py in points
        ]
        parts.append(
            _text(WIDTH - RIGHT - 110 * (len(lines) - number), 20, name, fill=colour, size=13)
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


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
