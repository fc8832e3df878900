"""Weights large enough to be read in pieces: the same bits for every number of threads and rows."""

from __future__ import annotations

import numpy as np
import pytest
from support.linears import Case, make_problem

from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, Layout

N, K, GROUP, MOST, T = 16384, 128, 32, 9, -1
WEIGHTS, ARENA, IO = 0, 1, 3
RECORD = 192
_OUT = MOST * K * 4
# What few rows are laid out as is kept from piece to piece, by each of these kernels in its own way.
LAYOUTS = (Layout.Q8B16, Layout.Q4B16, Layout.T2B16, Layout.T4B16, Layout.T6B16)


def _product(layout: Layout, weight: np.ndarray, x: np.ndarray, threads: int) -> np.ndarray:
    memory = np.zeros(weight.size + 64, np.uint8)
    region = memory[-memory.ctypes.data % 64 :][: weight.size]
    region[:] = weight
    group = 0 if layout is Layout.Q8B16 else GROUP
    engine = native.Engine(
        region, MOST * RECORD, _OUT + MOST * N * 4, 0, threads, native.isas()[-1]
    )
    entry = engine.add_entry(MOST, MOST, [(0, K, T)], [(_OUT, N, T)])
    q8 = (ARENA, 0, RECORD)
    quantize, linear = BY_NAME["quantize"].opcode, BY_NAME["linear"].opcode
    engine.add_command(entry, quantize, T, [(IO, 0, K * 4), q8], [K], [])
    operands = [q8, (WEIGHTS, 0, 0), None, None, (IO, _OUT, N * 4)]
    for _ in range(3):
        engine.add_command(entry, linear, T, operands, [N, K, int(layout), group, 0], [])
    engine.finish()
    y = np.full((len(x), N), np.nan, np.float32)
    for _ in range(2):
        engine.run(native.State(0), entry, len(x), 0, [x], [y])
    return y


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("rows", [1, 4, 8, 9])
def test_threads_and_rows_do_not_change_the_product(rows: int, layout: Layout) -> None:
    weight = make_problem(Case("wide", 1, N, K, GROUP), layout).packed
    x = np.random.default_rng(rows).standard_normal((rows, K), np.float32)
    alone = _product(layout, weight, x, 1)
    assert np.isfinite(alone).all()
    for threads in (2, 3, 5):
        assert np.array_equal(_product(layout, weight, x, threads), alone), threads
    assert np.array_equal(_product(layout, weight, x[:1], 2), alone[:1])
