"""Coding of one tensor: scheme x methods x Hessian -> a coder of its rows. Rows are independent of each other.

Every form is a grid (`grid`), so every method serves every form: a search of steps, plain or under the importance of
the columns; GPTQ's loop over the columns; a descent over groups that fits clips (`lwc`) or codes alone to the layer's
output error. Round-to-nearest of int8 and int4 stays what `rtn` defines.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from hearth.compiler.ir.tensors import F32, QuantisedRows, Source, linear_levels
from hearth.compiler.quantize.gptq import gptq
from hearth.compiler.quantize.grid import I8, Grid, int4_grid, int8_grid, table_grid
from hearth.compiler.quantize.hessian import Hessian, hessian
from hearth.compiler.quantize.lwc import CLIP, KEEP, Fit, block_of, descend
from hearth.compiler.quantize.rtn import rtn
from hearth.compiler.quantize.schemes import LEARNED, NF4, Form, Methods, WeightScheme
from hearth.compiler.quantize.search import (
    Steps,
    importance,
    nearest_levels,
    normal,
    search,
    to_codes,
)
from hearth.compiler.quantize.tables import SAMPLE_ELEMENTS, learned, nf4

SWEEPS = 3
BATCH_ELEMENTS = 1 << 23


class Coder(Protocol):
    """One tensor, prepared."""

    def rows(self, weights: F32) -> QuantisedRows:
        """Of any range of its rows, f32[n, K], finite (else ValueError)."""


def coder(
    scheme: WeightScheme, methods: Methods, given: F32 | None, sample: F32, threads: int
) -> Coder:
    """How a tensor is coded; neither `threads` (0: all cores) nor the ranges its rows come in change a bit.

    `given` is the Hessian of its inputs, f32[K, K] (None, or all zero: plain least squares); `sample` some of its rows,
    f32[n, K], for a learned table (`sample_rows`). ValueError for a Hessian that is not finite or not positive.
    """
    threads = threads or len(os.sched_getaffinity(0))
    known = None if given is None or not methods.second_order else hessian(given, threads)
    if scheme.form is Form.INTEGER and known is None:
        return Nearest(scheme, threads)
    columns = sample.shape[1]
    h = importance(known.diagonal if known and methods.importance else None, columns)
    table = _table(scheme, sample, h, threads) if scheme.form is Form.TABLE else None
    return Searched(scheme, methods, table, h, known, threads)


@dataclass(frozen=True)
class Nearest:
    """Round to nearest of int8 and int4."""

    scheme: WeightScheme
    threads: int

    def rows(self, weights: F32) -> QuantisedRows:
        return rtn(weights, self.scheme, self.threads)


@dataclass(frozen=True, eq=False)
class Searched:
    """Steps found by a search; then codes, by the methods that use a Hessian where there is one."""

    scheme: WeightScheme
    methods: Methods
    table: I8 | None
    h: F32
    hessian: Hessian | None
    threads: int

    @property
    def grid(self) -> Grid:
        return _grid(None if self.table is None else self.table.tobytes(), self.scheme.group > 0)

    @cached_property
    def fit(self) -> Fit | None:
        """None: codes are those nearest to the weights."""
        if self.hessian is None or not (self.methods.gptq or self.methods.lwc):
            return None
        blocks = self.hessian.blocks(block_of(self.grid, self.scheme.group, len(self.h)))
        trials = CLIP if self.methods.lwc and self.grid.grouped else KEEP
        return Fit(self.hessian, blocks, trials, SWEEPS, self.methods.gptq)

    def rows(self, weights: F32) -> QuantisedRows:
        n, k = weights.shape
        groups = -(-k // self.scheme.group) if self.grid.grouped else 1
        codes, multipliers = np.empty((n, k), np.int8), np.empty((n, groups), np.int8)
        scale = np.empty(n, np.float32)
        for part in _batches(n, k):
            multipliers[part], scale[part], codes[part] = self._coded(weights[part])
        kept = multipliers if self.grid.grouped else None
        return QuantisedRows(codes, kept, scale, self.scheme.group, self.table)

    def _coded(self, weights: F32) -> tuple[I8, F32, I8]:
        data, grid, group = normal(weights), self.grid, self.scheme.group
        steps = search(data.rows, self.h, grid, group, self.threads)
        steps, levels = self._levels(data.rows, steps)
        codes = to_codes(levels, steps.multipliers, grid, group, self.threads)
        return steps.multipliers, data.scale(steps.scale), codes

    def _levels(self, rows: F32, steps: Steps) -> tuple[Steps, I8]:
        grid, group, fit = self.grid, self.scheme.group, self.fit
        if fit is not None and self.methods.gptq:
            levels = gptq(rows, steps, grid, group, fit.hessian.factor, self.threads)
        else:
            levels = nearest_levels(rows, steps, grid, group, self.threads)
        if fit is not None:
            steps = descend(rows, steps, levels, grid, group, fit, self.threads)
        return steps, levels


@dataclass(frozen=True, eq=False)
class RoundedSource:
    """A weight coded without calibration when rows are asked for; its table, if it has one, is made at the first."""

    source: Source
    scheme: WeightScheme
    threads: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def bits(self) -> int:
        return self.scheme.bits

    @property
    def group(self) -> int:
        return self.scheme.group

    @property
    def tabled(self) -> bool:
        return self.scheme.form is Form.TABLE

    @cached_property
    def coder(self) -> Coder:
        return coder(
            self.scheme, Methods(), None, sample_rows(self.source, self.scheme), self.threads
        )

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        return self.coder.rows(self.source.rows(start, stop))


@lru_cache(maxsize=1)
def _grid(table: bytes | None, grouped: bool) -> Grid:
    """The last one alone: its look-ups are large, and a model has hundreds of tensors."""
    if table is not None:
        return table_grid(np.frombuffer(table, np.int8))
    return int4_grid() if grouped else int8_grid()


def sample_rows(source: Source, scheme: WeightScheme) -> F32:
    """Rows f32[n, K] spread over a weight, enough for a learned table; none where the scheme has none."""
    n, k = source.shape
    if scheme not in LEARNED:
        return np.empty((0, k), np.float32)
    count = min(n, -(-SAMPLE_ELEMENTS // k))
    chosen = np.arange(count) * n // count
    return np.concatenate([source.rows(int(row), int(row) + 1) for row in chosen])


def _table(scheme: WeightScheme, sample: F32, h: F32, threads: int) -> I8:
    if scheme in LEARNED:
        return learned(sample, h, scheme.bits, scheme.group, threads)
    return nf4() if scheme in NF4 else linear_levels(scheme.bits)


def _batches(n: int, k: int) -> Iterator[slice]:
    step = max(1, BATCH_ELEMENTS // k)
    return (slice(start, min(n, start + step)) for start in range(0, n, step))
