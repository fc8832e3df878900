"""hadamard of every ISA equals numpy to the bit, for factors of every kind; its definition is an orthogonal product."""

from __future__ import annotations

import numpy as np
import pytest
from support.guard import guarded
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of

from hearth.compiler.ir import arithmetic
from hearth.compiler.transform.hadamard import dense
from hearth.runtime import native

# blocks, q, r, s
FACTORS = [
    (1, 1, 1, 1),
    (3, 1, 1, 2),
    (1, 1, 1, 8),
    (1, 1, 1, 16),
    (2, 1, 1, 64),
    (1, 1, 1, 512),
    (1, 12, 1, 1),
    (1, 12, 1, 2),
    (2, 20, 1, 4),
    (1, 12, 1, 16),
    (1, 28, 1, 32),
    (3, 12, 1, 64),
    (1, 12, 20, 1),
    (1, 20, 28, 16),
    (2, 12, 12, 4),
    (1, 172, 1, 1),
]
Factors = tuple[int, int, int, int]


def _signs(q: int, r: int) -> np.ndarray | None:
    parts = [dense(order).T.astype(np.float32).reshape(-1) for order in (q, r) if order > 1]
    return np.concatenate(parts) if parts else None


def _values(rows: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(k)
    x = rng.standard_normal((rows, k)) * 10.0 ** rng.integers(-6, 6, (rows, k))
    return x.astype(np.float32)


def _turned(kernel: native.Kernel, x: np.ndarray, factors: Factors, threads: int = 1) -> np.ndarray:
    _, q, r, s = factors
    signs = _signs(q, r)
    y = Matrix.blank(len(x), x.shape[1] * 4, gap=8)
    operands = [Matrix.of(x, 4), None if signs is None else guarded(signs), y]
    call(kernel, operands, [x.shape[1], q, r, s], rows=len(x), threads=threads)
    return y.values()


@pytest.mark.parametrize("factors", FACTORS, ids=str)
@pytest.mark.parametrize("kernel", rows_of("hadamard"), ids=kernel_id)
def test_equals_numpy(kernel: native.Kernel, factors: Factors) -> None:
    need(kernel)
    x = _values(5, int(np.prod(factors)))
    for threads in (*THREADS, 9):
        found = _turned(kernel, x, factors, threads)
        _, q, r, s = factors
        np.testing.assert_array_equal(found, arithmetic.hadamard(x, _signs(q, r), (q, r, s)))


@pytest.mark.parametrize("kernel", rows_of("hadamard"), ids=kernel_id)
def test_a_nan_stays_in_its_block(kernel: native.Kernel) -> None:
    need(kernel)
    x = _values(2, 2 * 12 * 16)
    x[1, 200] = np.nan
    found = _turned(kernel, x, (2, 12, 1, 16))
    assert np.isnan(found[1, 192:]).all()
    assert np.isfinite(found[0]).all() and np.isfinite(found[1, :192]).all()


@pytest.mark.parametrize("factors", FACTORS, ids=str)
def test_the_definition_is_the_orthogonal_product(factors: Factors) -> None:
    blocks, q, r, s = factors
    parts = [dense(order) for order in (q, r) if order > 1]
    whole = np.kron(np.ones((1, 1)), arithmetic.sylvester(s))
    for part in reversed(parts):
        whole = np.kron(part, whole)
    n = len(whole)
    matrix = np.kron(np.eye(blocks), whole) / np.sqrt(n)
    x = np.random.default_rng(1).standard_normal((3, blocks * n)).astype(np.float32)
    y = arithmetic.hadamard(x, _signs(q, r), (q, r, s))
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, x @ matrix, atol=1e-5 * np.abs(x).max())


@pytest.mark.parametrize(
    ("ints", "signs", "what"),
    [
        ([24, 12, 1, 4], 144, "divide"),
        ([48, 1, 1, 3], 0, "power of two"),
        ([48, 1, 1, 0], 0, "power of two"),
        ([24, 6, 1, 4], 36, "multiple of 4"),
        ([24, 0, 1, 1], 0, "multiple of 4"),
        ([2048, 2048, 1, 1], 2048, "multiple of 4"),
        ([24, 12, 1, 2], 0, "signs"),
    ],
)
def test_factors_that_make_no_sense_are_refused(ints: list[int], signs: int, what: str) -> None:
    kernel = rows_of("hadamard")[0]
    x, y = Matrix.blank(1, ints[0] * 4), Matrix.blank(1, ints[0] * 4)
    given = guarded(np.ones(signs, np.float32)) if signs else None
    with pytest.raises(ValueError, match=what):
        call(kernel, [x, given, y], ints, rows=1)
