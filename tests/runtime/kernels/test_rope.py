"""rope of every ISA equals numpy, whole and partial, at any position."""

from __future__ import annotations

import numpy as np
import pytest
from support.caches import tables
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of

from hearth.compiler.ir import arithmetic
from hearth.runtime import native

CASES = [(1, 8, 8), (3, 32, 32), (2, 48, 48), (2, 64, 32), (4, 80, 32), (3, 128, 128), (1, 6, 0)]


@pytest.mark.parametrize(("heads", "dim", "rotary"), CASES)
@pytest.mark.parametrize("kernel", rows_of("rope"), ids=kernel_id)
def test_rope(kernel: native.Kernel, heads: int, dim: int, rotary: int) -> None:
    need(kernel)
    rows, position = 5, 9
    rng = np.random.default_rng(dim)
    x = rng.standard_normal((rows, heads * dim)).astype(np.float32)
    cos, sin = tables(position + rows, rotary)
    at = slice(position, position + rows)
    expected = arithmetic.rope(x.reshape(rows, heads, dim), cos[at, None], sin[at, None])
    for threads in THREADS:
        y = Matrix.blank(rows, heads * dim * 4, 4)
        operands = [Matrix.of(x), Matrix.of(cos).memory, Matrix.of(sin).memory, y]
        call(kernel, operands, [heads, dim, rotary], rows=rows, position=position, threads=threads)
        np.testing.assert_array_equal(y.values(), expected.reshape(rows, -1))


@pytest.mark.parametrize("kernel", rows_of("rope"), ids=kernel_id)
def test_in_place(kernel: native.Kernel) -> None:
    need(kernel)
    x = np.random.default_rng(1).standard_normal((3, 2 * 48)).astype(np.float32)
    cos, sin = tables(3, 48)
    y = Matrix.of(x)
    call(kernel, [y, Matrix.of(cos).memory, Matrix.of(sin).memory, y], [2, 48, 48], rows=3)
    expected = arithmetic.rope(x.reshape(3, 2, 48), cos[:, None], sin[:, None])
    np.testing.assert_array_equal(y.values(), expected.reshape(3, -1))
