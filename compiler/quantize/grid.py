"""A grid: which int8 weights each code of a form stands for, under every multiplier a group may have.

All forms of weights are one to the searches: for a multiplier m the effective levels e[m, c] of the codes c. The
nearest level to w / scale is a table's entry, because the midpoints of integers are multiples of 1/2: between two
neighbouring half steps the nearest level is the same one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import effective_levels

I8 = NDArray[np.int8]
U8 = NDArray[np.uint8]

CELLS = 512  # half steps from -128 to 128
TABLE_MULTIPLIERS = 127
INT4_MULTIPLIERS = 15


@dataclass(frozen=True, eq=False)
class Grid:
    """levels i8[highest - lowest + 1, codes]: row m - lowest holds e[m, c] of code first + c, ascending in |m| only.

    `reach`: about the largest |e| of a multiplier of 1. `bf16`: a channel's scale is stored as bf16. Grids without
    groups have one multiplier, 1 (`lowest == highest`).
    """

    levels: I8
    lowest: int
    highest: int
    first: int
    reach: float
    bf16: bool

    @cached_property
    def nearest(self) -> U8:
        """u8[multipliers, 512]: which code is nearest to any x with (j - 256) / 2 < x < (j - 255) / 2."""
        falling = self.levels[:, 0] > self.levels[:, -1]
        rising = np.where(falling[:, None], self.levels[:, ::-1], self.levels).astype(np.int16)
        # no cell's middle (an odd quarter) lies as near to one level as to another: it is beyond so many borders
        borders = (rising[:, :-1] + rising[:, 1:]) + CELLS // 2
        steps = np.zeros((len(rising), CELLS + 1), np.int16)
        np.add.at(steps, (np.arange(len(rising))[:, None], borders), 1)
        place = np.cumsum(steps[:, :CELLS], axis=1)
        found = np.take_along_axis(_first_of_equals(rising, falling), place, 1)
        return np.asarray(found, np.uint8)

    @cached_property
    def values(self) -> I8:
        """i8[multipliers, 512]: the level itself."""
        return np.ascontiguousarray(np.take_along_axis(self.levels, self.nearest.astype(int), 1))

    @property
    def grouped(self) -> bool:
        return self.highest > self.lowest


def _first_of_equals(rising: NDArray[np.int16], falling: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each place of rows of levels [M, C] (those of `falling` turned round) the lowest code of its level."""
    places = np.broadcast_to(np.arange(rising.shape[1]), rising.shape)
    differs = rising[:, 1:] != rising[:, :-1]
    starts, ends = (
        np.zeros_like(rising, np.intp),
        np.full_like(rising, rising.shape[1] - 1, np.intp),
    )
    starts[:, 1:] = np.where(differs, places[:, 1:], 0)
    ends[:, :-1] = np.where(differs, places[:, :-1], rising.shape[1] - 1)
    first = np.maximum.accumulate(starts, axis=1)
    last = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return np.asarray(np.where(falling[:, None], rising.shape[1] - 1 - last, first), np.intp)


def int8_grid() -> Grid:
    """Codes -127..127, which are the weights."""
    return Grid(np.arange(-127, 128, dtype=np.int8)[None], 1, 1, -127, 127.0, bf16=False)


def int4_grid() -> Grid:
    """Codes -8..7 times a multiplier of at most 15."""
    m = np.arange(-INT4_MULTIPLIERS, INT4_MULTIPLIERS + 1, dtype=np.int8)
    levels = np.asarray(m[:, None] * np.arange(-8, 8, dtype=np.int8), np.int8)
    return Grid(levels, int(m[0]), int(m[-1]), -8, 8.0, bf16=False)


def table_grid(table: I8) -> Grid:
    """Codes 0..2^b-1 of a table of int8: (t[c] * m + 64) >> 7."""
    m = np.arange(-TABLE_MULTIPLIERS, TABLE_MULTIPLIERS + 1, dtype=np.int8)
    levels = effective_levels(table[None], m[:, None])
    reach = float(np.abs(table.astype(np.int32)).max()) / 128
    return Grid(levels, int(m[0]), int(m[-1]), 0, reach, bf16=True)
