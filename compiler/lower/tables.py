"""The layouts of weights whose codes stand for the levels of a table: t2b16 to t6b16 (docs/layouts.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32, AnySource, QuantisedRows, QuantisedSource
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
)

UNIT = 32  # values of K that a line of every plane holds: 8 quads
WIDTHS = (4, 2, 1)  # of planes, in their order
EVERY_BYTE = 0x01010101


def _tabled(source: AnySource, bits: int) -> QuantisedSource:
    if not isinstance(source, QuantisedSource) or not source.tabled or source.bits != bits:
        raise TypeError(f"a layout of {bits}-bit tables was asked to pack another weight")
    return source


@dataclass(frozen=True)
class TableBlocks:
    """s8 table[64]; blocks: per 4 groups s8 m[4][16], then per 32 values of K `bits` lines of planes; bf16 scales."""

    bits: int

    def sizes(self, k: int, group: int) -> tuple[int, int, int]:
        """Units of 32 values of K, groups, bytes of a block."""
        units, groups = -(-k // UNIT), -(-k // group)
        return units, groups, groups * CHANNELS + units * self.bits * ALIGN

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int:
        return ALIGN + block_count(n, paired) * (self.sizes(k, group)[2] + 2 * CHANNELS)

    def places(self, k: int, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where in a block, counted in 16 bytes, each group's multipliers and each unit's lines begin."""
        (units, groups, _), lines = self.sizes(k, group), 4 * self.bits
        unit, each = np.arange(units), np.arange(groups)
        before = np.minimum((unit * UNIT // (4 * group) + 1) * 4, groups)
        return each + each // 4 * (4 * group // UNIT) * lines, before + unit * lines

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]:
        weight = _tabled(source, self.bits)
        n, k = weight.shape
        yield self._table(weight)
        scales: list[F32] = []
        for ranges in batches(n, k, paired):
            parts = [weight.quantised(start, stop) for start, stop in ranges]
            scales.append(interleave([part.scale for part in parts]))
            yield self._blocks(parts, weight.group)
        yield _bf16(np.concatenate(scales).astype(np.float32))

    def _table(self, weight: QuantisedSource) -> Bytes:
        levels = weight.quantised(0, 1).table
        if levels is None or levels.shape != (1 << self.bits,):
            raise TypeError(f"a weight of {self.bits}-bit codes has another table")
        out = np.zeros(ALIGN, np.int8)
        out[: levels.size] = levels
        return out.view(np.uint8)

    def _blocks(self, parts: list[QuantisedRows], group: int) -> Bytes:
        codes = interleave([part.codes for part in parts])  # [B, 16, K]
        multipliers = interleave([multipliers_of(part) for part in parts])  # [B, 16, groups]
        blocks, _, k = codes.shape
        (units, _, nbytes), (tops, lines) = self.sizes(k, group), self.places(k, group)
        out = np.empty((blocks, nbytes // CHANNELS, CHANNELS), np.uint8)
        out[:, tops] = multipliers.transpose(0, 2, 1).view(np.uint8)
        words = fours(codes, units * UNIT).reshape(blocks, CHANNELS, units, 8)
        planes = flat(self._planes(words)).reshape(blocks, units, 4 * self.bits, CHANNELS)
        out[:, lines[:, None] + np.arange(4 * self.bits)] = planes
        return out.reshape(-1)

    def _planes(self, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """[B, 16, units, 8 quads] of codes -> [B, units, bits, 16]: lines of a byte per channel and j."""
        blocks, _, units, _ = words.shape
        out = np.zeros((blocks, units, self.bits, CHANNELS), np.uint32)
        low = 0
        for width in (width for width in WIDTHS if self.bits & width):
            mask, quads = np.uint32(EVERY_BYTE * ((1 << width) - 1)), 8 // width
            for quad in range(8):
                part = words[..., quad] >> np.uint32(low) & mask
                line = out[:, :, low + quad // quads]
                line |= (part << np.uint32(quad % quads * width)).transpose(0, 2, 1)
            low += width
        return out


def _bf16(values: F32) -> Bytes:
    """The upper halves of f32 values that are bf16."""
    bits = values.view(np.uint32)
    if (bits & np.uint32(0xFFFF)).any():
        raise ValueError("a layout of tables was asked to pack scales that are not bf16")
    return flat((bits >> np.uint32(16)).astype(np.uint16))
