"""GPTQ: columns are coded one after the other, each with what the errors before it ask of it.

Frantar et al. 2022, arXiv:2210.17323, against the effective integer weights of a grid: steps and multipliers are
fixed up front, columns go by falling diagonal of H (act-order). float32, one rounding per operation, sums in a
fixed order: `reference` is what runtime/kernels/quantise computes.
"""

from __future__ import annotations

import numpy as np

from hearth.compiler.ir.tensors import F32
from hearth.compiler.quantize.grid import I8, Grid
from hearth.compiler.quantize.hessian import Factor
from hearth.compiler.quantize.search import Steps, cells, group_of, inverse, spread
from hearth.runtime import native

BLOCK = 128  # columns whose errors reach the rest at once


def gptq(rows: F32, steps: Steps, grid: Grid, group: int, factor: Factor, threads: int) -> I8:
    """Levels i8[N, K] of rows f32[N, K], natively; `threads` does not matter for the result."""
    levels = np.empty(rows.shape, np.int8)
    native.feedback(
        np.ascontiguousarray(rows), grid.values, grid.lowest, group_of(grid, group, rows.shape[1]),
        steps.multipliers, steps.scale, factor.order, factor.values, levels, threads,
    )  # fmt: skip
    return levels


def reference(rows: F32, steps: Steps, grid: Grid, group: int, factor: Factor) -> I8:
    """What native.feedback computes, in numpy."""
    n, k = rows.shape
    given, wanted = rows[:, factor.order], rows[:, factor.order].copy()
    row_of = spread(steps.multipliers, grid, group, k)[:, factor.order]
    twice, levels = inverse(steps.scale), np.empty((n, k), np.int8)
    for begin in range(0, k, BLOCK):
        end = min(k, begin + BLOCK)
        errors = np.empty((n, end - begin), np.float32)
        for i in range(begin, end):
            levels[:, i] = grid.values[row_of[:, i], cells(wanted[:, i], twice)]
            errors[:, i - begin] = given[:, i] - levels[:, i].astype(np.float32) * steps.scale
            within = slice(i + 1, end)
            wanted[:, within] += errors[:, i - begin, None] * factor.values[i, within]
        if end < k:
            wanted[:, end:] += product(errors, factor.values[begin:end, end:k])
    found = np.empty_like(levels)
    found[:, factor.order] = levels
    return found


def product(a: F32, b: F32) -> F32:
    """a @ b, terms added in order from zero."""
    total = np.zeros((len(a), b.shape[1]), np.float32)
    for i in range(a.shape[1]):
        total += a[:, i, None] * b[i]
    return total
