"""Attention and KV writes, bit for bit against the written definition in scalar loops."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hearth.compiler.ir import arithmetic, evaluate_attention
from hearth.compiler.ir.evaluate_attention import attend
from hearth.compiler.ir.state import Stored
from hearth.compiler.ir.types import Static
from hearth.schemas.commands import KVScheme

f32 = np.float32
SCALE = f32(0.3)


def lanes(values: dict[int, np.float32]) -> np.float32:
    """sum16 with the lane of absolute position t being t mod 16."""
    partial = [f32(0)] * 16
    for t in sorted(values):
        partial[t % 16] = f32(partial[t % 16] + values[t])
    for half in (8, 4, 2, 1):
        for j in range(half):
            partial[j] = f32(partial[j] + partial[j + half])
    return partial[0]


def written(rows: np.ndarray, scheme: KVScheme, zero: int) -> Stored:
    static = Static(0.015625, zero) if scheme is KVScheme.INT8_STATIC else None
    return Stored.of(rows.astype(np.float32), scheme, static)


def scores(q: np.ndarray, k: Stored, head: int) -> Callable[[int], np.float32]:
    if k.scales is None and k.static is None:
        return lambda t: f32(arithmetic.sum16(q * k.values[t, head]) * SCALE)
    scales, zero = k.scales, 0 if k.static is None else k.static.zero
    q8, qs = arithmetic.quantize(q)

    def score(t: int) -> np.float32:
        acc = int(q8.astype(int) @ (k.values[t, head].astype(int) - zero))
        step = f32(k.static.scale) if scales is None else scales[t, head]
        return f32(f32(acc) * f32(f32(qs * SCALE) * step))

    return score


def one_row(q: np.ndarray, k: Stored, v: Stored, head: int, at: int, window: int) -> np.ndarray:
    low = max(0, at - window + 1) if window else 0
    score = scores(q, k, head)
    s = {t: score(t) for t in range(low, at + 1)}
    m = max(s.values())
    e = {t: arithmetic.exp(np.array([f32(s[t] - m)]))[0] for t in s}
    inverse = f32(f32(1) / lanes(e))
    o = np.zeros(v.values.shape[2], np.float32)
    zero = f32(0 if v.static is None else v.static.zero)
    for t in s:
        w = e[t] if v.scales is None else f32(e[t] * v.scales[t, head])
        o = o + w * (v.values[t, head].astype(np.float32) - zero)
    return o * inverse if v.static is None else o * inverse * f32(v.static.scale)


@pytest.mark.parametrize("scheme", list(KVScheme))
@pytest.mark.parametrize("window", [0, 1, 5, 18])
@pytest.mark.parametrize("block", [None, 1])
def test_attention_is_the_definition(
    scheme: KVScheme, window: int, block: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if block is not None:
        monkeypatch.setattr(evaluate_attention, "BLOCK_ELEMENTS", block)
    rng = np.random.default_rng(window)
    rows, position, heads, kv_heads, dim = 6, 21, 6, 2, 20
    k, v = (
        written(rng.standard_normal((position + rows, kv_heads, dim)), scheme, zero)
        for zero in (-30, 90)
    )
    q = (rng.standard_normal((rows, heads, dim)) * 2).astype(np.float32)
    got = attend(q, k, v, position, float(SCALE), window)
    assert got.dtype == np.float32
    for row in range(rows):
        for head in range(heads):
            expected = one_row(q[row, head], k, v, head // 3, position + row, window)
            np.testing.assert_array_equal(got[row, head], expected)


@pytest.mark.parametrize("scheme", list(KVScheme))
def test_attention_is_near_the_softmax(scheme: KVScheme) -> None:
    rng = np.random.default_rng(1)
    k, v = (written(rng.standard_normal((9, 2, 8)), scheme, zero) for zero in (7, -120))
    q = rng.standard_normal((1, 4, 8)).astype(np.float32)
    rounded = q
    if scheme in (KVScheme.INT8, KVScheme.INT8_STATIC):
        rounded = arithmetic.dequantise(*arithmetic.quantize(q))
    keys, values = (np.repeat(s.dequantised().astype(np.float64), 2, axis=1) for s in (k, v))
    s = np.einsum("thd,phd->thp", rounded.astype(np.float64), keys) * float(SCALE)
    p = np.exp(s - s.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    exact = np.einsum("thp,phd->thd", p, values)
    size = np.einsum("thd,phd->thp", np.abs(rounded), np.abs(keys)).max() * float(SCALE)
    bound = 2.0**-24 * (2 * (8 + 4) * size + 2 * 9 + 20) * np.abs(values).max()
    assert np.abs(attend(q, k, v, 8, float(SCALE), 0) - exact).max() <= bound


def test_what_later_rows_wrote_is_never_read() -> None:
    rng = np.random.default_rng(2)
    k, v = (
        Stored.of(rng.standard_normal((8, 1, 4)).astype(np.float32), KVScheme.F32) for _ in "kv"
    )
    q = rng.standard_normal((3, 2, 4)).astype(np.float32)
    alone = attend(q[:1], k.keep(6), v.keep(6), 5, 0.5, 0)
    k.values[6:], v.values[6:] = np.inf, np.nan
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(attend(q, k, v, 5, 0.5, 0)[:1], alone)
