"""The definitions of docs/arithmetic.md in numpy float32, bit for bit what the kernels compute.

Every array operation below rounds once to float32, as the page asks; sums that must have an order
are written as loops over whole arrays, because numpy's own `sum` chooses its order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
_ONE = np.float32(1.0)


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


def exp(x: F32) -> F32:
    """After Cephes `expf`; the argument is clamped to [-87, 88]."""
    low, high = np.float32(-87.0), np.float32(88.0)
    x = np.where(x > low, x, low)
    x = np.where(x < high, x, high)
    n = np.rint(x * _LOG2_E)
    r = x - n * _LN2_HIGH
    r = r - n * _LN2_LOW
    p = np.full_like(r, _EXP[0])
    for c in _EXP[1:]:
        p = p * r + c
    p = (p * (r * r) + r) + _ONE
    power = ((n.astype(np.int32) + 127) << 23).view(np.float32)
    return np.asarray(p * power, np.float32)


def silu(x: F32) -> F32:
    """x / (1 + exp(-x))."""
    return np.asarray(x / (exp(-x) + _ONE), np.float32)


def swiglu(gate: F32, up: F32) -> F32:
    """silu(gate) * up."""
    return np.asarray(silu(gate) * up, np.float32)


def rms_norm(x: F32, gain: F32 | None, eps: float) -> F32:
    """x / sqrt(mean(x^2) + eps) over the last axis, times the gain where there is one."""
    mean = sum16(x * x) / np.float32(x.shape[-1])
    r = _ONE / np.sqrt(mean + np.float32(eps))
    y = np.asarray(x * r[..., None], np.float32)
    return y if gain is None else np.asarray(y * gain, np.float32)


def quantize(x: F32) -> tuple[I8, F32]:
    """Codes i8 and one scale per row (the last axis)."""
    a = np.max(np.abs(x), axis=-1)
    dead = a < TINY
    step = np.float32(127.0) / np.where(dead, _ONE, a)
    codes = np.rint(x * step[..., None])
    codes = np.where(dead[..., None], np.float32(0.0), codes).astype(np.int8)
    scale = np.where(dead, np.float32(0.0), a / np.float32(127.0))
    return codes, np.asarray(scale, np.float32)


def dequantise(codes: I8, scale: F32) -> F32:
    """codes * scale, one scale per row."""
    return np.asarray(codes.astype(np.float32) * scale[..., None], np.float32)


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
