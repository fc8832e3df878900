"""The parts of a KV region that some positions take, and their copies in a row (docs/layouts.md)."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.codec import dumps
from hearth.schemas.commands import KVScheme
from hearth.schemas.kv_layout import KVHalf, KVLayer, KVLayout, Span

Bytes = NDArray[np.uint8]

PACKING = "strips 1"  # what pack makes of a cache
BLOCK = 16  # positions of a block of int8 keys
MAPPED_NBYTES = 64 << 10  # copies from this size on
HUGE_NBYTES = 4 << 20  # of huge pages, which take fewer faults
FLOAT_NBYTES = {KVScheme.F32: 4, KVScheme.F16: 2}


@dataclass(frozen=True)
class Strip:
    """u8[heads, units, nbytes] at `offset` of a region; a unit holds the bytes of 1 or of 16 positions."""

    offset: int
    heads: int
    units: int
    nbytes: int
    positions: int = 1

    def part(self, start: int, end: int) -> range:
        """The units that hold positions start..end - 1."""
        return range(start // self.positions, -(-end // self.positions))

    @property
    def total_nbytes(self) -> int:
        return self.heads * self.units * self.nbytes

    def of(self, region: Bytes) -> Bytes:
        """A view u8[heads, units, nbytes]."""
        part = region[self.offset : self.offset + self.total_nbytes]
        return part.reshape(self.heads, self.units, self.nbytes)


@lru_cache(maxsize=8)
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


def layout_hash(layout: KVLayout) -> str:
    """What names the form of packed copies: equal ones can be read by this version, and by this archive."""
    return hashlib.sha256(PACKING.encode() + dumps(layout)).hexdigest()


def packed_nbytes(layout: KVLayout, start: int, end: int) -> int:
    """Bytes of the positions start..end - 1, strip after strip."""
    return sum(_nbytes(strip, start, end) for strip in strips(layout))


def pack(layout: KVLayout, region: Bytes, start: int, end: int) -> Bytes:
    """A copy of positions start..end - 1, strip after strip, in whole units.

    So the first block of keys may hold positions before `start`, too; beyond `end` it has zeros.
    """
    packed = _room(packed_nbytes(layout, start, end))
    _copy(strips(layout), region, start, end, packed)
    return packed


def pack_pieces(
    layout: KVLayout, region: Bytes, start: int, end: int, least: int
) -> Iterator[Bytes]:
    """The same bytes in pieces of at least so many, the last one aside, none of which is longer by a strip."""
    group: list[Strip] = []
    nbytes = 0
    for strip in strips(layout):
        group.append(strip)
        nbytes += _nbytes(strip, start, end)
        if nbytes >= least or strip is strips(layout)[-1]:
            packed = np.empty(nbytes, np.uint8)
            _copy(group, region, start, end, packed)
            yield packed
            group, nbytes = [], 0


def unpack(layout: KVLayout, packed: Bytes, held: range, end: int, region: Bytes) -> None:
    """Put the positions before `end` of a packed copy of those `held` where they belong."""
    for strip, part in _parts(strips(layout), packed, held.start, held.stop):
        units = strip.part(held.start, end)
        strip.of(region)[:, units.start : units.stop] = part[:, : len(units)]


def _copy(some: Sequence[Strip], region: Bytes, start: int, end: int, packed: Bytes) -> None:
    for strip, part in _parts(some, packed, start, end):
        units = strip.part(start, end)
        part[:] = strip.of(region)[:, units.start : units.stop]
        _clear_beyond(strip, part, end)


def _room(nbytes: int) -> Bytes:
    """A mapping of its own: copies live long and are of many sizes, so that heaps would keep holes of them.

    Not for small ones: a process has 65,530 mappings.
    """
    if nbytes < MAPPED_NBYTES:
        return np.empty(nbytes, np.uint8)
    try:
        room = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        raise MemoryError from None
    if nbytes >= HUGE_NBYTES and hasattr(mmap, "MADV_HUGEPAGE"):
        room.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(room, np.uint8)


def _parts(
    some: Sequence[Strip], packed: Bytes, start: int, end: int
) -> Iterator[tuple[Strip, Bytes]]:
    """Each strip of a region, and u8[heads, units, nbytes] of it in a packed copy of them."""
    at = 0
    for strip in some:
        stop = at + _nbytes(strip, start, end)
        yield strip, packed[at:stop].reshape(strip.heads, -1, strip.nbytes)
        at = stop


def _nbytes(strip: Strip, start: int, end: int) -> int:
    return strip.heads * len(strip.part(start, end)) * strip.nbytes


def _clear_beyond(strip: Strip, part: Bytes, end: int) -> None:
    """What was rewound: not read, and not to be in a file either."""
    used = end % strip.positions
    if used:
        last = part[:, -1].reshape(strip.heads, -1, strip.positions, 4)
        last[:, :, used:] = 0
