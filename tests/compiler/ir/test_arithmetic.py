"""The written definitions: bit for bit against literal scalar code, and near the real functions."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.bounds import EXP, U, gamma

from hearth.compiler.ir import arithmetic
from hearth.schemas.commands import Activation

f32 = np.float32


def scalar_sum16(values: Iterable[np.float32]) -> np.float32:
    partial = [f32(0)] * 16
    for i, value in enumerate(values):
        partial[i % 16] = f32(partial[i % 16] + value)
    for half in (8, 4, 2, 1):
        for j in range(half):
            partial[j] = f32(partial[j] + partial[j + half])
    return partial[0]


def scalar_exp(x: np.float32) -> np.float32:
    x = min(max(x, f32(-87)), f32(88))
    n = f32(np.rint(f32(x * f32(1.44269504))))
    r = f32(x - f32(n * f32(0.693359375)))
    r = f32(r - f32(n * f32(-2.12194440e-4)))
    p = f32(1.9875691500e-4)
    for c in (
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    ):
        p = f32(f32(p * r) + f32(c))
    p = f32(f32(f32(p * f32(r * r)) + r) + f32(1))
    return f32(p * f32(math.ldexp(1.0, int(n))))


def normal(*shape: int, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 32, 100, 1537])
def test_sum16_is_the_definition(length: int) -> None:
    x = normal(3, length)
    got = arithmetic.sum16(x)
    assert got.dtype == np.float32
    assert [scalar_sum16(row) for row in x] == got.tolist()
    exact = x.astype(np.float64).sum(axis=1)
    size = np.abs(x.astype(np.float64)).sum(axis=1)
    assert np.all(np.abs(got - exact) <= gamma(length // 16 + 5) * size)


@given(st.floats(-200, 200, width=32))
def test_exp_is_the_definition(x: float) -> None:
    assert arithmetic.exp(np.array([x], np.float32))[0] == scalar_exp(f32(x))


def test_exp_is_near_the_real_one() -> None:
    x = np.linspace(-87, 88, 300_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    assert np.all(np.abs(arithmetic.exp(x) - exact) <= gamma(EXP) * exact)


def test_exp_is_clamped_and_exact_at_zero() -> None:
    ends = arithmetic.exp(np.array([-np.inf, -1e4, -87, 88, 1e4, np.inf, 0, -0.0], np.float32))
    assert ends[0] == ends[1] == ends[2] > 0
    assert ends[3] == ends[4] == ends[5] < np.inf
    assert ends[6] == ends[7] == 1


def test_silu_and_what_it_gates_are_near_the_real_ones() -> None:
    x, up = normal(2, 5000, spread=8)
    exact = x / (1 + np.exp(-x.astype(np.float64)))
    assert np.all(np.abs(arithmetic.silu(x) - exact) <= gamma(EXP + 2) * np.abs(exact))
    gated = np.abs(arithmetic.gated(x, up, Activation.SWIGLU) - exact * up)
    assert np.all(gated <= gamma(EXP + 3) * np.abs(exact * up))


@pytest.mark.parametrize("columns", [1, 24, 1536])
@pytest.mark.parametrize("with_gain", [False, True])
def test_rms_norm_is_near_the_real_one(columns: int, with_gain: bool) -> None:
    x, gain = normal(5, columns, spread=3), normal(columns, seed=1)
    x64 = x.astype(np.float64)
    exact = x64 / np.sqrt((x64**2).mean(axis=1, keepdims=True) + np.float64(f32(1e-5)))
    if with_gain:
        exact = exact * gain
    got = arithmetic.rms_norm(x, gain if with_gain else None, 1e-5)
    assert got.dtype == np.float32
    # half of: a product, columns / 16 + 5 sums, a quotient, eps; then root, inverse, two products
    terms = (columns / 16 + 8) / 2 + 4
    assert np.all(np.abs(got - exact) <= gamma(terms) * np.abs(exact))


@given(st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=40))
def test_quantize_is_within_half_a_step(values: list[float]) -> None:
    x = np.array([values], np.float32)
    codes, scale = arithmetic.quantize(x)
    a = np.abs(x).max()
    assert codes.dtype == np.int8
    assert scale.dtype == np.float32
    assert np.abs(codes.astype(int)).max() <= 127
    if a < 2.0**-100:
        assert not codes.any()
        assert scale == 0
        return
    assert np.abs(codes[0][np.abs(x[0]) == a]).tolist() == [127] * int((np.abs(x) == a).sum())
    slack = (0.5 + 127 * gamma(3)) * float(a) / 127 * (1 + gamma(3))
    back = arithmetic.dequantise(codes, scale).astype(np.float64)
    assert np.all(np.abs(back - x) <= slack + U * np.abs(back))


def test_quantize_rounds_ties_to_even_and_leaves_tiny_rows_zero() -> None:
    codes, scale = arithmetic.quantize(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2]]
    assert scale.tolist() == [1]
    tiny = np.array([[2.0**-101, -(2.0**-140)], [0, 0]], np.float32)
    codes, scale = arithmetic.quantize(tiny)
    assert not codes.any()
    assert not scale.any()


@pytest.mark.parametrize("rotary", [8, 6])
def test_rope_rotates_pairs_and_copies_the_rest(rotary: int) -> None:
    x, angle = normal(3, 8), normal(3, rotary // 2, seed=2)
    cos, sin = np.cos(angle), np.sin(angle)
    got = arithmetic.rope(x, cos, sin).astype(np.float64)
    half = rotary // 2
    turned = (x[:, :half] + 1j * x[:, half:rotary]) * (cos.astype(np.float64) + 1j * sin)
    exact = np.concatenate([turned.real, turned.imag], axis=1)
    size = np.abs(x[:, :half]) * np.abs(cos) + np.abs(x[:, half:rotary]) * np.abs(sin)
    cross = np.abs(x[:, half:rotary]) * np.abs(cos) + np.abs(x[:, :half]) * np.abs(sin)
    bound = gamma(2) * np.concatenate([size, cross], axis=1).astype(np.float64) * (1 + 4 * U)
    assert np.all(np.abs(got[:, :rotary] - exact) <= bound)
    np.testing.assert_array_equal(got[:, rotary:], x[:, rotary:])


@pytest.mark.parametrize("k", [1, 31, arithmetic.EXACT_TERMS, arithmetic.EXACT_TERMS + 1, 9000])
def test_integer_products_are_exact(k: int) -> None:
    rng = np.random.default_rng(k)
    a, w = rng.integers(-127, 128, (3, k)), rng.integers(-127, 128, (5, k))
    a[0], w[0] = 127, 127  # the extremes
    w[1] = -128
    got = arithmetic.integer_products(a.astype(np.float32), w.astype(np.float32))
    np.testing.assert_array_equal(got, (a @ w.T).astype(np.float32))


def test_f16_rounds_to_even_and_overflows_to_infinity() -> None:
    x = np.array([1 + 2.0**-11, 1 + 3 * 2.0**-11, 65519, 65520, -1e9, 2.0**-25], np.float32)
    got = arithmetic.round_f16(x)
    assert got.tolist() == [1, 1 + 2.0**-9, 65504, np.inf, -np.inf, 0]
