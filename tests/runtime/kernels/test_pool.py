"""pool of every kind and ISA equals numpy, whatever the threads share."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of

from hearth.compiler.ir import arithmetic
from hearth.runtime import native
from hearth.schemas.commands import Pooling

SHAPES = [(1, 1), (5, 15), (4, 16), (3, 17), (7, 63), (2, 64), (9, 65), (33, 384), (1, 100)]


def _pooled(kernel: native.Kernel, x: np.ndarray, kind: Pooling, threads: int = 1) -> np.ndarray:
    tokens, n = x.shape
    y = Matrix.blank(1, n * 4)
    operands = [Matrix.of(x, 4), y]
    call(kernel, operands, [n, int(kind)], rows=1, tokens=tokens, threads=threads)
    return y.values()


@pytest.mark.parametrize("kind", Pooling, ids=lambda kind: kind.name)
@pytest.mark.parametrize("kernel", rows_of("pool"), ids=kernel_id)
def test_equals_numpy(kernel: native.Kernel, kind: Pooling) -> None:
    need(kernel)
    for tokens, n in SHAPES:
        rng = np.random.default_rng(n)
        x = rng.standard_normal((tokens, n)) * 10.0 ** rng.integers(-6, 6, (tokens, n))
        x = x.astype(np.float32)
        for threads in (*THREADS, 9):
            found = _pooled(kernel, x, kind, threads)
            np.testing.assert_array_equal(found, arithmetic.pool(x, kind))


@pytest.mark.parametrize("kind", Pooling, ids=lambda kind: kind.name)
@pytest.mark.parametrize("kernel", rows_of("pool"), ids=kernel_id)
def test_a_nan_shows_where_its_row_is_pooled(kernel: native.Kernel, kind: Pooling) -> None:
    need(kernel)
    x = np.random.default_rng(0).standard_normal((3, 70)).astype(np.float32)
    for row in range(3):
        spoiled = x.copy()
        spoiled[row, ::5] = np.nan
        found = _pooled(kernel, spoiled, kind)
        read = {Pooling.FIRST: row == 0, Pooling.LAST: row == 2}.get(kind, True)
        assert np.isnan(found[0, ::5]).all() == read
        np.testing.assert_array_equal(found, arithmetic.pool(spoiled, kind))


@pytest.mark.parametrize("kernel", rows_of("pool"), ids=kernel_id)
def test_the_mean_adds_the_rows_in_order(kernel: native.Kernel) -> None:
    need(kernel)
    x = np.float32([[1e8], [1], [-1e8], [1]]) * np.ones((1, 20), np.float32)
    np.testing.assert_array_equal(_pooled(kernel, x, Pooling.MEAN), np.full((1, 20), 0.25))
