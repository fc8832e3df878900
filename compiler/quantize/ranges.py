"""Ranges of static codes: what values a tensor had, counted as they pass, and the scale and zero point for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32
from hearth.compiler.ir.types import LEAST_STEP, MOST_CODE, MOST_STEP, Static

RangeName = Literal["minmax", "percentile", "least-squares"]

BINS = 1 << 14
STEPS = 2 * MOST_CODE  # from the lowest code to the highest
TAIL = 1e-4  # the share of values that `percentile` gives up at each end
PROBES = 2.0 ** -(
    np.arange(97) / 16
)  # shares of the largest value that `least-squares` tries, down to 1/64

I64 = NDArray[np.int64]
F64 = NDArray[np.float64]


@dataclass(eq=False)
class Histogram:
    """Counts of the values of one tensor: BINS equal bins over [-edge, edge), the edge a power of two.

    The edge is the least that holds all values, and bins are merged in pairs as it grows: what was counted depends
    neither on the order of the values nor on how they were split.
    """

    counts: I64 = field(default_factory=lambda: np.zeros(BINS, np.int64))
    edge: float = LEAST_STEP
    low: float = 0.0  # of the values and 0.0, which every code has to hold
    high: float = 0.0

    def add(self, values: F32) -> None:
        """Count all values of an array of any shape. ValueError where one is not finite; nothing is counted then."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a value that is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(-low, high))
        scaled = values.reshape(-1) * np.float32(BINS / 2 / self.edge)
        at = np.floor(scaled).astype(np.int32) + BINS // 2
        self.counts += np.bincount(at, minlength=BINS)

    def _widen(self, largest: float) -> None:
        """Until the edge lies above the value."""
        while self.edge <= largest:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, np.int64)
            self.counts[BINS // 4 : BINS // 4 * 3] = pairs
            self.edge *= 2

    @property
    def centres(self) -> F64:
        """The middles of the bins, f64[BINS]."""
        return np.asarray((np.arange(BINS) + 0.5 - BINS // 2) * (2 * self.edge / BINS), np.float64)


def static(values: Histogram | F32, name: RangeName) -> Static:
    """Codes for a tensor, given its histogram or (some of) its values."""
    if isinstance(values, np.ndarray):
        counted = Histogram()
        counted.add(values)
        values = counted
    return static_of(*RANGES[name](values))


def static_of(low: float, high: float) -> Static:
    """The codes -127..127 spread over [low, high], widened to hold 0.0, whose code is exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return Static(1.0)  # all values were 0.0
    scale = float(np.float32(min(max((high - low) / STEPS, LEAST_STEP), MOST_STEP)))
    zero = round(-MOST_CODE - low / scale)
    return Static(scale, min(max(zero, -MOST_CODE), MOST_CODE))


def minmax(values: Histogram) -> tuple[float, float]:
    """All values: nothing is clipped, one loud value costs the others their digits."""
    return values.low, values.high


def percentile(values: Histogram, tail: float = TAIL) -> tuple[float, float]:
    """Without the share `tail` of the values at each end, to the width of a bin."""
    below = np.cumsum(values.counts)
    total = int(below[-1])
    width = 2 * values.edge / BINS
    first = int(np.searchsorted(below, tail * total, side="right"))
    last = int(np.searchsorted(below, (1 - tail) * total, side="left"))
    low, high = (min(bin_, BINS - 1) - BINS // 2 for bin_ in (first, last))
    return max(values.low, low * width), min(values.high, (high + 1) * width)


def least_squares(values: Histogram) -> tuple[float, float]:
    """The range whose clipping and rounding (a step's square over 12) together lose least, of a grid of both ends.

    After the MSE ranges of Nagel et al. 2021 (arXiv:2106.08295, section 3.1), both ends searched at once.
    """
    lows, highs = values.low * PROBES, values.high * PROBES
    clipped = _clipped(values, lows, -1)[:, None] + _clipped(values, highs, 1)[None, :]
    step = (highs[None, :] - lows[:, None]) / STEPS
    loss = clipped + step * step / 12 * float(values.counts.sum())
    at = np.unravel_index(int(np.argmin(loss)), loss.shape)
    return float(lows[at[0]]), float(highs[at[1]])


def _clipped(values: Histogram, ends: F64, side: int) -> F64:
    """Sums of squares of what lies beyond each end, on one side, from the moments of the bins beyond."""
    centres = side * values.centres
    counts = values.counts.astype(np.float64)
    if side < 0:
        centres, counts = centres[::-1], counts[::-1]
    # of the bins from i on: how many, their sum, their sum of squares
    count, first, second = (
        np.append(np.cumsum((counts * centres**power)[::-1])[::-1], 0.0) for power in range(3)
    )
    end = side * ends
    at = np.searchsorted(centres, end, side="left")
    beyond = second[at] - 2 * end * first[at] + end * end * count[at]
    return np.asarray(np.maximum(beyond, 0.0), np.float64)


RANGES: Mapping[RangeName, Callable[[Histogram], tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "least-squares": least_squares,
}
