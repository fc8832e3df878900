"""Embedding kernels: rows of every layout, equal to numpy, on buffers that end on a guard page."""

from __future__ import annotations

import numpy as np
import pytest
from support.guard import guarded
from support.linears import Case, float_weights, group_of, make_problem

from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, Layout

POSITIONS = [
    kernel for kernel in native.kernels() if kernel.opcode == BY_NAME["embed_positions"].opcode
]
ROWS = [kernel for kernel in native.kernels() if kernel.opcode == BY_NAME["embed"].opcode]
SHAPES = (
    Case("one_row", 1, 16, 64),
    Case("tail_n", 5, 37, 96),
    Case("tail_k", 4, 48, 172),
    Case("one_value", 2, 5, 1),
    Case("group128", 3, 20, 384, group=128),
    Case("many_rows", 33, 100, 65),
    Case("extreme", 6, 20, 128, extreme=True),
)


@pytest.mark.parametrize("kernel", ROWS, ids=lambda kernel: kernel.name)
def test_embedding_equals_numpy(kernel: native.Kernel) -> None:
    if kernel.isa not in native.isas():
        pytest.skip(f"this CPU lacks {kernel.isa} for {kernel.name}")
    layout = Layout(kernel.variant)
    for case in SHAPES:
        group = group_of(case, layout)
        problem = make_problem(case, layout)
        weight, scale = float_weights(problem)
        rng = np.random.default_rng(case.rows)
        tokens = rng.integers(0, case.n, case.rows).astype(np.int32)
        tokens[-1] = case.n - 1
        for threads in (1, 2, 3):
            y = guarded(np.full((case.rows, case.k), np.nan, np.float32))
            native.call(
                kernel.name,
                [guarded(tokens), guarded(problem.packed, 64), y],
                [0, 0, case.k * 4],
                [case.n, case.k, int(layout), group],
                [],
                rows=case.rows,
                tokens=case.rows,
                threads=threads,
            )
            assert np.array_equal(y, weight[tokens] * scale[tokens, None]), case.name


@pytest.mark.parametrize("kernel", POSITIONS, ids=lambda kernel: kernel.name)
def test_positions_are_rows_of_the_table(kernel: native.Kernel) -> None:
    """Rows position, position + 1, .. to the last; one row further is refused."""
    if kernel.isa not in native.isas():
        pytest.skip(f"this CPU lacks {kernel.isa} for {kernel.name}")
    layout = Layout(kernel.variant)
    for case in SHAPES:
        problem = make_problem(case, layout)
        weight, scale = float_weights(problem)
        ints = [case.n, case.k, int(layout), group_of(case, layout)]
        rows = min(case.rows, case.n)
        for position, threads in ((0, 1), (case.n - rows, 2), ((case.n - rows) // 2, 3)):
            y = guarded(np.full((rows, case.k), np.nan, np.float32))
            operands = [guarded(problem.packed, 64), y]
            count = {"rows": rows, "tokens": rows, "threads": threads}
            native.call(
                kernel.name, operands, [0, case.k * 4], ints, [], position=position, **count
            )
            at = slice(position, position + rows)
            assert np.array_equal(y, weight[at] * scale[at, None]), case.name
        with pytest.raises(ValueError, match="above the context"):
            native.call(kernel.name, operands, [0, case.k * 4], ints, [], position=case.n, **count)


def test_every_f16_value_is_read_exactly() -> None:
    """All finite halves, subnormals too, through every ISA."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].astype(np.float32)
    table = np.resize(halves, (16, -(-halves.size // 16)))
    packed = np.ascontiguousarray(table.astype(np.float16).T)
    for kernel in ROWS:
        if kernel.variant != Layout.F16B16 or kernel.isa not in native.isas():
            continue
        y = np.empty_like(table)
        k = table.shape[1]
        native.call(
            kernel.name,
            [np.arange(16, dtype=np.int32), guarded(packed, 64), y],
            [0, 0, k * 4],
            [16, k, int(Layout.F16B16), 0],
            [],
            rows=16,
            tokens=16,
        )
        assert np.array_equal(y, table), kernel.name
