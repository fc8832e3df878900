"""Masks are read off their values: causal, a window, none; every other pattern is refused."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.layers import Seen
from hearth.compiler.frontend.onnx.masks import read
from hearth.compiler.frontend.onnx.values import Mismatch, Point, Rows

POINTS = (Point(5, 7), Point(3, 11), Point(1, 6), Point(6, 0), Point(2, 38))
Visible = NDArray[np.bool_]


def causal(point: Point, window: int = 0) -> Visible:
    at = point.past + np.arange(point.tokens)[:, None]
    t = np.arange(point.past + point.tokens)[None]
    return (t <= at) & (t > at - (window or 10**9))


@pytest.mark.parametrize("window", [0, 1, 4, 6, 20, 39])
def test_windows(window: int) -> None:
    visible = [causal(point, window) for point in POINTS]
    assert read(visible, POINTS, Rows.S) == Seen(causal=True, window=window)


def test_nothing_hidden() -> None:
    visible = [np.ones_like(causal(point)) for point in POINTS]
    assert read(visible, POINTS, Rows.S) == Seen(causal=False)


def one_off(point: Point) -> Visible:
    visible = causal(point)
    visible[-1, 0] = point.past != 11
    return visible


def first_rows(point: Point) -> Visible:
    """Aligned to the first row, whatever the past."""
    return np.tri(point.tokens, point.past + point.tokens, dtype=bool)


def sinks(point: Point) -> Visible:
    """A window, and the first position always."""
    visible = causal(point, 4)
    visible[:, 0] = True
    return visible


@pytest.mark.parametrize("pattern", [one_off, first_rows, sinks, lambda p: ~causal(p)])
def test_other_patterns_are_refused(pattern: object) -> None:
    with pytest.raises(Mismatch, match="neither causal"):
        read([pattern(point) for point in POINTS], POINTS, Rows.S)  # type: ignore[operator]
