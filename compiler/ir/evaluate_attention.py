"""Attention over stored keys and values, each sum in the order of docs/arithmetic.md."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir import arithmetic
from hearth.compiler.ir.state import Stored

F32 = NDArray[np.float32]

BLOCK_ELEMENTS = 1 << 22  # products [P, rows, H, D] held at a time


def attend(
    q: F32,
    k: Stored,
    v: Stored,
    position: int,
    scale: float,
    window: int,
    causal: bool = True,
    cap: float = 0.0,
) -> F32:
    """y[T, H, Dv] of q[T, H, D] at position, position + 1, ...; window 0: all earlier positions.

    Not causal: every row sees all positions up to the last row's. Cap 0: scores stay as they are.
    """
    rows, heads, _ = q.shape
    kv_heads = k.values.shape[1]
    grouped = q.reshape(rows, kv_heads, heads // kv_heads, -1)
    step = max(1, BLOCK_ELEMENTS // max(1, k.length * heads * q.shape[2]))
    factor = np.float32(scale)
    reach = window or position + rows  # how many positions back a row sees, itself included
    end = position + rows
    last = np.arange(position, end) if causal else np.full(rows, end - 1)  # that each row sees
    pieces = [
        _attend_block(grouped[part], k, v, last[part], reach, factor, cap)
        for part in (slice(start, start + step) for start in range(0, rows, step))
    ]
    return np.concatenate(pieces).reshape(rows, heads, -1)


def _attend_block(
    q: F32,
    k: Stored,
    v: Stored,
    last: NDArray[np.int64],
    reach: int,
    scale: np.float32,
    cap: float,
) -> F32:
    """q[T, Hkv, G, D]; only the positions that some row sees are touched."""
    low = max(0, int(last[0]) - reach + 1)
    low -= low % arithmetic.LANES  # lanes are by absolute position
    part = slice(low, int(last[-1]) + 1)
    t = np.arange(low, part.stop)
    at = last[:, None, None, None]
    seen = (t <= at) & (t > at - reach)  # [T, 1, 1, P]
    s = _scores(q, k, part, scale)  # [T, Hkv, G, P]
    s = arithmetic.soft_cap(s, cap) if cap else s
    m = np.max(np.where(seen, s, np.float32(-np.inf)), axis=-1, keepdims=True)
    e = np.where(seen, arithmetic.exp(s - m), np.float32(0.0))
    inverse = np.float32(1.0) / arithmetic.sum16(e)
    o = _weighted(e, v, part, seen[:, 0, 0])
    y = o * inverse[..., None]
    return np.asarray(y if v.static is None else y * np.float32(v.static.scale), np.float32)


def _scores(q: F32, k: Stored, part: slice, scale: np.float32) -> F32:
    """s[T, Hkv, G, P]."""
    keys = _steps(k, part)  # [P, Hkv, D]
    if k.scales is None and k.static is None:
        products = q[:, :, :, None, :] * keys.swapaxes(0, 1)[None, :, None]
        return np.asarray(arithmetic.sum16(products) * scale, np.float32)
    q8, qs = arithmetic.quantize(q)
    a = q8.astype(np.float32).transpose(1, 0, 2, 3)  # [Hkv, T, G, D]
    flat = a.reshape(a.shape[0], -1, a.shape[3])
    acc = arithmetic.integer_products(flat, keys.swapaxes(0, 1))  # [Hkv, T * G, P]
    acc = acc.reshape(*a.shape[:3], -1).swapaxes(0, 1)  # [T, Hkv, G, P]
    return np.asarray(acc * ((qs * scale)[..., None] * _key_scales(k, part)), np.float32)


def _steps(half: Stored, part: slice) -> F32:
    """[P, Hkv, D]: the values, or whole steps of the scale: codes, less their zero point."""
    values = half.values[part].astype(np.float32)
    return values if half.static is None else values - np.float32(half.static.zero)


def _key_scales(k: Stored, part: slice) -> F32:
    """[1, Hkv, 1, P], or one for all."""
    if k.scales is None:
        return np.full((1, 1, 1, 1), 1.0 if k.static is None else k.static.scale, np.float32)
    return k.scales[part].T[None, :, None, :]


def _weighted(e: F32, v: Stored, part: slice, seen: NDArray[np.bool_]) -> F32:
    """o[T, Hkv, G, D] = sum over the t each row sees, in order, of w[t] * v[t]; seen[T, P]."""
    values = _steps(v, part)
    w = e if v.scales is None else e * v.scales[part].T[None, :, None, :]
    o = np.zeros((*e.shape[:3], values.shape[2]), np.float32)
    for t in range(len(values)):
        see = np.flatnonzero(seen[:, t])  # a range of rows, or none
        rows = slice(see[0], see[-1] + 1) if len(see) else slice(0)
        o[rows] += w[rows, ..., t, None] * values[t][None, :, None, :]
    return o
