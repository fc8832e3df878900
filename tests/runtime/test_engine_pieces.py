"""A weight large enough to be read in pieces: the same bits for every number of threads and rows."""

from __future__ import annotations

import numpy as np
import pytest
from support.linears import Case, make_problem

from hearth.runtime import native
from hearth.schemas.commands import BY_NAME, Layout

N, K, MOST, T = 16384, 64, 9, -1
WEIGHTS, ARENA, IO = 0, 1, 3
RECORD = 192
_WEIGHT = make_problem(Case("wide", 1, N, K), Layout.Q8B16).packed
_OUT = MOST * K * 4


def _product(x: np.ndarray, threads: int) -> np.ndarray:
    memory = np.zeros(_WEIGHT.size + 64, np.uint8)
    region = memory[-memory.ctypes.data % 64 :][: _WEIGHT.size]
    region[:] = _WEIGHT
    engine = native.Engine(
        region, MOST * RECORD, _OUT + MOST * N * 4, 0, threads, native.isas()[-1]
    )
    entry = engine.add_entry(MOST, MOST, [(0, K, T)], [(_OUT, N, T)])
    q8 = (ARENA, 0, RECORD)
    quantize, linear = BY_NAME["quantize"].opcode, BY_NAME["linear"].opcode
    engine.add_command(entry, quantize, T, [(IO, 0, K * 4), q8], [K], [])
    operands = [q8, (WEIGHTS, 0, 0), None, None, (IO, _OUT, N * 4)]
    for _ in range(3):
        engine.add_command(entry, linear, T, operands, [N, K, int(Layout.Q8B16), 0, 0], [])
    engine.finish()
    y = np.full((len(x), N), np.nan, np.float32)
    for _ in range(2):
        engine.run(native.State(0), entry, len(x), 0, [x], [y])
    return y


@pytest.mark.parametrize("rows", [1, 4, 8, 9])
def test_threads_and_rows_do_not_change_the_product(rows: int) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, K), np.float32)
    alone = _product(x, 1)
    assert np.isfinite(alone).all()
    for threads in (2, 3, 5):
        assert np.array_equal(_product(x, threads), alone), threads
    assert np.array_equal(_product(x[:1], 2), alone[:1])
