"""The coded weights of an archive as constants of a graph: what was compiled can be run by another engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Op
from hearth.compiler.ir.rewrite import rewrite
from hearth.compiler.ir.tensors import F32, GroupedRows, QuantisedRows
from hearth.runtime.archive import Archive
from hearth.runtime.archive.rows import StoredRows, packed_rows
from hearth.schemas.commands import Layout
from hearth.schemas.weights_index import TensorEntry

FLOAT_LAYOUTS = (None, Layout.F32B16, Layout.F16B16)
GROUPED_BITS = {Layout.G4B16: 4, Layout.G8B16: 8}
INTEGER_BITS = {Layout.Q4B16: 4, Layout.Q8B16: 8}
TABLE_BITS = {
    Layout.T2B16: 2,
    Layout.T3B16: 3,
    Layout.T4B16: 4,
    Layout.T5B16: 5,
    Layout.T6B16: 6,
}


@dataclass(frozen=True, eq=False)
class Stored:
    """One tensor of an archive."""

    entry: TensorEntry
    data: NDArray[np.uint8]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.entry.shape

    @property
    def group(self) -> int:
        return self.entry.group

    def stored_rows(self, start: int, stop: int) -> StoredRows:
        """Rows as they lie in the archive."""
        return packed_rows(self.data, self.entry, start, stop)


@dataclass(frozen=True, eq=False)
class StoredFloats(Stored):
    """A tensor of floats."""

    stored: str = "f32"

    def rows(self, start: int, stop: int) -> F32:
        values = self.stored_rows(start, stop).values()
        return np.ascontiguousarray(values.reshape(-1, *self.shape[1:]), np.float32)


@dataclass(frozen=True, eq=False)
class StoredCodes(Stored):
    """A tensor of codes with a scale per channel."""

    bits: int = 8
    tabled: bool = False

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        rows = self.stored_rows(start, stop)
        assert rows.scales is not None
        return QuantisedRows(rows.codes, rows.multipliers, rows.scales, rows.group, rows.table)


@dataclass(frozen=True, eq=False)
class StoredGroups(Stored):
    """A tensor that came quantised, with its own scales and zero points."""

    bits: int = 4

    def grouped(self, start: int, stop: int) -> GroupedRows:
        rows = self.stored_rows(start, stop)
        assert rows.scales is not None
        assert rows.zeros is not None
        return GroupedRows(rows.codes, rows.scales, rows.zeros, rows.group)


def stored(archive: Archive) -> dict[str, Any]:
    """Every tensor of an archive by its name, read when asked for."""
    data = np.frombuffer(archive.weights(), np.uint8)
    found: dict[str, Any] = {}
    for entry in archive.weights_index.tensors:
        part = data[entry.offset : entry.offset + entry.nbytes]
        if entry.layout in FLOAT_LAYOUTS:
            found[entry.name] = StoredFloats(entry, part)
        elif entry.layout in GROUPED_BITS:
            found[entry.name] = StoredGroups(entry, part, GROUPED_BITS[entry.layout])
        elif entry.layout in TABLE_BITS:
            found[entry.name] = StoredCodes(entry, part, TABLE_BITS[entry.layout], True)
        else:
            found[entry.name] = StoredCodes(entry, part, INTEGER_BITS[entry.layout])
    return found


def with_weights(graph: Graph, weights: dict[str, Any]) -> Graph:
    """The graph with the constants of those names replaced, of the same shape."""

    def rule(op: Op) -> Op | None:
        match op:
            case Constant(name=name) if name in weights and weights[name].shape == op.value.shape:
                return Constant(name, weights[name])
        return None

    return rewrite(graph, rule)
