"""Weight clipping by the layer's output error: codes and multipliers of one group after the other, all others fixed.

OmniQuant (Shao et al. 2023, arXiv:2308.13137) learns the clip of each group by gradient descent; here it is a search
in closed form. With residuals r = w - scale * e and gradient r H, the best real weights of a group given all others
are its present ones plus (r H)[group] inv(H[group, group]); a trial multiplier rounds them (`fed`: by GPTQ's loop
within the group, else the weights are rounded as they are), and the least r H r^T wins if it is less than what there
is. So no sweep makes the layer worse. The scale of a channel then is (w H e) / (e H e).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.tensors import F32, round_bf16
from hearth.compiler.quantize.gptq import BLOCK, product
from hearth.compiler.quantize.grid import I8, Grid
from hearth.compiler.quantize.hessian import Blocks, Hessian
from hearth.compiler.quantize.search import Steps, cells, group_of, inverse, total
from hearth.runtime import native

UNGROUPED_BLOCK = 32
LANES = 16


@dataclass(frozen=True)
class Trial:
    """A multiplier to try: rint(m * factor) + offset."""

    factor: float = 1.0
    offset: int = 0


KEEP = (Trial(),)  # codes alone
CLIP = (
    Trial(), Trial(offset=-1), Trial(offset=1), Trial(-1.0), Trial(0.96), Trial(1.04),
    Trial(0.92), Trial(1.08), Trial(0.85), Trial(1.15), Trial(-0.9), Trial(-1.1),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Fit:
    """What a descent is given beside the rows: matrices, trials, sweeps."""

    hessian: Hessian
    blocks: Blocks
    trials: Sequence[Trial]
    sweeps: int
    fed: bool


def block_of(grid: Grid, group: int, columns: int) -> int:
    """Columns that are fitted together."""
    return group if grid.grouped else min(columns, UNGROUPED_BLOCK)


def descend(
    rows: F32, steps: Steps, levels: I8, grid: Grid, group: int, fit: Fit, threads: int
) -> Steps:
    """Better steps, and better levels in place, natively; `threads` does not matter for the result."""
    found = Steps(steps.multipliers.copy(), steps.scale.copy())
    native.descend(
        np.ascontiguousarray(rows), grid.values, grid.lowest, grid.reach, grid.bf16,
        group_of(grid, group, rows.shape[1]), found.multipliers, found.scale, levels,
        fit.hessian.values, fit.blocks.inverse, fit.blocks.factor, fit.blocks.pivots,
        np.array([trial.factor for trial in fit.trials], np.float32),
        np.array([trial.offset for trial in fit.trials], np.int32), fit.sweeps, fit.fed, threads,
    )  # fmt: skip
    return found


# ---------------------------------------------------------------- the definition in numpy


@dataclass(eq=False)
class _State:
    """w, w H, e H, e f32[N, K]; multipliers i64[N, G]; scale f32[N]."""

    w: F32
    wanted: F32
    held: F32
    e: F32
    m: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    scale: F32


def reference(
    rows: F32, steps: Steps, levels: I8, grid: Grid, group: int, fit: Fit
) -> tuple[Steps, I8]:
    """What native.descend computes, in numpy."""
    k = rows.shape[1]
    e = levels.astype(np.float32)
    h = fit.hessian.values[:, :k]
    state = _State(
        rows,
        _times(rows, h),
        _times(e, h),
        e,
        steps.multipliers.astype(np.int64),
        steps.scale.copy(),
    )
    block = block_of(grid, group, k)
    _rescale(state, grid)
    for _ in range(fit.sweeps):
        for index in range(-(-k // block)):
            part = slice(index * block, min(k, (index + 1) * block))
            moved = _fit(state, part, index, part.start // group_of(grid, group, k), grid, fit)
            state.held += product(moved, h[part])
        _rescale(state, grid)
    return Steps(state.m.astype(np.int8), state.scale), state.e.astype(np.int8)


def _times(a: F32, h: F32) -> F32:
    total_ = np.zeros_like(a)
    for begin in range(0, a.shape[1], BLOCK):
        total_ += product(a[:, begin : begin + BLOCK], h[begin : begin + BLOCK])
    return total_


def _rescale(state: _State, grid: Grid) -> None:
    above, below = _in_lanes(state.e * state.wanted), _in_lanes(state.e * state.held)
    good = (above > 0) & (below > 0)
    one = np.float32(1)
    found = np.asarray(np.where(good, above, one) / np.where(good, below, one), np.float32)
    stored = round_bf16(found) if grid.bf16 else found
    state.scale = np.where(good, stored, state.scale)


def _in_lanes(terms: F32) -> F32:
    n, k = terms.shape
    padded = np.zeros((n, -(-k // LANES) * LANES), np.float32)
    padded[:, :k] = terms
    return total(padded.reshape(n, -1, LANES))


def _fit(state: _State, part: slice, index: int, at: int, grid: Grid, fit: Fit) -> F32:
    """Codes and multiplier of one block; what was added to e."""
    count, scale = part.stop - part.start, state.scale
    gradient = state.wanted[:, part] - scale[:, None] * state.held[:, part]
    factor, pivots = fit.blocks.factor[index], fit.blocks.pivots[index]
    step = product(gradient, fit.blocks.inverse[index][:count, :count])
    old = state.e[:, part].copy()
    best, chosen = old, state.m[:, at]
    target = old * scale[:, None] + step
    least = _cost(step, target - old * scale[:, None], factor, pivots)
    for trial in fit.trials:
        near = np.rint(state.m[:, at].astype(np.float32) * np.float32(trial.factor)).astype(int)
        m = np.clip(near + trial.offset, grid.lowest, grid.highest)
        source = None if fit.fed else state.w[:, part]
        tried, error = _rounded(target, source, grid.values[m - grid.lowest], factor, pivots, scale)
        better = error < least
        least, chosen = np.where(better, error, least), np.where(better, m, chosen)
        best = np.where(better[:, None], tried, best)
    state.m[:, at], state.e[:, part] = chosen, best
    return best - old


def _cost(v: F32, errors: F32, factor: F32, pivots: F32) -> F32:
    """Of errors f32[N, b], given what is wanted beyond them."""
    cost, v = np.zeros(len(v), np.float32), v.copy()
    for i in range(v.shape[1]):
        cost = cost + v[:, i] * v[:, i] * pivots[i]
        v[:, i + 1 :] += errors[:, i, None] * factor[i, i + 1 : v.shape[1]]
    return cost


def _rounded(
    target: F32, source: F32 | None, values: I8, factor: F32, pivots: F32, scale: F32
) -> tuple[F32, F32]:
    """Levels of what is wanted, or of `source`, and their cost."""
    v, levels, cost = target.copy(), np.empty_like(target), np.zeros(len(target), np.float32)
    rows, twice = np.arange(len(v)), inverse(scale)
    for i in range(v.shape[1]):
        x = v[:, i] if source is None else source[:, i]
        levels[:, i] = values[rows, cells(x, twice)]
        y = v[:, i] - levels[:, i] * scale
        cost = cost + y * y * pivots[i]
        error = target[:, i] - levels[:, i] * scale
        v[:, i + 1 :] += error[:, None] * factor[i, i + 1 : v.shape[1]]
    return levels, cost
