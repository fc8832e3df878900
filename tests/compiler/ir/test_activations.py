"""The activations, layer norm, pooling and l2 normalisation: the written definitions, near the real functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from support.bounds import U, gamma

from hearth.compiler.ir import arithmetic
from hearth.schemas.commands import GATES, Activation, Pooling

F64 = NDArray[np.float64]
f32 = np.float32
_ERF, _ERFC = np.frompyfunc(math.erf, 1, 1), np.frompyfunc(math.erfc, 1, 1)


def erf(x: F64) -> F64:
    return _ERF(x).astype(np.float64)


def gelu(x: F64) -> F64:
    return x * _ERFC(-x / math.sqrt(2)).astype(np.float64) / 2


def sigmoid(x: F64) -> F64:
    return np.exp(-np.logaddexp(0, -x))


def gelu_tanh(x: F64) -> F64:
    return x * sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def grid() -> NDArray[np.float32]:
    """Both signs, every magnitude, dense where the functions bend and at the places where definitions change."""
    splits = np.float32([0.625, 1, 2**0.5, 4, 32**0.5])
    near = [np.nextafter(splits, f32(way)) for way in (0, 9)]
    x = np.concatenate([np.linspace(0, 12, 60_001), np.geomspace(1e-37, 1e3, 4_000), splits, *near])
    return np.concatenate([x, -x]).astype(np.float32)


def ulps(got: NDArray[np.float32], exact: F64) -> F64:
    return np.abs(got - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


@pytest.mark.parametrize(
    ("found", "exact"), [(arithmetic.erf, erf), (arithmetic.tanh, np.tanh)], ids=["erf", "tanh"]
)
def test_erf_and_tanh_are_within_two_units_in_the_last_place(
    found: Callable[[arithmetic.F32], arithmetic.F32], exact: Callable[[F64], F64]
) -> None:
    x = grid()
    y = found(x)
    assert (ulps(y, exact(x.astype(np.float64))) <= 2).all()
    assert np.abs(y).max() == 1
    np.testing.assert_array_equal(y, -found(-x))


@pytest.mark.parametrize(
    ("activation", "exact"),
    [
        (Activation.SILU, lambda x: x * sigmoid(x)),
        (Activation.GELU, gelu),
        (Activation.GELU_TANH, gelu_tanh),
        (Activation.RELU, lambda x: np.maximum(x, 0)),
        (Activation.TANH, np.tanh),
    ],
    ids=lambda each: each.name if isinstance(each, Activation) else "",
)
def test_an_activation_is_near_the_real_one(
    activation: Activation, exact: Callable[[F64], F64]
) -> None:
    """Three units in the last place where x is positive; everywhere within 2^-22 of |x|."""
    x = grid()
    wide = x.astype(np.float64)
    y, real = arithmetic.activate(x, activation), exact(wide)
    assert (ulps(y, real)[x > 0] <= 3).all()
    assert (np.abs(y - real) <= np.abs(wide) * 2.0**-22 + 2.0**-149).all()


def test_sigmoid_is_near_the_real_one() -> None:
    x = grid()
    assert (np.abs(arithmetic.sigmoid(x) - sigmoid(x.astype(np.float64))) <= 2 * U).all()


def test_none_changes_nothing_and_gated_ones_are_not_of_one_row() -> None:
    x = grid()
    np.testing.assert_array_equal(arithmetic.activate(x, Activation.NONE), x)
    for activation in GATES:
        with pytest.raises(ValueError, match="two rows"):
            arithmetic.activate(x, activation)
    with pytest.raises(ValueError, match="not gated"):
        arithmetic.gated(x, x, Activation.SILU)


def test_zero_keeps_its_sign() -> None:
    zeros = np.float32([0.0, -0.0])
    for activation in Activation:
        if activation is not Activation.SIGMOID and activation not in GATES:
            y = arithmetic.activate(zeros, activation)
            np.testing.assert_array_equal(np.signbit(y), [False, True], activation.name)


def scalar_erf(x: np.float32) -> np.float32:
    t = f32(abs(x))
    if t < 1:
        z, p = f32(t * t), f32(7.806903e-5)
        for c in (
            -7.997853e-4,
            5.187162e-3,
            -2.6853347e-2,
            1.1283579e-1,
            -3.7612626e-1,
            1.2837917e-1,
        ):
            p = f32(f32(p * z) + f32(c))
        y = f32(t + f32(t * p))
    else:
        t, p = min(t, f32(4)), f32(1.8558027e-4)
        for c in (
            -2.9396585e-3,
            2.1805484e-2,
            -1.0303764e-1,
            -6.3822544e-1,
            -1.1270401,
            -3.536976e-4,
        ):
            p = f32(f32(p * t) + f32(c))
        y = f32(f32(1) - arithmetic.exp(np.array([p]))[0])
    return np.copysign(y, x)


def scalar_tanh(x: np.float32) -> np.float32:
    t = f32(abs(x))
    if t < f32(0.625):
        z, p = f32(t * t), f32(-5.692296e-3)
        for c in (2.0628167e-2, -5.3736515e-2, 1.3331406e-1, -3.333328e-1):
            p = f32(f32(p * z) + f32(c))
        return np.copysign(f32(t + f32(t * f32(z * p))), x)
    e = arithmetic.exp(np.array([f32(t + t)]))[0]
    return np.copysign(f32(f32(1) - f32(f32(2) / f32(e + f32(1)))), x)


def test_erf_and_tanh_are_the_definitions() -> None:
    x = grid()[::37]
    assert [scalar_erf(each) for each in x] == arithmetic.erf(x).tolist()
    assert [scalar_tanh(each) for each in x] == arithmetic.tanh(x).tolist()


@pytest.mark.parametrize("columns", [1, 17, 384, 1536])
@pytest.mark.parametrize(("gained", "biased"), [(False, False), (True, True), (False, True)])
def test_layer_norm_is_near_the_real_one(columns: int, gained: bool, biased: bool) -> None:
    rng = np.random.default_rng(columns)
    x = (rng.standard_normal((5, columns)) * 3 + 2).astype(np.float32)
    gain = rng.standard_normal(columns).astype(np.float32) if gained else None
    bias = rng.standard_normal(columns).astype(np.float32) if biased else None
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    r = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float64(f32(1e-5)))
    exact = centred * r * (1 if gain is None else gain) + (0 if bias is None else bias)
    got = arithmetic.layer_norm(x, gain, bias, 1e-5)
    assert got.dtype == np.float32
    # the mean is off by its sum's and quotient's rounding, a centred value by that and its own
    off = gamma(columns / 16 + 6) * np.abs(wide).mean(axis=1, keepdims=True)
    error = off + U * (np.abs(centred) + off)
    size = np.abs(centred) + error
    # of r: half of its square's: twice a centred value's over their root mean square, sum, quotient, eps
    of_r = gamma((columns / 16 + 10) / 2 + 2) + (error * r).max(axis=1, keepdims=True) * 2
    bound = (error + size * (of_r + gamma(2))) * r * (1 if gain is None else np.abs(gain))
    bound = bound + U * (np.abs(exact) + bound)
    assert (np.abs(got - exact) <= bound).all()


def test_layer_norm_of_a_constant_row_is_its_bias() -> None:
    bias = np.float32([1, -2, 0.5, 3])
    x = np.full((1, 4), 0.25, np.float32)
    np.testing.assert_array_equal(arithmetic.layer_norm(x, bias, bias, 1e-12), bias[None])


def test_l2_normalize_gives_unit_rows_and_keeps_zeros() -> None:
    x = np.random.default_rng(0).standard_normal((4, 384)).astype(np.float32)
    x[1] *= f32(1e-6)
    x[2] = 0
    y = arithmetic.l2_normalize(x, 1e-12)
    wide = x.astype(np.float64)
    length = np.maximum(np.sqrt((wide**2).sum(axis=1, keepdims=True)), 1e-12)
    assert (
        np.abs(y - wide / length) <= gamma((384 / 16 + 5) / 2 + 3) * np.abs(wide / length)
    ).all()
    assert not y[2].any()
    short = arithmetic.l2_normalize(np.float32([[3e-13, 4e-13]]), 1e-12)
    assert (np.abs(short - [[0.3, 0.4]]) <= gamma(3) * np.array([[0.3, 0.4]])).all()


def test_pooling_is_by_column() -> None:
    x = np.float32([[1, -5, 2], [3, -1, 2], [2, -3, 8]])
    assert arithmetic.pool(x, Pooling.MEAN).tolist() == [[2, -3, 4]]
    assert arithmetic.pool(x, Pooling.FIRST).tolist() == [[1, -5, 2]]
    assert arithmetic.pool(x, Pooling.LAST).tolist() == [[2, -3, 8]]
    assert arithmetic.pool(x, Pooling.MAX).tolist() == [[3, -1, 8]]
