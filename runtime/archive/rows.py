"""Rows of a packed weight, read back range by range in bounded memory (docs/layouts.md).

The inverse of the compiler's packing, for whoever looks into an archive; kernels read the packed bytes themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry

Bytes = NDArray[np.uint8]
F32 = NDArray[np.float32]
CHANNELS = 16
LINE = 64
HEAD = 5  # lines before the codes of four groups: 4 of scales, 1 of zero points
BATCH_NBYTES = 4 << 20  # of f32 rows read at once


@dataclass(frozen=True)
class StoredRows:
    """R rows as they are stored: codes or plain floats [R, K], and what a row or a group of K-values has beside them.

    `codes` i8, u8 or floats; `multipliers` i8[R, G]; `scales` f32[R] or f32[R, G]; `zeros` u8[R, G]; `table`
    i8[2^bits], whose levels the codes stand for; what a layout does not have is None. `group` K-values share a
    multiplier, scale and zero point (0: per row).
    """

    codes: NDArray[Any]
    multipliers: NDArray[np.int8] | None = None
    scales: F32 | None = None
    zeros: NDArray[np.uint8] | None = None
    group: int = 0
    table: NDArray[np.int8] | None = None

    def values(self) -> F32:
        """f32[R, K] that the codes stand for: an exact integer, times one scale."""
        if self.scales is None:
            return np.asarray(self.codes, np.float32)
        # 8-bit numbers: their differences and products fit
        steps = (self.codes if self.table is None else self.table[self.codes]).astype(np.int16)
        if self.zeros is not None:
            steps -= self._spread(self.zeros)
        if self.multipliers is not None:
            steps *= self._spread(self.multipliers)
        if self.table is not None:
            steps += 64
            steps >>= 7
        scales = self.scales[:, None] if self.scales.ndim == 1 else self._spread(self.scales)
        return np.asarray(steps.astype(np.float32) * scales, np.float32)

    def _spread(self, each: NDArray[Any]) -> NDArray[Any]:
        """[R, G] -> [R, K]."""
        return np.repeat(each, self.group, axis=1)[:, : self.codes.shape[1]]


@dataclass(frozen=True)
class Packed:
    """The bytes of one tensor and what its index entry says of them."""

    data: Bytes
    n: int
    k: int
    group: int
    paired: bool

    @property
    def blocks(self) -> int:
        """16-channel blocks; each half of a paired weight is padded on its own."""
        return 2 * -(-(self.n // 2) // CHANNELS) if self.paired else -(-self.n // CHANNELS)

    def channels(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where rows start..stop lie, counted in channels."""
        rows = np.arange(start, stop)
        if not self.paired:
            return rows
        half, row = np.divmod(rows, self.n // 2)
        block, lane = np.divmod(row, CHANNELS)
        return np.asarray((2 * block + half) * CHANNELS + lane)

    def tail(self, dtype: type[np.generic]) -> NDArray[Any]:
        """The last array of the tensor: one value per channel."""
        count = self.blocks * CHANNELS
        nbytes = count * np.dtype(dtype).itemsize
        return self.data[self.data.size - nbytes :].view(dtype)


class Reader(Protocol):
    """Gives all 16 channels of the blocks that are asked for."""

    def __call__(self, packed: Packed, blocks: NDArray[np.int64]) -> StoredRows: ...


@dataclass(frozen=True)
class Floats:
    """f32b16, f16b16: float[K][16] per block."""

    dtype: type[np.generic]

    def __call__(self, packed: Packed, blocks: NDArray[np.int64]) -> StoredRows:
        stored = packed.data.view(self.dtype).reshape(packed.blocks, packed.k, CHANNELS)[blocks]
        return StoredRows(stored.transpose(0, 2, 1).reshape(-1, packed.k))


def int8_blocks(packed: Packed, blocks: NDArray[np.int64]) -> StoredRows:
    """q8b16: s8[Kp/4][16][4] per block, then a scale per channel."""
    columns = round_up(packed.k, 64)
    body = packed.data[: packed.blocks * CHANNELS * columns]
    stored = body.view(np.int8).reshape(packed.blocks, columns // 4, CHANNELS, 4)[blocks]
    codes = stored.transpose(0, 2, 1, 3).reshape(-1, columns)[:, : packed.k]
    return StoredRows(codes, scales=scales(packed, blocks))


def int4_blocks(packed: Packed, blocks: NDArray[np.int64]) -> StoredRows:
    """q4b16: per 4 groups s8 m[4][16], then their u8[group/2][16][4] of nibbles; then a scale per channel."""
    k, group = packed.k, packed.group
    columns = round_up(k, max(64, group))
    lines = np.arange(columns // 8)
    heads = np.arange(-(-columns // group // 4))
    count = heads.size + lines.size
    body = packed.data[: packed.blocks * count * LINE].reshape(packed.blocks, count, LINE)[blocks]
    table = body[:, heads * (1 + group // 2)].view(np.int8).reshape(len(blocks), -1, CHANNELS)
    multipliers = table[:, : -(-k // group)].transpose(0, 2, 1).reshape(-1, -(-k // group))
    bytes_ = body[:, lines + lines // (group // 2) + 1].reshape(len(blocks), -1, CHANNELS, 4)
    nibbles = np.stack([bytes_ & 15, bytes_ >> 4], axis=3)  # [B, K / 8, 16, 2, 4]
    codes = nibbles.transpose(0, 2, 1, 3, 4).reshape(-1, columns)[:, :k].astype(np.int8) - 8
    return StoredRows(codes, multipliers, scales(packed, blocks), group=group)


@dataclass(frozen=True)
class Grouped:
    """g4b16, g8b16: per 4 groups f32 scale[4][16] and u8 zero[4][16], then the codes of these groups."""

    bits: int

    def __call__(self, packed: Packed, blocks: NDArray[np.int64]) -> StoredRows:
        k, group = packed.k, packed.group
        heads = -(-k // (4 * group))
        columns = round_up(k, CHANNELS)
        step = 32 // self.bits  # K-values of 16 channels in a line
        codes = np.arange(columns // step)
        tops = np.arange(heads) * (HEAD + 4 * group // step)
        count = heads * HEAD + codes.size
        body = packed.data.reshape(packed.blocks, count, LINE)[blocks]
        table = body[:, tops[:, None] + np.arange(4)].view(np.float32)
        lines = body[:, codes + (codes * step // (4 * group) + 1) * HEAD]
        return StoredRows(
            self._codes(lines.reshape(len(blocks), -1, CHANNELS, 4))[:, :k],
            scales=_by_group(table, -(-k // group)),
            zeros=_by_group(body[:, tops + 4], -(-k // group)),
            group=group,
        )

    def _codes(self, fours: Bytes) -> NDArray[np.uint8]:
        """[B, lines of 4 or pairs of 4, 16, 4] -> [B * 16, K]."""
        halves = [fours & 15, fours >> 4] if self.bits == 4 else [fours]
        spread = np.stack(halves, axis=3).transpose(0, 2, 1, 3, 4)
        return spread.reshape(len(fours) * CHANNELS, -1)


@dataclass(frozen=True)
class Tabled:
    """t2b16 to t6b16: s8 table[64]; per 4 groups s8 m[4][16], then lines of planes per 32 values of K; bf16 scales."""

    bits: int

    def __call__(self, packed: Packed, blocks: NDArray[np.int64]) -> StoredRows:
        k, group, bits = packed.k, packed.group, self.bits
        units, groups = -(-k // 32), -(-k // group)
        count = groups * CHANNELS + units * bits * LINE  # bytes of a block
        body = packed.data[LINE : LINE + packed.blocks * count].reshape(packed.blocks, count)[
            blocks
        ]
        turn = 4 * (CHANNELS + group // 32 * bits * LINE)  # bytes of four groups
        each = np.arange(groups)
        tops = each // 4 * turn + each % 4 * CHANNELS
        unit = np.arange(units)
        quads = unit * 32 // (4 * group)
        heads = np.minimum(4 * (quads + 1), groups) * CHANNELS  # bytes of multipliers before a unit
        planes = body[:, (heads + unit * bits * LINE)[:, None] + np.arange(bits * LINE)]
        multipliers = body[:, tops[:, None] + np.arange(CHANNELS)].view(np.int8)
        return StoredRows(
            self._codes(planes.reshape(len(blocks), units, bits, CHANNELS, 4))[:, :k],
            _by_group(multipliers, groups),
            self._scales(packed, blocks),
            group=group,
            table=packed.data[: 1 << bits].view(np.int8),
        )

    def _codes(self, lines: Bytes) -> NDArray[np.int8]:
        """[B, units, bits, 16, 4] -> [B * 16, K]."""
        codes = np.zeros((*lines.shape[:2], 8, CHANNELS, 4), np.uint8)
        low = 0
        for width in (width for width in (4, 2, 1) if self.bits & width):
            per, mask = 8 // width, (1 << width) - 1
            for quad in range(8):
                part = lines[:, :, low + quad // per] >> (quad % per * width) & mask
                codes[:, :, quad] |= part << low
            low += width
        return codes.transpose(0, 3, 1, 2, 4).reshape(len(lines) * CHANNELS, -1).view(np.int8)

    def _scales(self, packed: Packed, blocks: NDArray[np.int64]) -> F32:
        stored = packed.tail(np.uint16).reshape(packed.blocks, CHANNELS)[blocks].reshape(-1)
        return (stored.astype(np.uint32) << 16).view(np.float32)


def _by_group(table: NDArray[Any], groups: int) -> NDArray[Any]:
    """[B, ...] of [group][16] -> [B * 16, groups]."""
    whole = table.reshape(len(table), -1, CHANNELS)[:, :groups]
    return whole.transpose(0, 2, 1).reshape(-1, groups)


def scales(packed: Packed, blocks: NDArray[np.int64]) -> F32:
    """The scale of each channel of the blocks."""
    found: F32 = packed.tail(np.float32).reshape(packed.blocks, CHANNELS)[blocks].reshape(-1)
    return found


def round_up(value: int, to: int) -> int:
    """The smallest multiple of `to` that is at least `value`."""
    return -(-value // to) * to


TABLED = tuple(layout for layout in Layout if layout.table_bits)
READERS: Mapping[Layout, Reader] = {
    Layout.F32B16: Floats(np.float32),
    Layout.F16B16: Floats(np.float16),
    Layout.Q8B16: int8_blocks,
    Layout.Q4B16: int4_blocks,
    Layout.G4B16: Grouped(4),
    Layout.G8B16: Grouped(8),
    **{layout: Tabled(layout.table_bits) for layout in TABLED},
}
WITH_GROUPS = (Layout.Q4B16, Layout.G4B16, Layout.G8B16, *TABLED)


def read_rows(layout: Layout, packed: Packed, start: int, stop: int) -> StoredRows:
    """Rows start..stop in logical order."""
    places = packed.channels(start, stop)
    blocks, inverse = np.unique(places // CHANNELS, return_inverse=True)
    found = READERS[layout](packed, blocks)
    chosen = inverse * CHANNELS + places % CHANNELS

    def pick(each: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if each is None else each[chosen]

    return StoredRows(
        found.codes[chosen],
        pick(found.multipliers),
        pick(found.scales),
        pick(found.zeros),
        found.group,
        found.table,
    )


def packed_rows(data: Bytes, entry: TensorEntry, start: int, stop: int) -> StoredRows:
    """Rows start..stop of a tensor's bytes; ValueError where these are not what its entry says."""
    n, k = rows_of(entry.shape)
    if n * k > 4 * data.size or (entry.paired and n % 2):
        raise ValueError(f"{data.size} bytes are no {n} x {k} numbers")
    if entry.layout in WITH_GROUPS and entry.group < CHANNELS:
        raise ValueError(f"a group of {entry.group}")
    if entry.layout is None:
        return StoredRows(data.view(np.float32).reshape(n, k)[start:stop])
    packed = Packed(data, n, k, entry.group, entry.paired)
    return read_rows(entry.layout, packed, start, stop)


def rows_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """A shape as a matrix; a vector is one column."""
    n = shape[0] if shape else 1
    return n, int(np.prod(shape[1:], dtype=np.int64))


def batch_rows(k: int) -> int:
    """Rows read at once, a multiple of a pair of blocks."""
    return max(1, BATCH_NBYTES // (4 * 2 * CHANNELS * max(k, 1))) * 2 * CHANNELS
