"""kv_write of every scheme and ISA stores what the schemes define, where the layouts say, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from support.caches import STALE, Cache, Layer, kernel_for
from support.kernels import THREADS, need

from hearth.compiler.ir.state import Stored
from hearth.compiler.ir.types import Static
from hearth.schemas.commands import KVKind, KVScheme

ISAS = ("portable", "avx2", "avx512vnni")
SHAPES = {  # Hkv, D, rotary, context
    "small_head": (1, 8, 8, 33),
    "odd_head": (2, 6, 6, 20),
    "two_heads": (2, 48, 48, 40),
    "partly_rotated": (3, 64, 32, 17),
    "whole_head": (2, 128, 128, 35),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KVKind, ids=lambda kind: kind.name)
@pytest.mark.parametrize("scheme", KVScheme, ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("isa", ISAS)
def test_write(isa: str, scheme: KVScheme, kind: KVKind, shape: str) -> None:
    need(kernel_for("kv_write", scheme, isa))
    kv_heads, dim, rotary, context = SHAPES[shape]
    layer = Layer(scheme, kv_heads, kv_heads, dim, context, rotary=rotary)
    x = np.random.default_rng(dim).standard_normal((context - 3, kv_heads, dim)) * 3
    x = x.astype(np.float32)
    rows = layer.rotated(x, 2) if kind is KVKind.K else x
    expected = Stored.of(rows, scheme, layer.static(kind))
    for threads in THREADS:
        cache = Cache(layer, isa)
        cache.write(kind, x[:5], 2, threads)
        cache.write(kind, x[5:], 7, threads)
        found = cache.stored(kind, context)
        np.testing.assert_array_equal(found.values[2:-1], expected.values)
        stale = np.full((), STALE, np.uint8)
        outside = np.ascontiguousarray(np.delete(found.values, slice(2, -1), axis=0))
        if scheme is KVScheme.INT8_STATIC:
            assert found.scales is None
            assert (outside.view(np.uint8) == stale).all()
        elif scheme is KVScheme.INT8:
            assert expected.scales is not None
            assert found.scales is not None
            np.testing.assert_array_equal(found.scales[2:-1], expected.scales)
            assert np.isnan(found.scales[[0, 1, -1]]).all()
            assert (outside.view(np.uint8) == stale).all()
        else:
            untouched = Cache(layer, isa).stored(kind, 3).values
            np.testing.assert_array_equal(outside, untouched)


@pytest.mark.parametrize("kind", KVKind, ids=lambda kind: kind.name)
@pytest.mark.parametrize("zero", [-127, -1, 0, 127])
@pytest.mark.parametrize("isa", ISAS)
def test_static_codes_of_special_values(isa: str, zero: int, kind: KVKind) -> None:
    """Ties, both ends and beyond, infinities, NaNs, subnormals."""
    need(kernel_for("kv_write", KVScheme.INT8_STATIC, isa))
    steps = np.arange(-300, 300, 0.5, np.float32)
    broken = np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-44, -0.0, 0.0], np.float32)
    x = np.concatenate([steps, steps * np.float32(1.0000001), broken])
    x = np.pad(x, (0, -len(x) % 20)).reshape(-1, 1, 20)
    for scale in (1.0, float(np.float32(1 / 3)), 2.0**-100, 2.0**125):
        static = Static(scale, zero)
        layer = Layer(KVScheme.INT8_STATIC, 1, 1, 20, len(x), codes=(static, static))
        cache = Cache(layer, isa)
        cache.write(kind, x, 0)
        expected = Stored.of(x, KVScheme.INT8_STATIC, static)
        np.testing.assert_array_equal(cache.stored(kind, len(x)).values, expected.values)
    assert expected.values.min() >= -127


@pytest.mark.parametrize("isa", ISAS)
def test_static_codes_take_no_scales(isa: str) -> None:
    need(kernel_for("kv_write", KVScheme.INT8_STATIC, isa))
    cache = Cache(Layer(KVScheme.INT8_STATIC, 1, 1, 8, 16), isa)
    cache.scales[KVKind.K] = np.zeros(64, np.uint8)
    with pytest.raises(ValueError, match="a static cache has no scales"):
        cache.write(KVKind.K, np.zeros((1, 1, 8), np.float32), 0)


@pytest.mark.parametrize("isa", ISAS)
def test_halves_round_to_nearest_even(isa: str) -> None:
    """Every half, what lies midway between neighbours and beside it, subnormals, what overflows."""
    need(kernel_for("kv_write", KVScheme.F16, isa))
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    midway = (halves[:-1] + halves[1:]) / 2
    beside = np.concatenate([np.nextafter(midway, np.float32(s * np.inf)) for s in (1, -1)])
    edge = np.array([65504, 65519.996, 65520, 65536, 1e30, np.inf, 1e-45, 2.0**-25], np.float32)
    random = np.random.default_rng(0).integers(0, 0x7F800000, 20_000, np.uint32).view(np.float32)
    x = np.concatenate([halves, midway, beside, edge, random])
    x = np.concatenate([x, -x])
    x = np.pad(x, (0, -len(x) % 128))[None].reshape(-1, 1, 128)
    cache = Cache(Layer(KVScheme.F16, 1, 1, 128, len(x)), isa)
    cache.write(KVKind.V, x, 0)
    with np.errstate(over="ignore"):
        expected = x.astype(np.float16)
    np.testing.assert_array_equal(
        cache.codes[KVKind.V].view(np.uint16), expected.view(np.uint16).ravel()
    )
    nan = np.full((1, 1, 128), np.nan, np.float32)
    cache.write(KVKind.V, nan, 0)
    assert np.isnan(cache.codes[KVKind.V].view(np.float16)[:128]).all()
