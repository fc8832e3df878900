"""Reads constants for the evaluator, block by block, and keeps them where the caller wants that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import GroupedSource, QuantisedRows, QuantisedSource, Source, read

F32 = NDArray[np.float32]

BLOCK_ELEMENTS = 1 << 24  # what one block of a weight may hold at a time


@dataclass(frozen=True, eq=False)
class Block:
    """Rows start...stop of a weight: the numbers to multiply with, a scale for each row (None: 1).

    Weights of integer scales: the effective int8 values held as f32. Others: the (dequantised) values.
    """

    start: int
    stop: int
    values: F32
    scale: F32 | None


def _block(weight: Constant, start: int, stop: int) -> Block:
    match weight.value:
        case QuantisedSource() as value:
            rows: QuantisedRows = value.quantised(start, stop)
            return Block(start, stop, rows.effective().astype(np.float32), rows.scale)
        case GroupedSource() as value:
            return Block(start, stop, value.grouped(start, stop).dequantise(), None)
        case value:
            return Block(start, stop, np.asarray(value.rows(start, stop), np.float32), None)


@dataclass(eq=False)
class Constants:
    """Reads of one graph's constants.

    With `keep`, a weight is read and quantised once for the life of this object (4 bytes per
    element); without, only small vectors and tables are kept and peak memory is one block.
    """

    keep: bool = False
    _arrays: dict[Constant, F32] = field(default_factory=dict)
    _blocks: dict[Constant, list[Block]] = field(default_factory=dict)
    _rows: dict[tuple[Constant, int], F32] = field(default_factory=dict)

    def array(self, constant: Constant) -> F32:
        """All of a float constant: a bias, gain or table."""
        if constant not in self._arrays:
            self._arrays[constant] = read(float_source(constant))
        return self._arrays[constant]

    def blocks(self, weight: Constant) -> Iterator[Block]:
        """A weight in row blocks, in order."""
        if self.keep:
            if weight not in self._blocks:
                self._blocks[weight] = list(self._read_blocks(weight))
            yield from self._blocks[weight]
        else:
            yield from self._read_blocks(weight)

    def rows(self, table: Constant, indices: NDArray[np.int64]) -> F32:
        """Dequantised rows of a table, each distinct one read once."""
        distinct, inverse = np.unique(indices, return_inverse=True)
        rows = [self._row(table, int(index)) for index in distinct]
        return np.stack(rows)[inverse]

    def _row(self, table: Constant, index: int) -> F32:
        kept = self._rows.get((table, index))
        if kept is not None:
            return kept
        block = _block(table, index, index + 1)
        row = block.values[0] if block.scale is None else block.values[0] * block.scale[0]
        if self.keep:
            self._rows[table, index] = row
        return np.asarray(row, np.float32)

    def _read_blocks(self, weight: Constant) -> Iterator[Block]:
        n, k = weight.value.shape
        step = max(1, BLOCK_ELEMENTS // k)
        for start in range(0, n, step):
            yield _block(weight, start, min(start + step, n))


def float_source(constant: Constant) -> Source:
    """The source of a constant that must hold floats."""
    if isinstance(constant.value, Source):
        return constant.value
    raise TypeError(f"constant {constant.name!r} is quantised, expected floats")
