"""The parts of a KV region that the first n positions take, and their copies in a row (docs/layouts.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.commands import KVScheme
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span

Bytes = NDArray[np.uint8]

BLOCK = 16  # positions of a block of int8 keys
FLOAT_NBYTES = {KVScheme.F32: 4, KVScheme.F16: 2}


@dataclass(frozen=True)
class Strip:
    """u8[heads, units, nbytes] at `offset` of a region; a unit holds the bytes of 1 or of 16 positions."""

    offset: int
    heads: int
    units: int
    nbytes: int
    positions: int = 1

    def first(self, count: int) -> Strip:
        """The units of the first `count` positions, all that there are; not where they lie."""
        return Strip(0, self.heads, -(-count // self.positions), self.nbytes, self.positions)

    @property
    def total_nbytes(self) -> int:
        return self.heads * self.units * self.nbytes

    def of(self, region: Bytes) -> Bytes:
        """A view u8[heads, units, nbytes]."""
        part = region[self.offset : self.offset + self.total_nbytes]
        return part.reshape(self.heads, self.units, self.nbytes)


def strips(layout: KVLayout) -> tuple[Strip, ...]:
    """Layer by layer: K codes, K scales, V codes, V scales."""
    return tuple(strip for layer in layout.layers for strip in _layer(layer))


def _layer(layer: KVLayer) -> Iterator[Strip]:
    yield _keys(layer)
    yield from _scales(layer, layer.k)
    yield _plain(layer, layer.v.codes, layer.head_dim * FLOAT_NBYTES.get(layer.scheme, 1))
    yield from _scales(layer, layer.v)


def _keys(layer: KVLayer) -> Strip:
    """f32[Hkv][S][D], f16[Hkv][S][D], or s8[Hkv][Sp/16][Dp/4][16][4]."""
    width = FLOAT_NBYTES.get(layer.scheme)
    if width is not None:
        return _plain(layer, layer.k.codes, layer.head_dim * width)
    blocks, nbytes = -(-layer.context // BLOCK), -(-layer.head_dim // 4) * 4 * BLOCK
    return Strip(layer.k.codes.offset, layer.heads, blocks, nbytes, BLOCK)


def _plain(layer: KVLayer, span: Span, nbytes: int) -> Strip:
    return Strip(span.offset, layer.heads, layer.context, nbytes)


def _scales(layer: KVLayer, half: KVHalf) -> Iterator[Strip]:
    """f32[Hkv][Sp]"""
    if half.scales is not None:
        positions = -(-layer.context // BLOCK) * BLOCK
        yield Strip(half.scales.offset, layer.heads, positions, 4)


def packed_nbytes(layout: KVLayout, count: int) -> int:
    """Bytes of the first `count` positions, strip after strip."""
    return sum(strip.first(count).total_nbytes for strip in strips(layout))


def pack(layout: KVLayout, region: Bytes, count: int) -> Bytes:
    """A copy of the first `count` positions, strip after strip; what a block holds beyond them is zero."""
    packed = np.empty(packed_nbytes(layout, count), np.uint8)
    for strip, part in _parts(layout, packed, count):
        part[:] = strip.of(region)[:, : part.shape[1]]
        _clear_beyond(strip, part, count)
    return packed


def unpack(layout: KVLayout, packed: Bytes, count: int, held: int, region: Bytes) -> None:
    """Put the first `count` of the `held` positions of a packed copy where they belong."""
    for strip, part in _parts(layout, packed, held):
        units = strip.first(count).units
        strip.of(region)[:, :units] = part[:, :units]


def _parts(layout: KVLayout, packed: Bytes, count: int) -> Iterator[tuple[Strip, Bytes]]:
    """Each strip of a region, and u8[heads, units, nbytes] of it in a packed copy of `count` positions."""
    start = 0
    for strip in strips(layout):
        short = strip.first(count)
        end = start + short.total_nbytes
        yield strip, packed[start:end].reshape(short.heads, short.units, short.nbytes)
        start = end


def _clear_beyond(strip: Strip, part: Bytes, count: int) -> None:
    """What was rewound: not read, and not to be in a file either."""
    used = count % strip.positions
    if used:
        last = part[:, -1].reshape(strip.heads, -1, strip.positions, 4)
        last[:, :, used:] = 0
