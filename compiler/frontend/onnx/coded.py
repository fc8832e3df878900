"""Weights that a graph stores as integer codes, as lazy sources of the IR: the codes stay what they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from hearth.compiler.frontend.onnx.model import Initializer
from hearth.compiler.ir.tensors import (
    F32,
    GroupedRows,
    GroupedSource,
    QuantisedRows,
    QuantisedSource,
    Source,
)

Rows = NDArray[Any]
S = TypeVar("S", GroupedSource, QuantisedSource)
SMALLEST_GROUP = 16  # K-values of a group: a multiple of this
BITS: Mapping[int, int] = {
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
}
SIGNED = (TensorProto.INT8, TensorProto.INT4)


class Table(Protocol):
    """Rows [stop - start, width] of whole numbers or floats, read on demand."""

    def rows(self, start: int, stop: int) -> Rows: ...


@dataclass(frozen=True, eq=False)
class Flat:
    """A stored tensor as rows of `width` elements, however it is shaped."""

    initializer: Initializer
    width: int

    def rows(self, start: int, stop: int) -> Rows:
        shape = self.initializer.shape
        lead = shape[0] if shape else 1
        inner = int(np.prod(shape[1:], dtype=np.int64))
        if inner and self.width % inner == 0:
            step = self.width // inner
            return self.initializer.rows(start * step, stop * step).reshape(-1, self.width)
        if inner % self.width == 0 and lead:
            per = inner // self.width
            low, high = start // per, -(-stop // per)
            read = self.initializer.rows(low, high).reshape(-1, self.width)
            return read[start - low * per : stop - low * per]
        raise ValueError(f"{self.initializer.name!r} {list(shape)} has no rows of {self.width}")


@dataclass(frozen=True, eq=False)
class Unpacked:
    """Codes of `bits` packed in bytes, the low bits first: rows of `width` codes."""

    packed: Flat
    bits: int
    width: int

    def rows(self, start: int, stop: int) -> Rows:
        raw = self.packed.rows(start, stop).view(np.uint8)
        if self.bits == 8:
            return raw[:, : self.width]
        codes = np.empty((raw.shape[0], raw.shape[1], 2), np.uint8)
        np.bitwise_and(raw, 15, out=codes[..., 0])
        np.right_shift(raw, 4, out=codes[..., 1])
        return codes.reshape(raw.shape[0], -1)[:, : self.width]


@dataclass(frozen=True, eq=False)
class Repeated:
    """One row for all."""

    row: Rows

    def rows(self, start: int, stop: int) -> Rows:
        return np.broadcast_to(self.row, (stop - start, self.row.size))


@dataclass(frozen=True, eq=False)
class Whole:
    """A stored tensor of whole numbers as floats, for what reads floats (a transpose in panels)."""

    initializer: Initializer
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.initializer.shape

    def rows(self, start: int, stop: int) -> F32:
        return np.asarray(self.initializer.rows(start, min(stop, self.shape[0])), np.float32)


@dataclass(frozen=True, eq=False)
class GroupedTensor:
    """A GroupedSource. `shift` makes signed codes and zero points unsigned: the difference of both stays the same."""

    shape: tuple[int, ...]
    bits: int
    group: int
    codes: Table | Source
    scales: Table | Source
    zeros: Table | Source
    shift: int = 0

    def grouped(self, start: int, stop: int) -> GroupedRows:
        stop = min(stop, self.shape[0])
        scales = np.asarray(self.scales.rows(start, stop), np.float32)
        codes, zeros = (self._unsigned(each.rows(start, stop)) for each in (self.codes, self.zeros))
        return GroupedRows(codes, np.ascontiguousarray(scales), zeros, self.group)

    def _unsigned(self, rows: Rows) -> NDArray[np.uint8]:
        if rows.dtype == np.uint8 and not self.shift:
            return np.ascontiguousarray(rows)
        return np.ascontiguousarray(rows.astype(np.int16) + self.shift).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class SymmetricTensor:
    """A QuantisedSource of int8 codes with one scale per row and no zero point."""

    shape: tuple[int, ...]
    codes: Table | Source
    scales: Table | Source
    bits: int = 8
    group: int = 0
    tabled: bool = False

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        stop = min(stop, self.shape[0])
        codes = np.ascontiguousarray(self.codes.rows(start, stop)).astype(np.int8)
        scale = np.asarray(self.scales.rows(start, stop), np.float32).reshape(-1)
        return QuantisedRows(codes, None, np.ascontiguousarray(scale), 0)


@dataclass(frozen=True, eq=False)
class Ordered(Generic[S]):
    """Rows of a coded source in another order, or some of them."""

    source: S
    order: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.order.size, *self.source.shape[1:])

    @property
    def bits(self) -> int:
        return self.source.bits

    @property
    def group(self) -> int:
        return self.source.group


class OrderedGroups(Ordered[GroupedSource]):
    """Of a GroupedSource."""

    def grouped(self, start: int, stop: int) -> GroupedRows:
        low, high, pick = _picked(self.order, start, stop)
        rows = self.source.grouped(low, high)
        return GroupedRows(rows.codes[pick], rows.scales[pick], rows.zeros[pick], rows.group)


class OrderedCodes(Ordered[QuantisedSource]):
    """Of a QuantisedSource."""

    @property
    def tabled(self) -> bool:
        return self.source.tabled

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        low, high, pick = _picked(self.order, start, stop)
        rows = self.source.quantised(low, high)
        multipliers = None if rows.multipliers is None else rows.multipliers[pick]
        scale = rows.scale[pick]
        return QuantisedRows(rows.codes[pick], multipliers, scale, rows.group, rows.table)


def _picked(order: NDArray[np.int64], start: int, stop: int) -> tuple[int, int, NDArray[np.int64]]:
    """(first, end) of the rows to read, and which of them to take."""
    wanted = order[start:stop]
    if not wanted.size:
        return 0, 0, wanted
    low = int(wanted.min())
    return low, int(wanted.max()) + 1, wanted - low


def reordered(
    source: GroupedSource | QuantisedSource, order: Sequence[int]
) -> OrderedGroups | OrderedCodes:
    """The rows of a quantised weight in another order; rows are independent, so codes stay what they are."""
    places = np.asarray(order, np.int64)
    if isinstance(source, GroupedSource):
        return OrderedGroups(source, places)
    return OrderedCodes(source, places)


def fitted_group(block: int, k: int) -> int:
    """The group attribute for blocks of K-values: no larger than the row."""
    return min(block, -(-k // SMALLEST_GROUP) * SMALLEST_GROUP)
