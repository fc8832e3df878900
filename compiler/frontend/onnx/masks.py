"""Masks, whatever arithmetic makes them: run at several points, and read as causal, windowed or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.layers import Seen
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.values import Mask, Mismatch, Point, Rows, Scores

HIDDEN = -1e4  # an additive mask hides with at most this (half precision has -65504)
LARGEST = 1 << 24  # elements of a mask that is looked at


def seen_by(scores: Scores, raising: Raising) -> Seen:
    """Which positions each row sees, by all masks together."""
    points = far_points(raising)
    visible = [np.ones((point.tokens, point.size(scores.dims[-1])), bool) for point in points]
    for mask in scores.masks:
        for i, array in enumerate(_at(mask.name, points, raising)):
            visible[i] = visible[i] & _visible(array, mask, visible[i].shape)
    return read(visible, points, _total(scores))


def _total(scores: Scores) -> Rows:
    size = scores.dims[-1]
    if not isinstance(size, Rows):
        raise Mismatch(f"attends over a fixed number of positions, {size}")
    return size


def far_points(raising: Raising) -> tuple[Point, ...]:
    """The usual points, and one that reaches the end of the context, where a window shows."""
    context = raising.layers.context
    usual = raising.probes.points
    if raising.ports.has_past:
        return (*usual, Point(min(2, context), context - min(2, context)))
    return (*usual, Point(min(context, int(LARGEST**0.5)), 0))


def _at(name: str, points: Sequence[Point], raising: Raising) -> list[NDArray[Any]]:
    usual = raising.probes.values(name)
    far = raising.probes.run((name,), points[len(usual) :])[0]
    return [*usual, *far]


def _visible(array: NDArray[Any], mask: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """[T, S] of an array that broadcasts over heads."""
    if array.ndim > 2 and any(size != 1 for size in array.shape[:-2]):
        raise Mismatch(f"the mask {mask.name!r} {list(array.shape)} differs between heads")
    if array.size > LARGEST:
        raise Mismatch(f"the mask {mask.name!r} has {array.size} elements")
    flat = array.reshape(array.shape[-2:]) if array.ndim > 2 else array
    if mask.visible is None:
        shown = flat == 0
        if not np.all(shown | (flat <= HIDDEN)):
            raise Mismatch(f"{mask.name!r} adds numbers that are no mask")
    else:
        shown = flat.astype(bool) == mask.visible
    return np.broadcast_to(shown, shape)


def read(visible: Sequence[NDArray[np.bool_]], points: Sequence[Point], total: Rows) -> Seen:
    """The one form that fits at every point."""
    if all(np.all(each) for each in visible):
        return Seen(causal=False)
    window = 0
    for each, point in zip(visible, points, strict=True):
        count = int(each[-1].sum())
        if count < point.size(total):
            window = max(window, count)
    for candidate in dict.fromkeys((0, window)):
        if all(
            np.array_equal(each, _causal(point, point.size(total), candidate))
            for each, point in zip(visible, points, strict=True)
        ):
            return Seen(causal=True, window=candidate)
    raise Mismatch("the mask is neither causal, nor a window, nor absent")


def _causal(point: Point, total: int, window: int) -> NDArray[np.bool_]:
    at = (total - point.tokens + np.arange(point.tokens))[:, None]
    t = np.arange(total)[None]
    shown = t <= at
    return shown & (t > at - window) if window else shown
