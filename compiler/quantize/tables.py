"""Tables of the levels of a tensor, int8 ascending with the peak at -127 or 127: linear, NF4, or learned from it.

NF4 (QLoRA, Dettmers et al. 2023, arXiv:2305.14314) has the quantiles of a normal distribution; a learned table is
Lloyd's: levels and the multipliers of the groups are fitted to each other in turn, under the importance of the columns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, linear_levels
from hearth.compiler.quantize.grid import I8, TABLE_MULTIPLIERS, table_grid
from hearth.compiler.quantize.search import (
    Normal,
    Steps,
    nearest_levels,
    normal,
    search,
    spread,
    to_codes,
)

F64 = NDArray[np.float64]

ROUNDS = 8
SAMPLE_ELEMENTS = 1 << 19
NF4_LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip


def nf4() -> I8:
    """The 16 levels of NF4 in 1/127."""
    return np.asarray(np.rint(np.array(NF4_LEVELS) * 127), np.int8)


def learned(sample: F32, h: F32, bits: int, group: int, threads: int) -> I8:
    """Lloyd's table for rows f32[n, K] under importance h f32[K]; of two starts the better one."""
    step = max(1, -(-sample.size // SAMPLE_ELEMENTS))
    data = normal(np.asarray(sample[::step], np.float32))
    fitted = [
        _fit(data, h, start, group, threads)
        for start in (linear_levels(bits), _normal_quantiles(bits))
    ]
    return min(fitted, key=lambda each: each[1])[0]


def _normal_quantiles(bits: int) -> I8:
    """Symmetric levels denser at zero: the cube root keeps them between equal distances and equal masses."""
    x = (np.arange(1 << bits) + 0.5) / (1 << (bits - 1)) - 1
    shaped = x * (0.6 + 0.4 * x * x)
    return _whole(shaped)


def _fit(data: Normal, h: F32, table: I8, group: int, threads: int) -> tuple[I8, float]:
    best, least = table, np.inf
    for _ in range(ROUNDS):
        grid = table_grid(table)
        steps = search(data.rows, h, grid, group, threads)
        levels = nearest_levels(data.rows, steps, grid, group, threads)
        error = _error(data, h, levels, steps)
        codes = to_codes(levels, steps.multipliers, grid, group, threads)
        moved = _means(data, h, table, steps, codes, group)
        if error < least:
            best, least = table, error
        if np.array_equal(moved, table):
            break
        table = moved
    return best, float(least)


def _weights(data: Normal, h: F32) -> F64:
    """What a squared error counts, in units of the rows as they were."""
    return np.asarray(np.ldexp(1.0, 2 * data.exponents)[:, None] * h.astype(np.float64), np.float64)


def _error(data: Normal, h: F32, levels: I8, steps: Steps) -> float:
    rest = data.rows.astype(np.float64) - levels * steps.scale[:, None].astype(np.float64)
    return float((_weights(data, h) * rest * rest).sum())


def _means(data: Normal, h: F32, table: I8, steps: Steps, codes: I8, group: int) -> I8:
    """Lloyd's step: the best level of every code for the weights it stands for."""
    m = spread(steps.multipliers, table_grid(table), group, codes.shape[1]) - TABLE_MULTIPLIERS
    a = m * steps.scale[:, None].astype(np.float64) / 128
    count, at, weights = len(table), codes.ravel(), _weights(data, h) * a
    product = np.bincount(at, (weights * data.rows).ravel(), count)
    square = np.bincount(at, (weights * a).ravel(), count)
    means = np.where(square > 0, product / np.where(square > 0, square, 1), table)
    return _whole(np.sort(means))


def _whole(levels: F64) -> I8:
    """Peak at 127, whole, still ascending."""
    whole = np.rint(levels * (127 / max(np.abs(levels).max(), 1e-30))).astype(np.int64)
    return np.asarray(np.clip(whole, -127, 127), np.int8)
