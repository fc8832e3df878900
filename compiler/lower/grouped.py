"""The layouts of weights with a float scale and a zero point per group: g4b16 and g8b16 (docs/layouts.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import AnySource, GroupedRows, GroupedSource
from hearth.compiler.lower.blocks import (
    ALIGN,
    CHANNELS,
    Bytes,
    batches,
    block_count,
    flat,
    fours,
    interleave,
    round_up,
)

HEAD = 5  # lines of 64 bytes before the codes of four groups: 4 of scales, 1 of zero points


def _grouped(source: AnySource, bits: int) -> GroupedSource:
    if not isinstance(source, GroupedSource) or source.bits != bits:
        raise TypeError(f"a grouped {bits}-bit layout was asked to pack another weight")
    return source


@dataclass(frozen=True)
class GroupedBlocks:
    """g4b16, g8b16: per 4 groups f32 scale[4][16] and u8 zero[4][16], then the codes of these groups, as u8
    [Kp/8][16][4] of nibbles (K = 8p + j low, 8p + 4 + j high) or u8[Kp/4][16][4].
    """

    bits: int

    def sizes(self, k: int, group: int) -> tuple[int, int, int]:
        """Padded K, quadruples of groups, bytes of a block."""
        columns = round_up(k, CHANNELS)
        heads = -(-k // (4 * group))
        return columns, heads, heads * HEAD * ALIGN + columns * CHANNELS * self.bits // 8

    def nbytes(self, n: int, k: int, group: int = 0, paired: bool = False) -> int:
        return block_count(n, paired) * self.sizes(k, group)[2]

    def lines(self, k: int, group: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where a block's 64-byte lines of scales and zeros ([heads, 5]) and of codes lie."""
        columns, heads, _ = self.sizes(k, group)
        per_line = 32 // self.bits  # K-values of 16 channels in 64 bytes
        codes = np.arange(columns // per_line)
        quads = codes * per_line // (4 * group)
        before = np.arange(heads) * (4 * group // per_line)
        return (before + np.arange(heads) * HEAD)[:, None] + np.arange(HEAD), codes + (
            quads + 1
        ) * HEAD

    def chunks(self, source: AnySource, paired: bool = False) -> Iterator[Bytes]:
        weight = _grouped(source, self.bits)
        n, k = weight.shape
        for ranges in batches(n, k, paired):
            parts = [weight.grouped(start, stop) for start, stop in ranges]
            yield self._blocks(parts, weight.group)

    def _blocks(self, parts: list[GroupedRows], group: int) -> Bytes:
        codes = interleave([part.codes for part in parts])  # [B, 16, K]
        scales = interleave([part.scales for part in parts])  # [B, 16, groups]
        zeros = interleave([part.zeros for part in parts])
        blocks, _, k = codes.shape
        (columns, heads, nbytes), (tops, lines) = self.sizes(k, group), self.lines(k, group)
        out = np.empty((blocks, nbytes // ALIGN, ALIGN), np.uint8)
        table = np.zeros((blocks, heads * 4, CHANNELS), np.float32)
        table[:, : scales.shape[2]] = scales.transpose(0, 2, 1)
        out[:, tops[:, :4]] = table.view(np.uint8).reshape(blocks, heads, 4, ALIGN)
        points = np.zeros((blocks, heads * 4, CHANNELS), np.uint8)
        points[:, : zeros.shape[2]] = zeros.transpose(0, 2, 1)
        out[:, tops[:, 4]] = points.reshape(blocks, heads, ALIGN)
        words = fours(codes.view(np.int8), columns)  # [B, 16, Kp / 4]
        if self.bits == 4:
            pairs = words.reshape(blocks, CHANNELS, columns // 8, 2)
            words = pairs[..., 0] | pairs[..., 1] << np.uint32(4)
        out[:, lines] = flat(words.transpose(0, 2, 1)).reshape(blocks, lines.size, ALIGN)
        return out.reshape(-1)
