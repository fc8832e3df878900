"""Lazy constants: a source knows its shape and gives its rows on demand, so that no pass loads a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class Shaped(Protocol):
    """What has rows."""

    @property
    def shape(self) -> tuple[int, ...]: ...


P = TypeVar("P", bound=Shaped)


def pieces_of(parts: Sequence[P], start: int, stop: int) -> Iterator[tuple[P, int, int]]:
    """Of parts stacked along the rows those that hold rows start .. stop, each with its own range of rows."""
    base = 0
    for part in parts:
        low, high = max(start, base), min(stop, base + part.shape[0])
        if low < high:
            yield part, low - base, high - base
        base += part.shape[0]


@runtime_checkable
class Source(Protocol):
    """A float tensor [rows, cols] or [rows] that can be read in row ranges.

    `rows(start, stop)` gives f32 of shape (stop - start, *shape[1:]); reading twice gives the same values;
    the peak memory is the rows asked for. `stored` is the dtype in the checkpoint ("f32", "f16", "bf16").
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def stored(self) -> str: ...

    def rows(self, start: int, stop: int) -> F32: ...


@dataclass(frozen=True, eq=False)
class ArraySource:
    """Values held in memory (small constants, tests)."""

    values: F32
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values.shape)

    def rows(self, start: int, stop: int) -> F32:
        return np.ascontiguousarray(self.values[start:stop], dtype=np.float32)


@dataclass(frozen=True, eq=False)
class ConcatSource:
    """Parts stacked along the rows (QKV, gate/up)."""

    parts: tuple[Source, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def stored(self) -> str:
        return self.parts[0].stored

    def rows(self, start: int, stop: int) -> F32:
        pieces = [part.rows(low, high) for part, low, high in pieces_of(self.parts, start, stop)]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), np.float32)


@dataclass(frozen=True, eq=False)
class ScaledColumnsSource:
    """w[n, k] * gain[k]: a norm's gain folded into the linear that follows."""

    source: Source
    gain: Source

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def stored(self) -> str:
        return "f32"  # products of f16 values are not f16 values

    def rows(self, start: int, stop: int) -> F32:
        gain = self.gain.rows(0, self.gain.shape[0])
        return np.asarray(self.source.rows(start, stop) * gain, dtype=np.float32)


def read(source: Source) -> F32:
    """All rows of a source."""
    return source.rows(0, source.shape[0])


def round_bf16(values: F32) -> F32:
    """f32 of the same shape: each finite value rounded to the nearest bf16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = bits + (np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1)))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def effective_levels(levels: NDArray[np.int8], multipliers: NDArray[np.int8]) -> NDArray[np.int8]:
    """i8: (level * multiplier + 64) >> 7 elementwise, the int8 weight of a table's level (shapes broadcast)."""
    products = levels.astype(np.int16) * multipliers.astype(np.int16)  # at most 128 * 127
    products += 64
    products >>= 7
    return products.astype(np.int8)


def linear_levels(bits: int) -> NDArray[np.int8]:
    """i8[2^bits]: the table of evenly spaced levels, (c - 2^(bits - 1)) * 2^(8 - bits) of code c."""
    codes = np.arange(1 << bits, dtype=np.int16) - (1 << bits - 1)
    return (codes << 8 - bits).astype(np.int8)


@dataclass(frozen=True)
class QuantisedRows:
    """Rows of a quantised weight: an effective int8 weight [N, K], times scale[n].

    codes i8[N, K]; multipliers i8[N, ceil(K / group)] or None (then 1); scale f32[N]. Without a table the effective
    weight is codes[n, k] * multipliers[n, k // group]. With table i8[2^bits], ascending, codes are 0 .. 2^bits - 1
    and it is (table[codes[n, k]] * multipliers[n, k // group] + 64) >> 7; multipliers are -127..127 then, and scales
    values of bf16.
    """

    codes: NDArray[np.int8]
    multipliers: NDArray[np.int8] | None
    scale: F32
    group: int
    table: NDArray[np.int8] | None = None

    def effective(self) -> NDArray[np.int8]:
        """The int8 weight the kernels multiply with."""
        if self.multipliers is None:
            return self.codes
        spread = np.repeat(self.multipliers, self.group, axis=1)[:, : self.codes.shape[1]]
        if self.table is not None:
            return effective_levels(self.table[self.codes], spread)
        return np.asarray(self.codes * spread, dtype=np.int8)

    def dequantise(self) -> F32:
        """f32[N, K]."""
        return np.asarray(self.effective().astype(np.float32) * self.scale[:, None], np.float32)


@runtime_checkable
class QuantisedSource(Protocol):
    """A weight [N, K] that is quantised row range by row range on demand (rows are independent).

    `bits` is 4 or 8, with a table 2 to 6; `group` the number of K-values that share a multiplier (0: none, per
    channel); `tabled`: whether the rows have a table, which is then the same for all of them.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def bits(self) -> int: ...

    @property
    def group(self) -> int: ...

    @property
    def tabled(self) -> bool: ...

    def quantised(self, start: int, stop: int) -> QuantisedRows: ...


@dataclass(frozen=True, eq=False)
class OverCodes:
    """What a QuantisedSource is that gives another's rows in the same form: all but `quantised`."""

    source: QuantisedSource

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def bits(self) -> int:
        return self.source.bits

    @property
    def group(self) -> int:
        return self.source.group

    @property
    def tabled(self) -> bool:
        return self.source.tabled


@dataclass(frozen=True)
class GroupedRows:
    """Rows of a weight as other tools quantise it: w[n, k] = (codes[n, k] - zeros[n, g]) * scales[n, g].

    g = k // group.     codes u8[N, K] below 2^bits; scales f32[N, ceil(K / group)]; zeros u8 of the same shape.
    """

    codes: NDArray[np.uint8]
    scales: F32
    zeros: NDArray[np.uint8]
    group: int

    def dequantise(self) -> F32:
        """f32[N, K]: one exact integer difference, one rounded product."""
        columns = self.codes.shape[1]
        zeros = np.repeat(self.zeros, self.group, axis=1)[:, :columns]
        scales = np.repeat(self.scales, self.group, axis=1)[:, :columns]
        steps = self.codes.astype(np.int32) - zeros.astype(np.int32)
        return np.asarray(steps.astype(np.float32) * scales, np.float32)


@runtime_checkable
class GroupedSource(Protocol):
    """A weight [N, K] that came quantised with float scales (MatMulNBits, GPTQ, AWQ); its codes are kept.

    `bits` is 4 or 8; `group` a multiple of 16 that K-values share a scale and a zero point in.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def bits(self) -> int: ...

    @property
    def group(self) -> int: ...

    def grouped(self, start: int, stop: int) -> GroupedRows: ...


AnySource = Source | QuantisedSource | GroupedSource
"""A weight as a graph may hold it: floats, codes of integer scales, or codes as they came."""


@dataclass(frozen=True, eq=False)
class ConcatGroupedSource:
    """Grouped weights of one `bits` and one `group`, stacked along the rows (QKV, gate/up)."""

    parts: tuple[GroupedSource, ...]

    def __post_init__(self) -> None:
        forms = {(part.bits, part.group, part.shape[1:]) for part in self.parts}
        if len(forms) != 1:
            raise ValueError(f"grouped weights of different forms cannot be stacked: {forms}")

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def bits(self) -> int:
        return self.parts[0].bits

    @property
    def group(self) -> int:
        return self.parts[0].group

    def grouped(self, start: int, stop: int) -> GroupedRows:
        pieces = [part.grouped(low, high) for part, low, high in pieces_of(self.parts, start, stop)]
        if len(pieces) == 1:
            return pieces[0]
        if not pieces:
            return self.parts[0].grouped(0, 0)
        codes, scales, zeros = (
            np.concatenate(each)
            for each in zip(*((p.codes, p.scales, p.zeros) for p in pieces), strict=True)
        )
        return GroupedRows(codes, scales, zeros, self.group)
