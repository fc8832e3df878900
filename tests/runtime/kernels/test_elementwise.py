"""add, mul, scale, soft_cap, the activations, gated ones and last_rows of every ISA equal numpy."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of

from hearth.compiler.ir import arithmetic
from hearth.runtime import native
from hearth.schemas.commands import Activation

FUNCTIONS = [each for each in Activation if each.is_function]
SHAPES = {
    "one_value": (1, 1, 0),
    "one_less": (3, 15, 0),
    "one_vector": (2, 16, 8),
    "one_more": (3, 17, 0),
    "tail": (3, 19, 4),
    "whole_vectors": (2, 64, 0),
    "ffn_of_stories260K": (5, 172, 0),
    "several_blocks": (2, 2085, 64),
}
BINARY = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "swiglu": partial(arithmetic.gated, activation=Activation.SWIGLU),
    "geglu_tanh": partial(arithmetic.gated, activation=Activation.GEGLU_TANH),
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


def _activated(
    kernel: native.Kernel, x: np.ndarray, function: Activation, gap: int = 0, threads: int = 1
) -> np.ndarray:
    rows, n = x.shape
    y = Matrix.blank(rows, n * 4, gap)
    call(kernel, [Matrix.of(x), y], [n, int(function)], rows=rows, threads=threads)
    return y.values()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("kernel", rows_of("activate"), ids=kernel_id)
def test_activation(kernel: native.Kernel, function: Activation, shape: str) -> None:
    need(kernel)
    rows, n, gap = SHAPES[shape]
    x = _values(np.random.default_rng(n), rows, n)
    expected = arithmetic.activate(x, function)
    for threads in THREADS:
        found = _activated(kernel, x, function, gap, threads)
        np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", rows_of("scale"), ids=kernel_id)
def test_scale(kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, n, gap = SHAPES[shape]
    x, factor = _values(np.random.default_rng(n), rows, n), np.float32(33.9411255)
    for threads in THREADS:
        y = Matrix.blank(rows, n * 4, gap)
        matrices = [Matrix.of(x, gap), y]
        call(kernel, matrices, [n], [float(factor)], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), x * factor)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cap", [0.75, 30.0])
@pytest.mark.parametrize("kernel", rows_of("soft_cap"), ids=kernel_id)
def test_soft_cap(kernel: native.Kernel, cap: float, shape: str) -> None:
    need(kernel)
    rows, n, gap = SHAPES[shape]
    x = _values(np.random.default_rng(n), rows, n)
    for threads in THREADS:
        y = Matrix.blank(rows, n * 4, gap)
        call(kernel, [Matrix.of(x, gap), y], [n], [cap], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), arithmetic.soft_cap(x, cap))


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


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("kernel", rows_of("activate"), ids=kernel_id)
def test_activation_of_many_values(kernel: native.Kernel, function: Activation) -> None:
    """The whole range of exp, every exponent, both sides of every place where a definition changes."""
    need(kernel)
    splits = np.float32([0.625, 1, 2**0.5, 4, 32**0.5, 43.5, 87, 88])
    near = np.concatenate([np.nextafter(splits, np.float32(way)) for way in (0, 1e9)])
    x = np.concatenate([np.linspace(-95, 95, 40_000), np.geomspace(1e-45, 3e38, 8_000), splits])
    x = np.concatenate([x, -x, near, -near]).astype(np.float32)[None]
    found, expected = _activated(kernel, x, function), arithmetic.activate(x, function)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.name)
@pytest.mark.parametrize("kernel", rows_of("activate"), ids=kernel_id)
def test_activation_of_what_is_not_finite(kernel: native.Kernel, function: Activation) -> None:
    """A NaN stays one; infinities go where docs/arithmetic.md says."""
    need(kernel)
    x = np.float32([[np.nan, np.inf, -np.inf, 1]])
    found = _activated(kernel, x, function)
    assert np.isnan(found[0, 0])
    np.testing.assert_array_equal(found, arithmetic.activate(x, function))
    limits = {
        Activation.SILU: (np.inf, -np.inf),
        Activation.GELU: (np.inf, np.nan),
        Activation.GELU_TANH: (np.inf, -np.inf),
        Activation.RELU: (np.inf, 0),
        Activation.TANH: (1, -1),
        Activation.SIGMOID: (1, arithmetic.sigmoid(np.float32([-88]))[0]),
    }
    np.testing.assert_array_equal(found[0, 1:3], np.float32(limits[function]))
