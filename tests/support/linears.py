"""Linears for kernel tests: operands random or extreme, packed, called through native.call, and their numpy meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.tensors import F32, ArraySource, GroupedRows, QuantisedRows, round_bf16
from hearth.compiler.lower.layouts import LAYOUTS, AnySource
from hearth.runtime import native
from hearth.schemas.commands import GATES, Activation, Layout
from support.graphs import GivenGroups
from support.guard import guarded

TABLED = tuple(layout for layout in Layout if layout.table_bits)
BITS = {
    Layout.Q8B16: 8,
    Layout.Q4B16: 4,
    Layout.G8B16: 8,
    Layout.G4B16: 4,
    **{layout: layout.table_bits for layout in TABLED},
}
GROUPED = (Layout.G4B16, Layout.G8B16)
INTEGER_GROUPS = (Layout.Q4B16, *TABLED)


@dataclass(frozen=True)
class Case:
    """One shape, named by what is odd about it."""

    name: str
    rows: int
    n: int
    k: int
    group: int = 32
    bias: bool = False
    residual: bool = False
    activation: Activation = Activation.NONE
    extreme: bool = False
    pad: int = 0  # unused bytes between rows of x, residual and y


@dataclass(frozen=True)
class FixedRows:
    """A quantised weight given as its rows."""

    rows: QuantisedRows
    bits: int
    group: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.rows.codes.shape

    @property
    def tabled(self) -> bool:
        return self.rows.table is not None

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        r = self.rows
        m = None if r.multipliers is None else r.multipliers[start:stop]
        return QuantisedRows(r.codes[start:stop], m, r.scale[start:stop], r.group, r.table)


Weight = F32 | QuantisedRows | GroupedRows


@dataclass(frozen=True)
class Problem:
    """The operands of a case."""

    case: Case
    layout: Layout
    x: F32  # f32[rows, k], or what the codes stand for
    codes: NDArray[np.int8]
    x_scale: F32
    weight: Weight
    packed: NDArray[np.uint8]
    bias: F32 | None
    residual: F32 | None

    @property
    def columns(self) -> int:
        return self.case.n // 2 if self.case.activation in GATES else self.case.n


def make_problem(case: Case, layout: Layout, seed: int = 0) -> Problem:
    """Random operands; where the case is extreme, every code at its largest magnitude, signs mixed by row."""
    rng = np.random.default_rng([seed, case.rows, case.n, case.k, case.group, int(layout)])
    x = rng.standard_normal((case.rows, case.k)).astype(np.float32)
    codes, x_scale = arithmetic.quantize(x)
    if case.extreme:
        signs = np.array([127, -127, 127, 127], np.int8)
        codes = np.repeat(signs[np.arange(case.rows) % 4][:, None], case.k, axis=1)
        codes[2::4, ::2] = -127
        codes[3::4, np.arange(case.k) % 4 < 2] = -127  # the pairs that one 16-bit sum adds up
    weight = _weight(case, layout, rng)
    paired = case.activation in GATES
    packed = np.concatenate(list(LAYOUTS[layout].chunks(_source(weight, layout), paired)))
    columns = case.n // 2 if paired else case.n
    bias = rng.standard_normal(case.n).astype(np.float32) if case.bias else None
    shape = (case.rows, columns)
    residual = rng.standard_normal(shape).astype(np.float32) if case.residual else None
    return Problem(case, layout, x, codes, x_scale, weight, packed, bias, residual)


def _source(weight: Weight, layout: Layout) -> AnySource:
    match weight:
        case QuantisedRows():
            return FixedRows(weight, BITS[layout], weight.group)
        case GroupedRows():
            return GivenGroups(weight, BITS[layout])
    return ArraySource(weight)


def group_of(case: Case, layout: Layout) -> int:
    """The group attribute of a command: no larger than the row, 0 where the layout has none."""
    if layout in GROUPED:
        return min(case.group, -(-case.k // 16) * 16)
    return case.group if layout in INTEGER_GROUPS else 0


def _weight(case: Case, layout: Layout, rng: np.random.Generator) -> Weight:
    shape = (case.n, case.k)
    scale = rng.uniform(0.001, 0.1, case.n).astype(np.float32)
    match layout:
        case Layout.F32B16:
            return rng.standard_normal(shape).astype(np.float32)
        case Layout.F16B16:
            return arithmetic.round_f16(rng.standard_normal(shape).astype(np.float32))
        case Layout.Q8B16:
            codes = rng.integers(-127, 128, shape).astype(np.int8)
            if case.extreme:
                codes = _mixed(rng, shape, -127, 127)
            return QuantisedRows(codes, None, scale, 0)
        case Layout.Q4B16:
            groups = (case.n, -(-case.k // case.group))
            codes = rng.integers(-8, 8, shape).astype(np.int8)
            multipliers = rng.integers(-15, 16, groups).astype(np.int8)
            if case.extreme:
                codes = _mixed(rng, shape, -8, 7)
                multipliers = _mixed(rng, groups, -15, 15)
            return QuantisedRows(codes, multipliers, scale, case.group)
        case Layout.G4B16 | Layout.G8B16:
            group, top = group_of(case, layout), (1 << BITS[layout]) - 1
            groups = (case.n, -(-case.k // group))
            codes = rng.integers(0, top + 1, shape, np.uint8)
            zeros = rng.integers(0, top + 1, groups, np.uint8)
            if case.extreme:
                codes, zeros = (
                    rng.integers(0, 2, each, np.uint8) * top for each in (shape, groups)
                )
            scales = rng.uniform(0.001, 0.1, groups).astype(np.float32)
            return GroupedRows(codes, scales, zeros.astype(np.uint8), group)
    return _tabled(case, layout.table_bits, scale, rng)


def _tabled(case: Case, bits: int, scale: F32, rng: np.random.Generator) -> QuantisedRows:
    shape, groups = (case.n, case.k), (case.n, -(-case.k // case.group))
    codes = rng.integers(0, 1 << bits, shape).astype(np.int8)
    table = np.sort(rng.choice(np.arange(-127, 127), 1 << bits, False)).astype(np.int8)
    table[0], table[-1] = -128, 127
    multipliers = rng.integers(-127, 128, groups).astype(np.int8)
    if case.extreme:
        codes = _mixed(rng, shape, 0, (1 << bits) - 1)
        multipliers = _mixed(rng, groups, -127, 127)
    return QuantisedRows(codes, multipliers, round_bf16(scale), case.group, table)


def _mixed(
    rng: np.random.Generator, shape: tuple[int, int], low: int, high: int
) -> NDArray[np.int8]:
    """Rows of one value, low or high, and every third row a mixture."""
    values = np.array([low, high], np.int8)
    out = np.repeat(values[np.arange(shape[0]) % 2][:, None], shape[1], axis=1)
    out[2::3] = values[rng.integers(0, 2, out[2::3].shape)]
    return out


def records(codes: NDArray[np.int8], scale: F32, pad: int = 0) -> NDArray[np.uint8]:
    """Quantised activation rows as docs/layouts.md lays them out; padding holds 0xff."""
    rows, k = codes.shape
    columns = -(-k // 128) * 128
    end = columns + columns // 8 + 4
    stride = -(-end // 64) * 64
    out = np.full((rows, stride + pad), 0xFF, np.uint8)
    out[:, :columns] = 0
    out[:, :k] = codes.view(np.uint8)
    sums = out[:, :columns].view(np.int8).reshape(rows, -1, 32).sum(axis=2, dtype=np.int32)
    out[:, columns : columns + columns // 8] = sums.view(np.uint8)
    out[:, columns + columns // 8 : end] = scale[:, None].view(np.uint8)
    return out


def run(kernel: native.Kernel, problem: Problem, threads: int = 1) -> F32:
    """y of one kernel; operands end on a page without access, and the gaps between rows must stay untouched."""
    case = problem.case
    gap = case.pad if not kernel.x_is_q8 else case.pad // 64 * 64
    if kernel.x_is_q8:
        x = _cut(records(problem.codes, problem.x_scale, gap), gap)
    else:
        x = _cut(_spread(problem.x, gap), gap)
    residual = (
        None if problem.residual is None else _cut(_spread(problem.residual, case.pad), case.pad)
    )
    y = _cut(np.full((case.rows, problem.columns * 4 + case.pad), 0xA5, np.uint8), case.pad)
    x_stride = (
        len(records(problem.codes[:1], problem.x_scale[:1])[0]) if kernel.x_is_q8 else case.k * 4
    )
    row_stride = problem.columns * 4 + case.pad
    native.call(
        kernel.name,
        [x, guarded(problem.packed, 64), _maybe(problem.bias), residual, y],
        [x_stride + gap, 0, 0, row_stride, row_stride],
        [
            case.n,
            case.k,
            int(problem.layout),
            group_of(case, problem.layout),
            int(case.activation),
        ],
        [],
        rows=case.rows,
        tokens=case.rows,
        threads=threads,
    )
    whole = np.concatenate([y, np.full(case.pad, 0xA5, np.uint8)]).reshape(case.rows, row_stride)
    assert (whole[:, problem.columns * 4 :] == 0xA5).all(), "a kernel wrote between rows"
    return np.ascontiguousarray(whole[:, : problem.columns * 4]).view(np.float32)


def _spread(values: F32, gap: int) -> NDArray[np.uint8]:
    out = np.full((values.shape[0], values.shape[1] * 4 + gap), 0xFF, np.uint8)
    out[:, : values.shape[1] * 4] = values.view(np.uint8)
    return out


def _cut(rows: NDArray[np.uint8], gap: int) -> NDArray[Any]:
    flat = rows.reshape(-1)
    return guarded(flat[: flat.size - gap])


def _maybe(vector: F32 | None) -> NDArray[Any] | None:
    return None if vector is None else guarded(vector)


def epilogue(problem: Problem, y: F32) -> F32:
    """Bias, activation, residual, in that order."""
    if problem.bias is not None:
        y = y + problem.bias
    if problem.case.activation in GATES:
        y = arithmetic.gated(
            y[:, : problem.columns], y[:, problem.columns :], problem.case.activation
        )
    else:
        y = arithmetic.activate(y, problem.case.activation)
    return y if problem.residual is None else y + problem.residual


def integer_reference(problem: Problem) -> F32:
    """The linear of quantised activations and weights: exact."""
    assert isinstance(problem.weight, QuantisedRows)
    effective = problem.weight.effective().astype(np.int64)
    sums = (problem.codes.astype(np.int64) @ effective.T).astype(np.float32)
    y = (sums * problem.x_scale[:, None]) * problem.weight.scale
    return np.asarray(epilogue(problem, y), np.float32)


def float_weights(problem: Problem) -> tuple[F32, F32]:
    """Weights as the fma linears read them, and the scale of each channel."""
    if isinstance(problem.weight, GroupedRows):
        return problem.weight.dequantise(), np.ones(problem.case.n, np.float32)
    if isinstance(problem.weight, QuantisedRows):
        return problem.weight.effective().astype(np.float32), problem.weight.scale
    return problem.weight, np.ones(problem.case.n, np.float32)
