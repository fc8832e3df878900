"""Attention of every scheme and ISA equals numpy; no row depends on its neighbours, the chunk or the threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from support.caches import Cache, Layer, kernel_for
from support.kernels import need

from hearth.compiler.ir.types import Static
from hearth.schemas.commands import KVKind, KVScheme

THREADS = (1, 2, 3, 4, 5)
ISAS = ("portable", "avx2", "avx512vnni")
SEES_ALL = {  # likewise, every row seeing every position
    "one_row": (2, 2, 32, 0, 0, 0, 1),
    "encoder": (12, 12, 32, 0, 0, 0, 23),
    "odd_head": (3, 1, 6, 0, 0, 0, 17),
    "whole_tiles": (6, 1, 64, 0, 0, 0, 16),
    "rotated": (4, 2, 48, 0, 48, 0, 35),
    "blocks_of_keys": (2, 2, 64, 0, 0, 0, 150),
    "after_others": (4, 2, 32, 0, 16, 13, 9),
    "many_tiles": (3, 3, 20, 0, 0, 0, 140),
}
CASES = {  # heads, kv_heads, D, window, rotary, position, rows
    "first_token": (2, 2, 8, 0, 8, 0, 1),
    "one_row": (6, 1, 32, 0, 32, 37, 1),
    "odd_head": (2, 1, 6, 0, 6, 5, 9),
    "mha": (3, 3, 32, 0, 32, 0, 21),
    "ratio_2": (4, 2, 48, 0, 48, 15, 18),
    "ratio_6": (12, 2, 128, 0, 128, 3, 7),
    "ratio_7": (14, 2, 64, 0, 64, 0, 13),
    "mqa": (5, 1, 64, 0, 32, 30, 4),
    "no_tables": (4, 2, 32, 0, 0, 11, 6),
    "window_1": (2, 2, 16, 1, 16, 0, 9),
    "window_5": (4, 2, 32, 5, 32, 14, 19),
    "window_5_mha": (2, 2, 80, 5, 80, 3, 30),
    "window_beyond": (2, 1, 32, 64, 32, 0, 20),
    "blocks_of_keys": (6, 1, 128, 0, 0, 60, 75),
    "blocks_and_window": (2, 1, 32, 70, 0, 90, 61),
    "window_17_many": (7, 1, 24, 17, 24, 40, 25),
    "window_beyond_a_block": (6, 2, 48, 90, 0, 130, 60),
    "window_of_a_block": (3, 3, 16, 64, 0, 40, 100),
    "decode_ratio_7": (14, 2, 64, 0, 64, 200, 1),
    "decode_ratio_9": (9, 1, 96, 0, 0, 63, 1),
    "decode_mha": (5, 5, 64, 0, 0, 128, 1),
    "two_rows_across_blocks": (4, 1, 16, 0, 0, 63, 2),
    "tiles_across_blocks": (7, 1, 40, 0, 40, 50, 41),
    "many_rows_mha": (2, 2, 32, 0, 0, 100, 70),
    "narrower_tiles": (5, 1, 8, 0, 0, 8600, 7),
}


@pytest.mark.parametrize("case", SEES_ALL)
@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_without_a_mask_equals_numpy(isa: str, scheme: KVScheme, case: str) -> None:
    need(kernel_for("attention", scheme, isa))
    heads, kv_heads, dim, window, rotary, position, rows = SEES_ALL[case]
    layer = Layer(scheme, heads, kv_heads, dim, position + rows + 3, window, rotary, causal=False)
    cache = _filled(layer, isa, position + rows)
    q = _queries(layer, rows)
    expected = cache.expected(q, position, 0.3)
    for threads in THREADS:
        np.testing.assert_array_equal(cache.attention(q, position, 0.3, threads), expected)


CAPPED = ("first_token", "odd_head", "window_5", "mqa", "blocks_and_window", "decode_ratio_7")


@pytest.mark.parametrize("case", CAPPED)
@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_capped_scores_equal_numpy(isa: str, scheme: KVScheme, case: str) -> None:
    need(kernel_for("attention_capped", scheme, isa))
    *_, position, rows = CASES[case]
    plain = _layer(case, scheme)
    layer = replace(plain, cap=1.25)
    cache = _filled(layer, isa, position + rows)
    q = _queries(layer, rows)
    expected = cache.expected(q, position, 0.9)
    for threads in THREADS:
        np.testing.assert_array_equal(cache.attention(q, position, 0.9, threads), expected)
    cache.layer = plain
    if position + rows > 1:
        assert (cache.attention(q, position, 0.9) != expected).any()


@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_the_last_row_sees_the_same_with_and_without_a_mask(isa: str, scheme: KVScheme) -> None:
    need(kernel_for("attention", scheme, isa))
    causal = Layer(scheme, 4, 2, 32, 24)
    cache = _filled(causal, isa, 20)
    q = _queries(causal, 20)
    masked = cache.attention(q, 0, 0.2)
    cache.layer = replace(causal, causal=False)
    whole = cache.attention(q, 0, 0.2)
    np.testing.assert_array_equal(whole[-1], masked[-1])
    assert (whole[0] != masked[0]).any()


def test_a_window_without_a_mask_is_refused() -> None:
    layer = Layer(KVScheme.F32, 2, 1, 16, 16, window=5, causal=False)
    cache = _filled(layer, "portable", 8)
    with pytest.raises(ValueError, match="a window needs causal attention"):
        cache.attention(_queries(layer, 8), 0, 0.2)


def _layer(case: str, scheme: KVScheme, spare: int = 3) -> Layer:
    heads, kv_heads, dim, window, rotary, position, rows = CASES[case]
    return Layer(scheme, heads, kv_heads, dim, position + rows + spare, window, rotary)


def _filled(layer: Layer, isa: str, length: int) -> Cache:
    rng = np.random.default_rng(layer.dim)
    cache = Cache(layer, isa)
    for kind in KVKind:
        x = rng.standard_normal((length, layer.kv_heads, layer.dim)).astype(np.float32)
        x[::3] *= np.float32(2)
        cache.write(kind, x, 0)
    return cache


def _queries(layer: Layer, rows: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, layer.heads, layer.dim)).astype(np.float32)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_equals_numpy(isa: str, scheme: KVScheme, case: str) -> None:
    need(kernel_for("attention", scheme, isa))
    position, rows = CASES[case][5:]
    layer = _layer(case, scheme)
    cache = _filled(layer, isa, position + rows)
    q = _queries(layer, rows)
    scale = layer.dim**-0.5
    expected = cache.expected(q, position, scale)
    for threads in THREADS:
        np.testing.assert_array_equal(cache.attention(q, position, scale, threads), expected)


@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_chunks_and_threads_change_nothing(isa: str, scheme: KVScheme) -> None:
    need(kernel_for("attention", scheme, isa))
    layer = Layer(scheme, 7, 1, 32, 64, 0, 32)
    rng = np.random.default_rng(0)
    k, v = (rng.standard_normal((61, 1, 32)).astype(np.float32) for _ in range(2))
    q = _queries(layer, 61)
    results = []
    for chunk, threads in ((61, 1), (1, 1), (1, 3), (7, 2), (16, 3), (40, 5)):
        cache = Cache(layer, isa)
        pieces = []
        for start in range(0, 61, chunk):
            part = slice(start, start + chunk)
            cache.write(KVKind.K, k[part], start, threads)
            cache.write(KVKind.V, v[part], start, threads)
            pieces.append(cache.attention(q[part], start, 0.2, threads))
        results.append(np.concatenate(pieces))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_later_positions_are_not_seen(isa: str, scheme: KVScheme) -> None:
    """Infinite values later in the cache (left by a rewind) change no bit of an earlier row."""
    need(kernel_for("attention", scheme, isa))
    layer = Layer(scheme, 6, 1, 32, 32, 0, 0)
    cache = _filled(layer, isa, 20)
    q = _queries(layer, 9)
    before = cache.attention(q, 11, 0.2)
    poison = np.full((12, 1, 32), 1e30 if scheme is KVScheme.INT8 else np.inf, np.float32)
    for kind in KVKind:
        cache.write(kind, poison, 17)
    after = cache.attention(q, 11, 0.2, 2)
    np.testing.assert_array_equal(after[:6], before[:6])


@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_extreme_codes(isa: str, scheme: KVScheme) -> None:
    """Every code at its largest magnitude, signs alike and mixed: integer dots must not saturate."""
    need(kernel_for("attention", scheme, isa))
    ends = Static(float(np.float32(1 / 127)), 127), Static(float(np.float32(1 / 127)), -127)
    layer = Layer(scheme, 4, 1, 128, 48, 0, 0, codes=ends)
    rng = np.random.default_rng(5)
    sign = np.where(rng.random((40, 1, 128)) < 0.5, 1, -1).astype(np.float32)
    sign[:10] = 1
    sign[10:20] = -1
    cache = Cache(layer, isa)
    cache.write(KVKind.K, sign, 0)
    cache.write(KVKind.V, sign, 0)
    q = np.ones((3, 4, 128), np.float32)
    q[1] = -1
    q[2, :, ::2] = -1
    np.testing.assert_array_equal(cache.attention(q, 37, 0.1), cache.expected(q, 37, 0.1))


@pytest.mark.parametrize("isa", ISAS)
def test_zero_queries_and_keys(isa: str) -> None:
    need(kernel_for("attention", KVScheme.INT8, isa))
    layer = Layer(KVScheme.INT8, 2, 1, 16, 16)
    cache = Cache(layer, isa)
    for kind in KVKind:
        cache.write(kind, np.zeros((5, 1, 16), np.float32), 0)
    q = np.zeros((5, 2, 16), np.float32)
    np.testing.assert_array_equal(cache.attention(q, 0, 0.25), q)
