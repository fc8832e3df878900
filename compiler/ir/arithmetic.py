"""The definitions of docs/arithmetic.md in numpy float32, bit for bit what the kernels compute.

Every array operation below rounds once to float32, as the page asks; sums that must have an order
are written as loops over whole arrays, because numpy's own `sum` chooses its order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.types import MOST_CODE, Static
from hearth.schemas.commands import Activation, Pooling

F32 = NDArray[np.float32]
I8 = NDArray[np.int8]

LANES = 16
TINY = np.float32(2.0**-100)  # below this a row quantises to zeros

_LOG2_E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_EXP = tuple(
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
# Fitted for this page (least relative error of erf and tanh; docs/arithmetic.md gives the errors).
_ERF_SMALL = tuple(
    np.float32(c)
    for c in (
        7.806903e-5,
        -7.997853e-4,
        5.187162e-3,
        -2.6853347e-2,
        1.1283579e-1,
        -3.7612626e-1,
        1.2837917e-1,
    )
)
_ERF_LARGE = tuple(
    np.float32(c)
    for c in (
        1.8558027e-4,
        -2.9396585e-3,
        2.1805484e-2,
        -1.0303764e-1,
        -6.3822544e-1,
        -1.1270401,
        -3.536976e-4,
    )
)
_TANH_SMALL = tuple(
    np.float32(c) for c in (-5.692296e-3, 2.0628167e-2, -5.3736515e-2, 1.3331406e-1, -3.333328e-1)
)
_TANH_SPLIT, _ERF_END = np.float32(0.625), np.float32(4.0)
ROOT_HALF = np.float32(0.70710678)
GELU_CUBE, GELU_SLOPE = np.float32(0.071354816), np.float32(1.5957691)
_QUIET = np.errstate(over="ignore", invalid="ignore")  # infinities and NaNs go through
_ZERO, _HALF, _ONE, _TWO = (np.float32(c) for c in (0.0, 0.5, 1.0, 2.0))


def sum16(v: F32) -> F32:
    """Over the last axis: 16 interleaved partial sums, then the tree 8, 4, 2, 1."""
    length = v.shape[-1]
    padded = -length % LANES
    if padded:
        zeros = np.zeros((*v.shape[:-1], padded), np.float32)
        v = np.concatenate([v, zeros], axis=-1)
    lanes = v.reshape(*v.shape[:-1], -1, LANES)
    partial = np.zeros((*v.shape[:-1], LANES), np.float32)
    for step in range(lanes.shape[-2]):
        partial += lanes[..., step, :]
    half = LANES // 2
    while half:
        partial = partial[..., :half] + partial[..., half : 2 * half]
        half //= 2
    return np.asarray(partial[..., 0], np.float32)


def _polynomial(coefficients: tuple[np.float32, ...], x: F32) -> F32:
    """By Horner, from the highest power down."""
    p = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        p = p * x + c
    return p


def exp(x: F32) -> F32:
    """After Cephes `expf`; the argument is clamped to [-87, 88], a NaN stays one."""
    low, high = np.float32(-87.0), np.float32(88.0)
    x = np.where(x < low, low, x)
    x = np.where(x > high, high, x)
    n = np.rint(x * _LOG2_E)
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = _polynomial(_EXP, r)
    p = (p * (r * r) + r) + _ONE
    with np.errstate(invalid="ignore"):  # of a NaN, which p carries on
        whole = n.astype(np.int32)
    power = ((whole + 127) << 23).view(np.float32)
    return np.asarray(p * power, np.float32)


@_QUIET
def erf(x: F32) -> F32:
    """The error function: a polynomial below 1, from there 1 less exp of one."""
    t = np.abs(x)
    small = t + t * _polynomial(_ERF_SMALL, t * t)
    large = _ONE - exp(_polynomial(_ERF_LARGE, np.where(t > _ERF_END, _ERF_END, t)))
    return np.asarray(np.copysign(np.where(t >= _ONE, large, small), x), np.float32)


@_QUIET
def tanh(x: F32) -> F32:
    """A polynomial below 0.625, from there 1 - 2 / (exp(2 x) + 1)."""
    t, z = np.abs(x), x * x
    small = t + t * (z * _polynomial(_TANH_SMALL, z))
    large = _ONE - _TWO / (exp(t + t) + _ONE)
    return np.asarray(np.copysign(np.where(t >= _TANH_SPLIT, large, small), x), np.float32)


def sigmoid(x: F32) -> F32:
    """1 / (1 + exp(-x))."""
    return np.asarray(_ONE / (exp(-x) + _ONE), np.float32)


def silu(x: F32) -> F32:
    """x / (1 + exp(-x))."""
    return np.asarray(x / (exp(-x) + _ONE), np.float32)


def gelu(x: F32) -> F32:
    """x * Phi(x), by erf."""
    return np.asarray((x * _HALF) * (erf(x * ROOT_HALF) + _ONE), np.float32)


@_QUIET
def gelu_tanh(x: F32) -> F32:
    """x * (1 + tanh(u)) / 2, which is x / (1 + exp(-2 u)); 2 u = 1.5957691 x + 0.071354816 x^3."""
    u = x * ((x * x) * GELU_CUBE + GELU_SLOPE)
    return np.asarray(x / (exp(-u) + _ONE), np.float32)


def relu(x: F32) -> F32:
    """+0 where x is negative, else x."""
    return np.asarray(np.where(x < _ZERO, _ZERO, x), np.float32)


def activate(x: F32, activation: Activation) -> F32:
    """The activation of a row; x as it is for NONE. Gated ones take two rows: `gated`."""
    with np.errstate(over="ignore", invalid="ignore"):
        match activation:
            case Activation.NONE:
                return x
            case Activation.SILU:
                return silu(x)
            case Activation.GELU:
                return gelu(x)
            case Activation.GELU_TANH:
                return gelu_tanh(x)
            case Activation.RELU:
                return relu(x)
            case Activation.TANH:
                return tanh(x)
            case Activation.SIGMOID:
                return sigmoid(x)
            case Activation.SWIGLU | Activation.GEGLU_TANH:
                raise ValueError(f"{activation.name} is of two rows, not of one")


def gated(gate: F32, up: F32, activation: Activation) -> F32:
    """f(gate) * up, f the gate of a gated activation."""
    if activation.gate is None:
        raise ValueError(f"{activation.name} is not gated")
    return np.asarray(activate(gate, activation.gate) * up, np.float32)


def soft_cap(x: F32, cap: float) -> F32:
    """tanh(x / cap) * cap."""
    return np.asarray(
        tanh(np.asarray(x / np.float32(cap), np.float32)) * np.float32(cap), np.float32
    )


def rms_norm(x: F32, gain: F32 | None, eps: float) -> F32:
    """x / sqrt(mean(x^2) + eps) over the last axis, times the gain where there is one."""
    mean = sum16(x * x) / np.float32(x.shape[-1])
    r = _ONE / np.sqrt(mean + np.float32(eps))
    y = np.asarray(x * r[..., None], np.float32)
    return y if gain is None else np.asarray(y * gain, np.float32)


def layer_norm(x: F32, gain: F32 | None, bias: F32 | None, eps: float) -> F32:
    """(x - mean) / sqrt(variance + eps) over the last axis, times the gain, plus the bias, where given."""
    width = np.float32(x.shape[-1])
    centred = x - (sum16(x) / width)[..., None]
    variance = sum16(centred * centred) / width
    r = _ONE / np.sqrt(variance + np.float32(eps))
    y = centred * r[..., None]
    y = y if gain is None else y * gain
    return np.asarray(y if bias is None else y + bias, np.float32)


def sylvester(order: int) -> F32:
    """Hadamard matrix f32[order, order] of a power of two: 1 where i & j has an even number of bits, else -1."""
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def hadamard_scale(order: int) -> np.float32:
    """1 / sqrt(order), rounded once to float64 and once to float32."""
    return np.float32(1.0 / np.sqrt(np.float64(order)))


def hadamard(x: F32, signs: F32 | None, factors: tuple[int, int, int]) -> F32:
    """x H / sqrt(q r s): the dense factors' sums in order, then butterflies from s / 2 down to 1, then the scale."""
    (rows, columns), (q, r, s) = x.shape, factors
    inner, at = q * r * s, 0
    for order in (q, r):
        inner //= order
        if order > 1 and signs is not None:
            matrix = signs[at : at + order * order].reshape(order, order)
            x, at = _dense(x.reshape(-1, order, inner), matrix), at + order * order
    h = s // 2
    while h:
        pairs = x.reshape(-1, 2, h)
        a, b = pairs[:, 0], pairs[:, 1]
        x, h = np.stack([a + b, a - b], axis=1), h // 2
    return np.asarray(x.reshape(rows, columns) * hadamard_scale(q * r * s), np.float32)


def _dense(x: F32, signs: F32) -> F32:
    """y[., j, i] = sum over k in order of signs[j, k] * x[., k, i]."""
    y = signs[:, 0][:, None] * x[:, :1]
    for k in range(1, len(signs)):
        y = y + signs[:, k][:, None] * x[:, k : k + 1]
    return np.asarray(y, np.float32)


def l2_normalize(x: F32, eps: float) -> F32:
    """x / max(|x|, eps) over the last axis."""
    length, least = np.sqrt(sum16(x * x)), np.float32(eps)
    length = np.where(length < least, least, length)
    return np.asarray(x / length[..., None], np.float32)


def pool(x: F32, kind: Pooling) -> F32:
    """The rows of x[T, N] as one row [1, N]; the mean adds them in order, the first one to +0."""
    match kind:
        case Pooling.FIRST:
            return x[:1]
        case Pooling.LAST:
            return x[-1:]
        case Pooling.MEAN:
            total = np.zeros(x.shape[1:], np.float32)
            for each in x:
                total = total + each
            return np.asarray(total / np.float32(len(x)), np.float32)[None]
        case Pooling.MAX:
            most = x[0]
            for each in x[1:]:
                most = np.where((each > most) | (each != each), each, most)
            return np.asarray(most, np.float32)[None]


def quantize(x: F32) -> tuple[I8, F32]:
    """Codes i8 and one scale per row (the last axis)."""
    a = np.max(np.abs(x), axis=-1)
    dead = a < TINY
    step = np.float32(127.0) / np.where(dead, _ONE, a)
    codes = np.rint(x * step[..., None])
    codes = np.where(dead[..., None], np.float32(0.0), codes).astype(np.int8)
    scale = np.where(dead, np.float32(0.0), a / np.float32(127.0))
    return codes, np.asarray(scale, np.float32)


@_QUIET
def quantize_static(x: F32, static: Static) -> I8:
    """Fixed codes: clamp(x / scale, to -127 - zero .. 127 - zero), rounded, plus zero; a NaN is -127."""
    low, high = np.float32(-MOST_CODE - static.zero), np.float32(MOST_CODE - static.zero)
    steps = x * static.inverse
    steps = np.where(steps > low, steps, low)
    steps = np.rint(np.where(steps < high, steps, high))
    return np.asarray(steps + np.float32(static.zero), np.int8)


def static_scales(x: F32, static: Static) -> F32:
    """The scale of each row (the last axis) of fixed codes: the same, but a NaN where a value is not finite."""
    whole = np.isfinite(x).all(axis=-1)
    return np.where(whole, np.float32(static.scale), np.float32(np.nan))


def dequantise_static(codes: I8, static: Static) -> F32:
    """(codes - zero) * scale, one scale for all."""
    return dequantise(codes, np.full(codes.shape[:-1], static.scale, np.float32), static.zero)


def dequantise(codes: I8, scale: F32, zero: int = 0) -> F32:
    """(codes - zero) * scale, one scale per row."""
    steps = codes.astype(np.float32) - np.float32(zero)
    return np.asarray(steps * scale[..., None], np.float32)


def rope(x: F32, cos: F32, sin: F32) -> F32:
    """Half-split rotation of x[..., D] by cos, sin [..., rotary / 2]; the rest is copied."""
    half = cos.shape[-1]
    low, high = x[..., :half], x[..., half : 2 * half]
    turned = (low * cos - high * sin, high * cos + low * sin, x[..., 2 * half :])
    return np.asarray(np.concatenate(turned, axis=-1), np.float32)


def round_f16(x: F32) -> F32:
    """Rounded to the nearest float16 (ties to even; too large becomes infinite), as float32."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)


EXACT_TERMS = (1 << 24) // (127 * 128)  # so many int8 products sum exactly in float32


def integer_products(a: F32, w: F32) -> F32:
    """float32(sum_k a[..., m, k] * w[..., n, k]) for int8 values held as float32.

    Blocks of at most EXACT_TERMS products are below 2^24, so a float32 matmul is exact whatever its
    order; the blocks are summed in float64 and rounded once, as the kernels convert int32.
    """
    k = a.shape[-1]
    transposed = np.swapaxes(w, -1, -2)
    if k <= EXACT_TERMS:
        return np.asarray(a @ transposed, np.float32)
    total: NDArray[np.float64] = np.zeros((), np.float64)
    for start in range(0, k, EXACT_TERMS):
        part = slice(start, start + EXACT_TERMS)
        total = total + (a[..., part] @ transposed[..., part, :]).astype(np.float64)
    return np.asarray(total, np.float32)


def low_rank(u: F32, values: F32, scale: F32 | None) -> F32:
    """What an adapter adds: y[n] = +0; for r in order: y[n] = y[n] + u[r] * values[r, n]; then times scale[n], if any.

    u f32[rows, R], values f32[R, N], scale f32[N] -> f32[rows, N].
    """
    y = np.zeros((len(u), values.shape[1]), np.float32)
    for rank in range(len(values)):
        y = y + u[:, rank, None] * values[rank]
    return y if scale is None else y * scale
