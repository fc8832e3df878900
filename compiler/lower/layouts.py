"""The packed weight layouts of docs/layouts.md: sizes, and `chunks`, which packs in bounded memory.

The kernels read these bytes, and runtime/archive/rows.py for whoever looks into an archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import (
    F32,
    AnySource,
    GroupedSource,
    QuantisedRows,
    QuantisedSource,
    Source,
)
from hearth.compiler.lower.blocks import (
    ALIGN,
    CHANNELS,
    Bytes,
    batches,
    block_count,
    flat,
    fours,
    interleave,
    multipliers_of,
    round_up,
)
from hearth.compiler.lower.grouped import GroupedBlocks
from hearth.compiler.lower.tables import TableBlocks
from hearth.schemas.commands import Layout


class PackedLayout(Protocol):
    """`nbytes` is what the chunks add up to; runtime/archive/rows.py is the inverse."""

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int: ...

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]: ...


def _floats(source: AnySource) -> Source:
    if isinstance(source, QuantisedSource | GroupedSource):
        raise TypeError("a float layout was asked to pack a quantised weight")
    return source


def _quantised(source: AnySource, bits: int) -> QuantisedSource:
    if not isinstance(source, QuantisedSource) or source.tabled or source.bits != bits:
        raise TypeError(f"an int{bits} layout was asked to pack another weight")
    return source


@dataclass(frozen=True)
class FloatBlocks:
    """f32b16, f16b16: float[K][16] per block of 16 channels."""

    dtype: type[np.float32] | type[np.float16]

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int:
        return block_count(n, paired) * CHANNELS * k * np.dtype(self.dtype).itemsize

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]:
        weight = _floats(source)
        n, k = weight.shape
        for ranges in batches(n, k, paired):
            yield self._blocks(interleave([weight.rows(start, stop) for start, stop in ranges]))

    def _blocks(self, rows: F32) -> Bytes:
        """[B, 16, K] -> the bytes of [B, K, 16]."""
        stored = rows.astype(self.dtype, copy=False)
        if self.dtype is np.float16 and not np.array_equal(stored.astype(np.float32), rows):
            raise ValueError("an f16 layout was asked to pack values that are not f16")
        return flat(stored.transpose(0, 2, 1))


@dataclass(frozen=True)
class Int8Blocks:
    """q8b16: s8[Kp/4][16][4] per block, then f32 scale per channel."""

    def columns(self, k: int) -> int:
        return round_up(k, 64)

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int:
        return block_count(n, paired) * CHANNELS * (self.columns(k) + 4)

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]:
        weight = _quantised(source, 8)
        n, k = weight.shape
        scales: list[F32] = []
        for ranges in batches(n, k, paired):
            parts = [weight.quantised(start, stop) for start, stop in ranges]
            scales.append(interleave([part.scale for part in parts]))
            yield self._blocks(parts)
        yield flat(np.concatenate(scales).astype(np.float32))

    def _blocks(self, parts: list[QuantisedRows]) -> Bytes:
        codes = interleave([part.codes for part in parts])  # [B, 16, K]
        return flat(fours(codes, self.columns(codes.shape[2])).transpose(0, 2, 1))


@dataclass(frozen=True)
class Int4Blocks:
    """q4b16: per 4 groups s8 m[4][16], then their u8[group/2][16][4] of nibbles; then f32 scale per channel."""

    def columns(self, k: int, group: int) -> int:
        return round_up(k, max(64, group))

    def head(self, k: int, group: int) -> int:
        """Bytes of a block's multipliers."""
        return round_up(self.columns(k, group) // group * CHANNELS, ALIGN)

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int:
        block = self.head(k, group) + self.columns(k, group) // 2 * CHANNELS
        return block_count(n, paired) * (block + 4 * CHANNELS)

    def lines(self, k: int, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a block's 64-byte lines of multipliers and of codes lie: one, then the codes of its four groups."""
        codes = np.arange(self.columns(k, group) // 8)
        heads = np.arange(self.head(k, group) // ALIGN)
        return heads * (1 + group // 2), codes + codes // (group // 2) + 1

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]:
        weight = _quantised(source, 4)
        n, k = weight.shape
        scales: list[F32] = []
        for ranges in batches(n, k, paired):
            parts = [weight.quantised(start, stop) for start, stop in ranges]
            scales.append(interleave([part.scale for part in parts]))
            yield self._blocks(parts, weight.group)
        yield flat(np.concatenate(scales).astype(np.float32))

    def _blocks(self, parts: list[QuantisedRows], group: int) -> Bytes:
        codes = interleave([part.codes for part in parts])  # [B, 16, K]
        multipliers = interleave([multipliers_of(part) for part in parts])  # [B, 16, groups]
        blocks, _, k = codes.shape
        columns, (heads, lines) = self.columns(k, group), self.lines(k, group)
        out = np.empty((blocks, heads.size + lines.size, ALIGN), np.uint8)
        table = np.zeros((blocks, heads.size * 4, CHANNELS), np.int8)
        table[:, : multipliers.shape[2]] = multipliers.transpose(0, 2, 1)
        out[:, heads] = table.view(np.uint8).reshape(blocks, heads.size, ALIGN)
        words = fours(codes, columns).reshape(blocks, CHANNELS, columns // 8, 2)
        low, high = words[..., 0] & 0x0F0F0F0F, words[..., 1] & 0x0F0F0F0F
        nibbles = (low | (high << 4)) ^ 0x88888888  # two's complement nibble + 8 flips its top bit
        out[:, lines] = flat(nibbles.transpose(0, 2, 1)).reshape(blocks, lines.size, ALIGN)
        return out.reshape(-1)


LAYOUTS: dict[Layout, PackedLayout] = {
    Layout.F32B16: FloatBlocks(np.float32),
    Layout.F16B16: FloatBlocks(np.float16),
    Layout.Q8B16: Int8Blocks(),
    Layout.Q4B16: Int4Blocks(),
    Layout.G4B16: GroupedBlocks(4),
    Layout.G8B16: GroupedBlocks(8),
    **{layout: TableBlocks(layout.table_bits) for layout in Layout if layout.table_bits},
}
