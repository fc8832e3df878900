"""rms_norm, quantize and both in one, of every ISA, equal numpy to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of
from support.linears import records

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.types import Static
from hearth.runtime import native

EPS = 1e-5
STATICS = (Static(float(np.float32(0.013)), -41), Static(0.25, 127), Static(1.0))
SHAPES = {
    "one_value": (1, 1),
    "less_than_a_vector": (3, 7),
    "tail": (2, 83),
    "odd_ffn": (3, 172),
    "whole": (4, 256),
    "long": (2, 1536),
}


def _rows(rng: np.random.Generator, rows: int, k: int) -> NDArray[np.float32]:
    x = rng.standard_normal((rows, k)).astype(np.float32)
    x[0] *= np.float32(1e-3)
    x[-1, :: max(1, k // 3)] *= np.float32(50)  # outliers
    return x


def _zero_pad(expected: NDArray[np.uint8], k: int) -> NDArray[np.uint8]:
    columns = -(-k // 128) * 128
    expected[:, columns + columns // 8 + 4 :] = 0
    return expected


def _static_records(y: NDArray[np.float32], static: Static) -> NDArray[np.uint8]:
    codes, scales = arithmetic.quantize_static(y, static), arithmetic.static_scales(y, static)
    return _zero_pad(records(codes, scales), y.shape[1])


def _expected_records(y: NDArray[np.float32]) -> NDArray[np.uint8]:
    return _zero_pad(records(*arithmetic.quantize(y)), y.shape[1])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gained", [False, True], ids=["plain", "gain"])
@pytest.mark.parametrize("kernel", rows_of("rms_norm"), ids=kernel_id)
def test_rms_norm(kernel: native.Kernel, gained: bool, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain = rng.uniform(0.5, 2, k).astype(np.float32) if gained else None
    operand = None if gain is None else Matrix.of(gain[None]).memory
    for threads in THREADS:
        y = Matrix.blank(rows, k * 4, 4)
        call(kernel, [Matrix.of(x, 8), operand, y], [k], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), arithmetic.rms_norm(x, gain, EPS))


@pytest.mark.parametrize("heads", [1, 2, 5])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gained", [False, True], ids=["plain", "gain"])
@pytest.mark.parametrize("kernel", rows_of("head_norm"), ids=kernel_id)
def test_head_norm(kernel: native.Kernel, gained: bool, shape: str, heads: int) -> None:
    """A head is as a row of its own, also where threads share the heads of one row."""
    need(kernel)
    rows, dim = SHAPES[shape]
    rng = np.random.default_rng(dim)
    x = _rows(rng, rows, heads * dim)
    gain = rng.uniform(0.5, 2, dim).astype(np.float32) if gained else None
    operand = None if gain is None else Matrix.of(gain[None]).memory
    expected = arithmetic.rms_norm(x.reshape(rows * heads, dim), gain, EPS).reshape(x.shape)
    for threads in THREADS:
        y = Matrix.blank(rows, heads * dim * 4, 4)
        call(kernel, [Matrix.of(x, 8), operand, y], [heads, dim], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gained", [False, True], ids=["plain", "gain"])
@pytest.mark.parametrize("kernel", rows_of("rms_norm_quantize"), ids=kernel_id)
def test_rms_norm_quantize(kernel: native.Kernel, gained: bool, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain = rng.uniform(0.5, 2, k).astype(np.float32) if gained else None
    operand = None if gain is None else Matrix.of(gain[None]).memory
    expected = _expected_records(arithmetic.rms_norm(x, gain, EPS))
    for threads in THREADS:
        y = Matrix.blank(rows, expected.shape[1], 64, align=64)
        call(kernel, [Matrix.of(x), operand, y], [k], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", rows_of("quantize"), ids=kernel_id)
def test_quantize(kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    x = _rows(np.random.default_rng(k), rows, k)
    expected = _expected_records(x)
    for threads in THREADS:
        y = Matrix.blank(rows, expected.shape[1], 0, align=64)
        call(kernel, [Matrix.of(x, 4), y], [k], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gained", [False, True], ids=["plain", "gain"])
@pytest.mark.parametrize("kernel", rows_of("rms_norm_quantize_static"), ids=kernel_id)
def test_rms_norm_quantize_static(kernel: native.Kernel, gained: bool, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain = rng.uniform(0.5, 2, k).astype(np.float32) if gained else None
    operand = None if gain is None else Matrix.of(gain[None]).memory
    for static in STATICS:
        expected = _static_records(arithmetic.rms_norm(x, gain, EPS), static)
        floats = [EPS, static.scale, static.zero]
        for threads in THREADS:
            y = Matrix.blank(rows, expected.shape[1], 64, align=64)
            call(kernel, [Matrix.of(x), operand, y], [k], floats, rows=rows, threads=threads)
            np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", rows_of("quantize_static"), ids=kernel_id)
def test_quantize_static(kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    x = _rows(np.random.default_rng(k), rows, k)
    for static in STATICS:
        expected = _static_records(x, static)
        for threads in THREADS:
            y = Matrix.blank(rows, expected.shape[1], 0, align=64)
            floats = [static.scale, static.zero]
            call(kernel, [Matrix.of(x, 4), y], [k], floats, rows=rows, threads=threads)
            np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("zero", [-127, -3, 0, 127])
@pytest.mark.parametrize("kernel", rows_of("quantize_static"), ids=kernel_id)
def test_quantize_static_of_special_rows(kernel: native.Kernel, zero: int) -> None:
    """Ties, both ends and beyond, subnormals; what is not finite makes its row's scale a NaN, of one form."""
    need(kernel)
    x = np.zeros((18, 40), np.float32)
    x[:15] = np.arange(-300, 300, 1, np.float32).reshape(15, 40) - np.float32(0.5)
    x[14, :2] = 1e-44, -0.0
    x[15, 3], x[16, 39], x[17, 0] = np.nan, np.inf, -np.inf
    x[17, 1] = -np.float32(np.nan)
    for scale in (1.0, float(np.float32(1 / 3)), 2.0**-100, 2.0**125):
        static = Static(scale, zero)
        expected = _static_records(x, static)
        y = Matrix.blank(18, expected.shape[1], 0, align=64)
        call(kernel, [Matrix.of(x), y], [40], [scale, zero], rows=18)
        np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("kernel", rows_of("quantize"), ids=kernel_id)
def test_quantize_of_special_rows(kernel: native.Kernel) -> None:
    """Zeros, rows below and at the smallest scale, the largest floats, ties, subnormals among large values."""
    need(kernel)
    tiny = np.float32(2.0**-100)
    below = np.nextafter(tiny, np.float32(0))
    largest = np.finfo(np.float32).max
    x = np.zeros((7, 40), np.float32)
    x[1, 3], x[2, 3] = below, tiny
    x[3] = largest * np.linspace(-1, 1, 40, dtype=np.float32)
    x[4] = np.arange(40) - np.float32(20.5)
    x[4, 0] = 127  # scale 1: halves are ties
    x[5, ::2], x[5, 1::2] = 1, 1e-42
    x[6] = -0.0
    expected = _expected_records(x)
    y = Matrix.blank(7, expected.shape[1], 0, align=64)
    call(kernel, [Matrix.of(x), y], [40], rows=7)
    np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kernel", rows_of("quantize"), ids=kernel_id)
def test_what_is_not_finite_shows_in_the_scale(kernel: native.Kernel, bad: float) -> None:
    """So a broken value spoils the row's results instead of passing for a number."""
    need(kernel)
    for place in (0, 5, 39):
        x = np.ones((1, 40), np.float32)
        x[0, place] = bad
        y = Matrix.blank(1, 192, 0, align=64)
        call(kernel, [Matrix.of(x), y], [40], rows=1)
        scale = y.values(np.float32)[0, (128 + 16) // 4]
        assert scale == np.inf if np.isinf(bad) else np.isnan(scale)
