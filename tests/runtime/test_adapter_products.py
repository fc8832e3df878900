"""Low-rank products in the executor: the bits of the numpy reference on every ISA and for all threads and rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.linears import (
    Case,
    Problem,
    epilogue,
    float_weights,
    group_of,
    integer_reference,
    make_problem,
)

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.tensors import F32
from hearth.compiler.lora.change import Change
from hearth.compiler.lora.pack import Room, pack_linear
from hearth.compiler.lora.peft import LoraModule
from hearth.compiler.lora.targets import Target
from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, Activation, Layout
from hearth.schemas.lora import (
    FORMS,
    LAYOUTS,
    AdapterWeights,
    LinearPart,
    LoraLinear,
)
from hearth.schemas.weights_index import TensorEntry

WEIGHTS, ARENA, IO, T = 0, 1, 3, -1
MOST = 32
INTEGER = replace(Case("q8", 20, 88, 72), bias=True, residual=True, activation=Activation.GELU)
PAIRED = Case("paired", 20, 2 * 40, 136, activation=Activation.SWIGLU)
FLOAT = Case("f32", 20, 50, 40, bias=True)


@dataclass(frozen=True, eq=False)
class Bound:
    """An adapter of the problem's linear: its data, and its one part."""

    weights: AdapterWeights
    linear: LoraLinear
    data: NDArray[np.uint8]

    def product(self, problem: Problem, quantised: bool, scale: float) -> F32:
        """u f32[rows, ranks], read back as docs/lora.md has the data."""
        k, ranks = problem.case.k, self.linear.ranks
        a, step = _read_a(self, k)
        if quantised and self.weights is AdapterWeights.INT8:
            sums = (problem.codes.astype(np.int64) @ a.T.astype(np.int64)).astype(np.float32)
            u = (sums * problem.x_scale[:, None]) * step
        else:
            x = problem.x
            if quantised:
                x = problem.codes.astype(np.float32) * problem.x_scale[:, None]
            u = _fma(x, a) * step if self.weights is AdapterWeights.INT8 else _fma(x, a)
        if self.linear.bias >= 0:
            u = u + self.data[self.linear.bias :][: 4 * ranks].view(np.float32)
        return np.asarray(u * np.float32(scale), np.float32)

    def delta(self, problem: Problem, u: F32) -> F32:
        """f32[rows, N] that is added before the activation, -0 where nothing is."""
        n, paired = problem.case.n, problem.case.activation is Activation.SWIGLU
        out = np.full((len(u), n), np.float32(-0.0))
        for rows, (first, count, values, step) in zip(
            _ranges(n, paired), self.blocks(n, paired), strict=True
        ):
            if count:
                found = arithmetic.low_rank(u[:, first : first + count], values, step)
                out[:, rows] = found[:, : len(rows)]
        return out

    def blocks(self, n: int, paired: bool) -> Iterator[tuple[int, int, F32, F32 | None]]:
        count = len(list(_ranges(n, paired)))
        table = self.data[self.linear.b :][: 8 * count].view(np.int32).reshape(-1, 2)
        at = self.linear.b + -(-8 * count // 64) * 64
        dtype = {"int8": np.int8, "f16": np.float16, "f32": np.float32}[self.weights]
        for first, ranks in table.tolist():
            nbytes = ranks * 16 * np.dtype(dtype).itemsize
            values = self.data[at : at + nbytes].view(dtype).reshape(ranks, 16)
            at += nbytes
            step = None
            if dtype is np.int8 and ranks:
                step = self.data[at : at + 64].view(np.float32)
                at += 64
            yield first, ranks, values.astype(np.float32), step


def _ranges(n: int, paired: bool) -> Iterator[NDArray[np.int64]]:
    half = n // 2 if paired else n
    for low in range(0, half, 16):
        for start in (0, half) if paired else (0,):
            yield np.arange(start + low, start + min(low + 16, half))


def _read_a(bound: Bound, k: int) -> tuple[F32, F32]:
    """A f32[ranks, K] and its scales, from f32b16, f16b16 or q8b16."""
    ranks, at = bound.linear.ranks, bound.linear.a
    blocks = -(-ranks // 16)
    if bound.weights is AdapterWeights.INT8:
        padded = -(-k // 64) * 64
        codes = bound.data[at : at + blocks * padded * 16].view(np.int8)
        rows = codes.reshape(blocks, padded // 4, 16, 4).transpose(0, 2, 1, 3)
        step = bound.data[at + codes.size :][: 64 * blocks].view(np.float32)
        return rows.reshape(blocks * 16, padded)[:ranks, :k].astype(np.float32), step[:ranks]
    dtype = np.dtype(np.float16 if bound.weights is AdapterWeights.F16 else np.float32)
    held = bound.data[at : at + blocks * k * 16 * dtype.itemsize].view(dtype)
    rows = held.reshape(blocks, k, 16).transpose(0, 2, 1).reshape(blocks * 16, k)
    return rows[:ranks].astype(np.float32), np.ones(ranks, np.float32)


def _fma(x: F32, w: F32) -> F32:
    """acc = fma(x[k], w[n, k], acc) over k: exact products in float64, whose sum is rounded to f32 once.

    float64 rounds the sum first where it has more than 53 bits, which is not seen for values drawn here.
    """
    total = np.zeros((len(x), len(w)), np.float32)
    for k in range(x.shape[1]):
        exact = x[:, k, None].astype(np.longdouble) * w[None, :, k] + total
        total = exact.astype(np.float32)
    return total


def bound_adapter(
    case: Case, weights: AdapterWeights, ranks: tuple[int, ...], seed: int, shift: bool = False
) -> Bound:
    """Modules of these ranks share the rows of the weight, the last rows have none."""
    rng = np.random.default_rng([seed, *ranks])
    cuts = [case.n * at // (len(ranks) + 1) for at in range(len(ranks) + 1)]
    modules, parts = {}, []
    for at, rank in enumerate(ranks):
        name, n = f"m{at}", cuts[at + 1] - cuts[at]
        a, b = (
            rng.standard_normal(shape).astype(np.float32) for shape in ((rank, case.k), (n, rank))
        )
        modules[name] = LoraModule(name, a, b, 0.5)
        parts.append(LinearPart(name, cuts[at], cuts[at + 1]))
    vectors = rng.uniform(0.5, 1.5, 2 * case.k + case.n).astype(np.float32)
    columns, shifts, rows = np.split(vectors, [case.k, 2 * case.k])
    change = Change(columns, shifts if shift else None, rows, None, None)
    paired = case.activation is Activation.SWIGLU
    tensor = TensorEntry("w", 0, 0, Layout.Q8B16, (case.n, case.k), 0, paired, 0)
    room = Room()
    linear = pack_linear(Target(tuple(parts), tensor, change, None), modules, weights, room, "")
    return Bound(weights, linear, _aligned(room.whole()))


def _aligned(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    memory = np.zeros(data.size + 64, np.uint8)
    region = memory[-memory.ctypes.data % 64 :][: data.size]
    region[:] = data
    return region


@dataclass(frozen=True, eq=False)
class Machine:
    """An engine of one linear, over f32 rows or their codes."""

    problem: Problem
    quantised: bool
    engine: native.Engine

    @classmethod
    def of(cls, problem: Problem, quantised: bool, threads: int, isa: str) -> Machine:
        case, columns = problem.case, problem.columns
        record = -(-(-(-case.k // 128) * 144 + 4) // 64) * 64
        x_nbytes = -(-MOST * case.k * 4 // 64) * 64
        out = x_nbytes + MOST * columns * 4
        parts, at = [problem.packed], -(-problem.packed.size // 64) * 64
        bias = None
        weights = np.zeros(at + 4 * case.n, np.uint8)
        weights[: problem.packed.size] = parts[0]
        if problem.bias is not None:
            weights[at:] = problem.bias.view(np.uint8)
            bias = (WEIGHTS, at, 0)
        engine = native.Engine(
            _aligned(weights), MOST * record, out + MOST * columns * 4, 0, threads, isa
        )
        ins = [(0, case.k, T)]
        residual = None
        if case.residual:
            residual = (IO, out, columns * 4)
            ins.append((out, columns, T))
        engine.add_entry(MOST, MOST, ins, [(x_nbytes, columns, T)])
        x = (IO, 0, case.k * 4)
        if quantised:
            q8 = (ARENA, 0, record)
            engine.add_command(0, BY_NAME["quantize"].opcode, T, [x, q8], [case.k], [])
            x = q8
        operands = [x, (WEIGHTS, 0, 0), bias, residual, (IO, x_nbytes, columns * 4)]
        ints = [case.n, case.k, int(problem.layout), group_of(case, problem.layout)]
        engine.add_command(
            0, BY_NAME["linear"].opcode, T, operands, [*ints, int(case.activation)], []
        )
        engine.finish()
        return cls(problem, quantised, engine)

    def bind(self, bound: Bound) -> native.Adapter:
        e, layout = bound.linear, int(LAYOUTS[bound.weights])
        return self.engine.adapter(
            bound.data, FORMS[bound.weights], [(0, e.ranks, layout, e.a, e.bias, e.b)]
        )

    def run(self, uses: list[tuple[int, native.Adapter | None, float]]) -> F32:
        """y of the first rows, those of each use in turn: (rows, adapter, scale)."""
        rows = sum(count for count, _, _ in uses)
        ins = [np.ascontiguousarray(self.problem.x[:rows])]
        if self.problem.residual is not None:
            ins.append(np.ascontiguousarray(self.problem.residual[:rows]))
        y = np.full((rows, self.problem.columns), np.nan, np.float32)
        segments = [
            (native.State(0), count, 0, 0, adapter, scale) for count, adapter, scale in uses
        ]
        self.engine.run_segments(0, segments, ins, [y])
        return y


def reference(
    problem: Problem, quantised: bool, uses: list[tuple[int, Bound | None, float]]
) -> F32:
    """The linear with deltas between bias and activation."""
    case = problem.case
    plain = replace(problem, case=replace(case, activation=Activation.NONE), residual=None)
    before = integer_reference(plain) if quantised else _float_reference(plain)
    row = 0
    for count, bound, scale in uses:
        rows = slice(row, row + count)
        if bound is not None:
            u = bound.product(problem, quantised, scale)[rows]
            before[rows] = before[rows] + bound.delta(problem, u)
        row += count
    return np.asarray(epilogue(replace(problem, bias=None), before)[:row], np.float32)


def _float_reference(problem: Problem) -> F32:
    w, step = float_weights(problem)
    y = _fma(problem.x, w) * step
    return y if problem.bias is None else y + problem.bias


def machines(problem: Problem, quantised: bool) -> Iterator[Machine]:
    for isa in native.isas():
        for threads in (1, 3):
            yield Machine.of(problem, quantised, threads, isa)


CASES = [
    (INTEGER, Layout.Q8B16, True),
    (INTEGER, Layout.Q4B16, True),
    (PAIRED, Layout.Q4B16, True),
    (replace(PAIRED, n=160), Layout.T3B16, True),
    (FLOAT, Layout.F32B16, False),
    (PAIRED, Layout.Q8B16, False),
]


@pytest.mark.parametrize("weights", AdapterWeights)
@pytest.mark.parametrize(("case", "layout", "quantised"), CASES)
def test_every_isa_thread_and_row_count_gives_the_reference(
    case: Case, layout: Layout, quantised: bool, weights: AdapterWeights
) -> None:
    problem = make_problem(case, layout)
    bound = bound_adapter(case, weights, (5, 16, 3), 1, shift=True)
    for rows in (1, 2, 9, 20):
        wanted = reference(problem, quantised, [(rows, bound, 0.75)])
        for machine in machines(problem, quantised):
            found = machine.run([(rows, machine.bind(bound), 0.75)])
            assert np.array_equal(found, wanted), (machine.engine.isa, rows)


@pytest.mark.parametrize("rows", [1, 4])
def test_rows_with_other_adapters_and_with_none_in_one_run(rows: int) -> None:
    problem = make_problem(PAIRED, Layout.Q4B16)
    one = bound_adapter(PAIRED, AdapterWeights.INT8, (16, 16), 1)
    other = bound_adapter(PAIRED, AdapterWeights.F16, (2,), 2)
    plan = [(one, 1.0), (None, 1.0), (other, -2.0), (one, 0.5), (None, 1.0)]
    wanted = reference(problem, True, [(rows, bound, scale) for bound, scale in plan])
    for machine in machines(problem, True):
        bounds = {id(each): machine.bind(each) for each in (one, other)}
        uses = [(rows, None if each is None else bounds[id(each)], s) for each, s in plan]
        assert np.array_equal(machine.run(uses), wanted), machine.engine.isa
        plain = machine.run([(rows * len(plan), None, 1.0)])
        assert np.array_equal(plain, reference(problem, True, [(rows * len(plan), None, 1.0)]))


def test_rows_without_an_adapter_keep_the_sign_of_zero() -> None:
    problem = make_problem(Case("zero", 2, 16, 16), Layout.F32B16)
    problem.x[0] = 0.0
    problem.x[0, 0] = -1e-45  # times weights below 1 a sum of -0
    bound = bound_adapter(problem.case, AdapterWeights.F32, (1,), 1)
    machine = Machine.of(problem, False, 1, "portable")
    adapter = machine.bind(bound)
    alone = machine.run([(1, None, 1.0)])
    beside = machine.run([(1, None, 1.0), (1, adapter, 1.0)])[:1]
    assert np.signbit(alone).tolist() == np.signbit(beside).tolist()


def test_an_adapter_is_of_its_engine() -> None:
    problem = make_problem(PAIRED, Layout.Q4B16)
    one, other = (Machine.of(problem, True, 1, "portable") for _ in range(2))
    adapter = one.bind(bound_adapter(PAIRED, AdapterWeights.INT8, (4,), 1))
    with pytest.raises(ValueError, match="another engine"):
        other.run([(1, adapter, 1.0)])


def test_parts_that_leave_the_data_are_refused() -> None:
    problem = make_problem(PAIRED, Layout.Q4B16)
    machine = Machine.of(problem, True, 1, "portable")
    bound = bound_adapter(PAIRED, AdapterWeights.INT8, (4,), 1)
    e, layout, size = bound.linear, int(Layout.Q8B16), bound.data.size
    good = (0, e.ranks, layout, e.a, e.bias, e.b)
    changes: list[tuple[int, int]] = [
        (0, 64), (1, 0), (1, 1 << 15), (2, int(Layout.Q4B16)), (3, size), (3, -64), (3, 1),
        (4, size), (5, size), (5, 8), (5, -64), (3, 1 << 62), (1, 4096),
    ]  # fmt: skip
    for place, value in changes:
        part = list(good)
        part[place] = value
        with pytest.raises(ValueError):
            machine.engine.adapter(bound.data, 0, [tuple(part)])  # type: ignore[list-item]
    with pytest.raises(ValueError):
        machine.engine.adapter(bound.data, 3, [good])
    with pytest.raises(ValueError):
        machine.engine.adapter(bound.data, 0, [good, good])
    for at, value in ((0, -1), (1, 99), (1, -1)):
        data = _aligned(bound.data)
        data[e.b : e.b + 8].view(np.int32)[at] = value
        with pytest.raises(ValueError):
            machine.engine.adapter(data, 0, [good])
    with pytest.raises(ValueError):
        machine.engine.adapter(bound.data[: e.b + 64], 0, [good])
