"""add, mul, silu, swiglu and last_rows of every ISA equal numpy."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of

from hearth.compiler.ir import arithmetic
from hearth.runtime import native

SHAPES = {
    "one_value": (1, 1, 0),
    "tail": (3, 19, 4),
    "whole_vectors": (2, 64, 0),
    "ffn_of_stories260K": (5, 172, 0),
    "several_blocks": (2, 2085, 64),
}
BINARY = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "swiglu": arithmetic.swiglu,
}


def _values(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """Of every magnitude, with zeros, subnormals and what saturates exp."""
    x = rng.standard_normal((rows, n)) * 10.0 ** rng.integers(-6, 3, (rows, n))
    special = np.array([0.0, -0.0, 1e-40, -1e-40, 90.0, -90.0, 1e4, -1e4])
    chosen = rng.random((rows, n)) < 0.2
    x[chosen] = special[rng.integers(0, len(special), int(chosen.sum()))]
    return x.astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("op", "kernel"),
    [(op, kernel) for op in BINARY for kernel in rows_of(op)],
    ids=kernel_id,
)
def test_binary(op: str, kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, n, gap = SHAPES[shape]
    rng = np.random.default_rng(n)
    a, b = _values(rng, rows, n), _values(rng, rows, n)
    expected = BINARY[op](a, b)
    for threads in THREADS:
        y = Matrix.blank(rows, n * 4, gap)
        call(kernel, [Matrix.of(a, gap), Matrix.of(b), y], [n], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", rows_of("silu"), ids=kernel_id)
def test_silu(kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, n, gap = SHAPES[shape]
    x = _values(np.random.default_rng(n), rows, n)
    for threads in THREADS:
        y = Matrix.blank(rows, n * 4, gap)
        call(kernel, [Matrix.of(x), y], [n], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), arithmetic.silu(x))


@pytest.mark.parametrize("kernel", rows_of("add"), ids=kernel_id)
def test_in_place(kernel: native.Kernel) -> None:
    need(kernel)
    a = _values(np.random.default_rng(3), 4, 37)
    y = Matrix.of(a)
    call(kernel, [y, Matrix.of(a), y], [37], rows=4, threads=2)
    np.testing.assert_array_equal(y.values(), a + a)


@pytest.mark.parametrize("kernel", rows_of("last_rows"), ids=kernel_id)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 1), (7, 1), (7, 3), (7, 7), (7, 0)])
def test_last_rows(kernel: native.Kernel, tokens: int, rows: int) -> None:
    need(kernel)
    x = _values(np.random.default_rng(tokens), tokens, 21)
    for threads in THREADS:
        y = Matrix.blank(max(rows, 1), 21 * 4, 8)
        call(kernel, [Matrix.of(x, 12), y], [21], rows=rows, tokens=tokens, threads=threads)
        np.testing.assert_array_equal(y.values()[:rows], x[tokens - rows :])


@pytest.mark.parametrize("kernel", rows_of("silu"), ids=kernel_id)
def test_silu_of_many_values(kernel: native.Kernel) -> None:
    """exp over its whole range, every exponent."""
    need(kernel)
    x = np.concatenate([np.linspace(-95, 95, 40_000), np.geomspace(1e-30, 90, 4_000)])
    x = np.concatenate([x, -x]).astype(np.float32)[None]
    y = Matrix.blank(1, x.nbytes)
    call(kernel, [Matrix.of(x), y], [x.size], rows=1)
    np.testing.assert_array_equal(y.values(), arithmetic.silu(x))
