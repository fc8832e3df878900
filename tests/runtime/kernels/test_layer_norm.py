"""layer_norm, layer_norm_quantize and l2_normalize of every ISA equal numpy to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from support.kernels import THREADS, Matrix, call, kernel_id, need, rows_of
from support.linears import records

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.types import Static
from hearth.runtime import native

F32 = NDArray[np.float32]
EPS = 1e-12  # BERT's
SHAPES = {
    "one_value": (1, 1),
    "one_less": (3, 15),
    "one_vector": (2, 16),
    "one_more": (4, 17),
    "tail": (3, 83),
    "odd": (2, 172),
    "whole": (4, 384),
    "long": (2, 1600),
}
AFFINE = [(False, False), (True, False), (True, True), (False, True)]


def _rows(rng: np.random.Generator, rows: int, k: int) -> F32:
    """Off their mean, some tiny, some with outliers, one constant."""
    x = rng.standard_normal((rows, k)).astype(np.float32) + np.float32(3)
    x[0] *= np.float32(1e-15)
    x[-1, :: max(1, k // 3)] *= np.float32(1e4)
    if rows > 2:
        x[1] = 0.1
    return x


def _affine(rng: np.random.Generator, k: int, gained: bool, biased: bool) -> list[F32 | None]:
    gain = rng.uniform(0.5, 2, k).astype(np.float32) if gained else None
    bias = rng.standard_normal(k).astype(np.float32) if biased else None
    return [gain, bias]


def _memory(vector: F32 | None) -> NDArray[np.uint8] | None:
    return None if vector is None else Matrix.of(vector[None]).memory


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("gained", "biased"), AFFINE)
@pytest.mark.parametrize("kernel", rows_of("layer_norm"), ids=kernel_id)
def test_layer_norm(kernel: native.Kernel, gained: bool, biased: bool, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain, bias = _affine(rng, k, gained, biased)
    expected = arithmetic.layer_norm(x, gain, bias, EPS)
    for threads in THREADS:
        y = Matrix.blank(rows, k * 4, 4)
        operands = [Matrix.of(x, 8), _memory(gain), _memory(bias), y]
        call(kernel, operands, [k], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("gained", "biased"), AFFINE)
@pytest.mark.parametrize("kernel", rows_of("layer_norm_quantize"), ids=kernel_id)
def test_layer_norm_quantize(kernel: native.Kernel, gained: bool, biased: bool, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain, bias = _affine(rng, k, gained, biased)
    expected = records(*arithmetic.quantize(arithmetic.layer_norm(x, gain, bias, EPS)))
    columns = -(-k // 128) * 128
    expected[:, columns + columns // 8 + 4 :] = 0
    for threads in THREADS:
        y = Matrix.blank(rows, expected.shape[1], 64, align=64)
        operands = [Matrix.of(x), _memory(gain), _memory(bias), y]
        call(kernel, operands, [k], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("gained", "biased"), AFFINE)
@pytest.mark.parametrize("kernel", rows_of("layer_norm_quantize_static"), ids=kernel_id)
def test_layer_norm_quantize_static(
    kernel: native.Kernel, gained: bool, biased: bool, shape: str
) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    rng = np.random.default_rng(k)
    x = _rows(rng, rows, k)
    gain, bias = _affine(rng, k, gained, biased)
    static = Static(float(np.float32(0.021)), 11)
    normed = arithmetic.layer_norm(x, gain, bias, EPS)
    codes = arithmetic.quantize_static(normed, static)
    expected = records(codes, arithmetic.static_scales(normed, static))
    columns = -(-k // 128) * 128
    expected[:, columns + columns // 8 + 4 :] = 0
    for threads in THREADS:
        y = Matrix.blank(rows, expected.shape[1], 64, align=64)
        operands = [Matrix.of(x), _memory(gain), _memory(bias), y]
        floats = [EPS, static.scale, static.zero]
        call(kernel, operands, [k], floats, rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(np.uint8), expected)


@pytest.mark.parametrize("kernel", rows_of("layer_norm"), ids=kernel_id)
def test_in_place(kernel: native.Kernel) -> None:
    need(kernel)
    x = _rows(np.random.default_rng(1), 3, 37)
    y = Matrix.of(x)
    call(kernel, [y, None, None, y], [37], [EPS], rows=3)
    np.testing.assert_array_equal(y.values(), arithmetic.layer_norm(x, None, None, EPS))


@pytest.mark.parametrize("op", ["layer_norm", "l2_normalize"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_spoils_its_row_alone(op: str, bad: float) -> None:
    for kernel in rows_of(op):
        if kernel.isa not in native.isas():
            continue
        for place in (0, 15, 16, 18):
            x = np.random.default_rng(2).standard_normal((3, 19)).astype(np.float32)
            x[1, place] = bad
            y = Matrix.blank(3, 19 * 4)
            between = [None, None] if op == "layer_norm" else []
            call(kernel, [Matrix.of(x), *between, y], [19], [EPS], rows=3)
            assert np.isnan(y.values()[1, place]), kernel.name
            assert np.isfinite(y.values()[[0, 2]]).all(), kernel.name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kernel", rows_of("l2_normalize"), ids=kernel_id)
def test_l2_normalize(kernel: native.Kernel, shape: str) -> None:
    need(kernel)
    rows, k = SHAPES[shape]
    x = _rows(np.random.default_rng(k), rows, k)
    x[0] = 0  # divided by the least length
    for threads in THREADS:
        y = Matrix.blank(rows, k * 4, 4)
        call(kernel, [Matrix.of(x, 8), y], [k], [EPS], rows=rows, threads=threads)
        np.testing.assert_array_equal(y.values(), arithmetic.l2_normalize(x, EPS))
