"""Where every layer's keys, values and scales lie in the KV region (docs/layouts.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hearth.compiler.ir.types import CacheType
from hearth.compiler.lower.blocks import ALIGN, round_up
from hearth.schemas.commands import KVKind, KVScheme
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span

FLOAT_NBYTES = {KVScheme.F32: 4, KVScheme.F16: 2}


def codes_nbytes(cache: CacheType) -> int:
    """Bytes of one layer's K or V."""
    if cache.scheme in FLOAT_NBYTES:
        return cache.heads * cache.context * cache.head_dim * FLOAT_NBYTES[cache.scheme]
    if cache.kind is KVKind.K:
        return cache.heads * round_up(cache.context, 16) * round_up(cache.head_dim, 4)
    return cache.heads * cache.context * cache.head_dim


def scales_nbytes(cache: CacheType) -> int:
    """Bytes of its scales; 0 where the scheme has none."""
    return cache.heads * round_up(cache.context, 16) * 4 if cache.scheme is KVScheme.INT8 else 0


@dataclass
class _Region:
    nbytes: int = 0

    def take(self, nbytes: int) -> Span:
        span = Span(self.nbytes, nbytes)
        self.nbytes = round_up(self.nbytes + nbytes, ALIGN)
        return span

    def half(self, cache: CacheType) -> KVHalf:
        scales = scales_nbytes(cache)
        return KVHalf(self.take(codes_nbytes(cache)), self.take(scales) if scales else None)


def kv_layout(caches: Iterable[CacheType]) -> KVLayout:
    """All layers in order, each part on a 64-byte boundary."""
    found = {(cache.layer, cache.kind): cache for cache in caches}
    layers = sorted({layer for layer, _ in found})
    if layers != list(range(len(layers))) or len(found) != 2 * len(layers):
        raise ValueError(f"layers {layers} do not each have one K and one V")
    region = _Region()
    made = [_layer(found[layer, KVKind.K], found[layer, KVKind.V], region) for layer in layers]
    return KVLayout(tuple(made), region.nbytes)


def _layer(k: CacheType, v: CacheType, region: _Region) -> KVLayer:
    if (k.heads, k.head_dim, k.context, k.scheme) != (v.heads, v.head_dim, v.context, v.scheme):
        raise ValueError(f"{k} and {v} do not fit together")
    return KVLayer(region.half(k), region.half(v), k.heads, k.head_dim, k.context, k.scheme)


def half_of(layout: KVLayout, cache: CacheType) -> KVHalf:
    """The place of one layer's K or V."""
    layer = layout.layers[cache.layer]
    return layer.k if cache.kind is KVKind.K else layer.v
