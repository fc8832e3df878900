"""The scale of a channel and the multipliers of its groups that lose least: sum of h[k] * (w - scale * e)^2.

Plain least squares with h = 1; with h = diag(H) of calibration the importance matrix of llama.cpp. All arithmetic is
float32, one rounding per operation, sums over 16 lanes in the order of k, so that runtime/kernels/quantise gives
the same bits on every host; `reference` is its definition.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, round_bf16
from hearth.compiler.quantize.grid import I8, Grid
from hearth.runtime import native

I32 = NDArray[np.int32]

# Of the largest |w| of a group, what the largest level stands for.
CLIPS = tuple(
    np.float32(f) for f in (1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55, 0.5, 0.45, 0.4)
)
# Scales tried, as factors of the one under which no weight is clipped.
SCALE_FACTORS = tuple(
    np.float32(f) for f in (1, 0.75, 0.8, 0.85, 0.9, 0.95, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5)
)
ROUNDS = 3
NEIGHBOURS = (0, -1, 1, -2, 2)
LANES = 16
ZERO = np.float32(2.0**-100)  # a channel whose largest magnitude is below is stored as zeros


@dataclass(frozen=True, eq=False)
class Steps:
    """What the search finds: multipliers i8[N, G] (of every group of columns) and scale f32[N]."""

    multipliers: I8
    scale: F32


@dataclass(frozen=True, eq=False)
class Normal:
    """Rows scaled by powers of two so that their peaks lie in [1/2, 1): no search meets huge or tiny numbers."""

    rows: F32
    exponents: I32

    def scale(self, found: F32) -> F32:
        """The scales of the rows as they were."""
        return np.asarray(np.ldexp(found, self.exponents), np.float32)


def normal(weights: F32) -> Normal:
    """Rows f32[N, K], finite; those too small to be told from zero become zeros."""
    weights = np.asarray(weights, np.float32)
    peak = np.abs(weights).max(axis=1, initial=0)
    if not np.isfinite(peak).all():
        raise ValueError("weights must be finite")
    exponents = np.where(peak < ZERO, 0, np.frexp(peak)[1]).astype(np.int32)
    rows = np.ldexp(weights, -exponents[:, None])
    rows[peak < ZERO] = 0
    return Normal(np.ascontiguousarray(rows, np.float32), exponents)


def importance(diagonal: F32 | None, columns: int) -> F32:
    """h[K], a power of two times diag(H) with its peak in [1/2, 1); ones where nothing is known."""
    if diagonal is None or not diagonal.max(initial=0) > 0:
        return np.ones(columns, np.float32)
    return np.asarray(np.ldexp(diagonal, -np.frexp(diagonal.max())[1]), np.float32)


def group_of(grid: Grid, group: int, columns: int) -> int:
    """Columns that share a multiplier: all of them where the form has no groups."""
    return group if grid.grouped else columns


def search(rows: F32, h: F32, grid: Grid, group: int, threads: int) -> Steps:
    """Normal rows f32[N, K] under importance h f32[K], natively."""
    n, k = rows.shape
    groups = -(-k // group_of(grid, group, k))
    multipliers, scale = np.empty((n, groups), np.int8), np.empty(n, np.float32)
    factors, clips = np.array(SCALE_FACTORS), np.array(CLIPS)
    native.search_steps(
        np.ascontiguousarray(rows), h, grid.values, grid.lowest, grid.reach, grid.bf16,
        group_of(grid, group, k), factors, clips, multipliers, scale, threads,
    )  # fmt: skip
    return Steps(multipliers, scale)


def nearest_levels(rows: F32, steps: Steps, grid: Grid, group: int, threads: int) -> I8:
    """The nearest level of each weight, i8[N, K]."""
    levels = np.empty(rows.shape, np.int8)
    native.nearest_levels(
        np.ascontiguousarray(rows), grid.values, grid.lowest, group_of(grid, group, rows.shape[1]),
        steps.multipliers, steps.scale, levels, threads,
    )  # fmt: skip
    return levels


def to_codes(levels: I8, multipliers: I8, grid: Grid, group: int, threads: int) -> I8:
    """The codes of levels i8[N, K], which become them in place."""
    native.level_codes(
        levels, grid.nearest, grid.lowest, grid.first,
        group_of(grid, group, levels.shape[1]), multipliers, threads,
    )  # fmt: skip
    return levels


def spread(multipliers: I8, grid: Grid, group: int, columns: int) -> NDArray[np.intp]:
    """Rows of the grid's arrays, of every weight."""
    rows = multipliers.astype(np.intp) - grid.lowest
    return np.repeat(rows, group_of(grid, group, columns), axis=1)[:, :columns]


def inverse(scale: F32) -> F32:
    """Half steps per weight; 0 where the scale is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(scale > 0, np.float32(2) / scale, 0), np.float32)


def cells(w: F32, twice: F32) -> NDArray[np.intp]:
    """Which half step each weight lies in."""
    return np.asarray(np.clip(w * twice + np.float32(256), 0, 511), np.intp)


# ---------------------------------------------------------------- the definition in numpy


@dataclass(frozen=True, eq=False)
class _Rows:
    """w f32[N, G, V, 16] and h f32[G, V, 16], padded with zeros; peaks f32[N, G]."""

    w: F32
    h: F32
    peaks: F32
    grid: Grid

    def levels(self, m: I32, scale: F32) -> F32:
        at = cells(self.w, inverse(scale)[:, None, None, None])
        return self.grid.values[m[..., None, None] - self.grid.lowest, at].astype(np.float32)

    def error(self, m: I32, scale: F32) -> F32:
        """Of each group, f32[N, G]."""
        rest = self.w - self.levels(m, scale) * scale[:, None, None, None]
        return total(rest * rest * self.h)

    def limited(self, m: I32) -> I32:
        return np.clip(m, self.grid.lowest, self.grid.highest).astype(np.int32)


def reference(rows: F32, h: F32, grid: Grid, group: int) -> Steps:
    """What native.search_steps computes, in numpy."""
    data = _padded(rows, h, grid, group_of(grid, group, rows.shape[1]))
    peak = data.peaks.max(axis=1)
    base = np.where(peak > 0, peak / np.float32(grid.reach * grid.highest), np.float32(1))
    first = _stored(base, grid)
    wanted, error = _first(data, first)
    best = _in_order(error)
    m, scale, reach = wanted, first, _steps(wanted, first)
    for factor in SCALE_FACTORS[1:]:
        trial = _stored(base * factor, grid)
        found, error = _near(data, reach, trial, NEIGHBOURS[:3], False)
        m, scale, best = _better(m, scale, best, found, trial, _in_order(error))
    for _ in range(ROUNDS):
        trial = _stored(_least_squares(data, m, scale), grid)
        found, error = _near(data, _steps(m, scale), trial, NEIGHBOURS, True)
        m, scale, best = _better(m, scale, best, found, trial, _in_order(error))
    zero = peak == 0
    m[zero], scale = 0 if grid.grouped else 1, np.where(zero, np.float32(0), scale)
    return Steps(m.astype(np.int8), scale)


def _padded(rows: F32, h: F32, grid: Grid, group: int) -> _Rows:
    n, k = rows.shape
    groups, wide = -(-k // group), -(-group // LANES) * LANES
    w, weights = np.zeros((n, groups, wide), np.float32), np.zeros((groups, wide), np.float32)
    for g in range(groups):
        part = slice(g * group, min(k, (g + 1) * group))
        w[:, g, : part.stop - part.start] = rows[:, part]
        weights[g, : part.stop - part.start] = h[part]
    peaks = np.abs(w).max(axis=2)
    return _Rows(w.reshape(n, groups, -1, LANES), weights.reshape(groups, -1, LANES), peaks, grid)


def _stored(scale: F32, grid: Grid) -> F32:
    return round_bf16(scale) if grid.bf16 else np.asarray(scale, np.float32)


def _steps(m: I32, scale: F32) -> F32:
    """The signed step of each group."""
    return np.asarray(m.astype(np.float32) * scale[:, None], np.float32)


def total(terms: F32) -> F32:
    """[.., V, 16] -> [..]: vector after vector, then the lanes in the fixed tree of 8, 4, 2, 1."""
    lanes = np.add.accumulate(terms, axis=-2, dtype=np.float32)[..., -1, :]
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half:]
    return np.asarray(lanes[..., 0], np.float32)


def _in_order(groups: F32) -> F32:
    return np.asarray(np.add.accumulate(groups, axis=1, dtype=np.float32)[:, -1], np.float32)


def _signs(grid: Grid) -> tuple[int, ...]:
    return (1, -1) if grid.grouped else (1,)


def _least(data: _Rows, trials: list[I32], scale: F32) -> tuple[I32, F32]:
    """Of several multipliers the one with the least error, the first of equals."""
    chosen, best = trials[0], np.full(data.peaks.shape, np.inf, np.float32)
    for m in trials:
        error = data.error(m, scale)
        chosen, best = np.where(error < best, m, chosen), np.minimum(error, best)
    return chosen, best


def _first(data: _Rows, scale: F32) -> tuple[I32, F32]:
    full = data.peaks / (scale * np.float32(data.grid.reach))[:, None]
    sizes = [(full * clip + np.float32(0.5)).astype(np.int32) for clip in CLIPS]
    trials = [data.limited(size * sign) for size in sizes for sign in _signs(data.grid)]
    return _least(data, trials, scale)


def _near(
    data: _Rows, steps: F32, scale: F32, moves: tuple[int, ...], mirrored: bool
) -> tuple[I32, F32]:
    near = np.rint(np.clip(steps / scale[:, None], -128, 128)).astype(np.int32)
    signs = _signs(data.grid) if mirrored else (1,)
    trials = [data.limited(near * sign + move) for sign in signs for move in moves]
    return _least(data, trials, scale)


def _better(
    m: I32, scale: F32, best: F32, found: I32, trial: F32, error: F32
) -> tuple[I32, F32, F32]:
    better = error < best
    return (
        np.where(better[:, None], found, m),
        np.where(better, trial, scale),
        np.where(better, error, best),
    )


def _least_squares(data: _Rows, m: I32, scale: F32) -> F32:
    levels = data.levels(m, scale)
    product = _in_order(total(data.w * levels * data.h))
    square = _in_order(total(levels * levels * data.h))
    with np.errstate(all="ignore"):
        return np.where((product > 0) & (square > 0), product / square, scale).astype(np.float32)
