"""What passes did to a linear's weight since the source, done to an adapter's A and B."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.tensors import F32
from hearth.compiler.lora.turns import RowMap
from hearth.compiler.lora.vectors import vector_at
from hearth.compiler.transform.rotation import Map
from hearth.schemas.lora import LinearRecord


@dataclass(frozen=True, eq=False)
class Change:
    """A LinearRecord's values, of W' = R diag(rows) W diag(columns) C: so A diag(columns) C, R diag(rows) B."""

    columns: F32 | None
    shift: F32 | None
    rows: F32 | None
    turned_columns: Map | None
    turned_rows: RowMap | None

    @classmethod
    def of(
        cls, record: LinearRecord, shape: tuple[int, ...], vectors: F32, turns: Sequence[Map]
    ) -> Change:
        """Of a weight [N, K]; `turns` are the record's by number."""
        n, k = shape
        columns, mixed = record.turned_columns, record.turned_rows
        return cls(
            vector_at(vectors, record.columns, k),
            vector_at(vectors, record.shift, k),
            vector_at(vectors, record.rows, n),
            None if columns < 0 else turns[columns],
            None if mixed is None else RowMap(mixed.first, mixed.last, turns[mixed.turn]),
        )

    def of_a(self, a: F32) -> F32:
        """A' of A f32[r, K]."""
        if self.columns is not None:
            a = np.asarray(a * self.columns, np.float32)
        return a if self.turned_columns is None else self.turned_columns.apply(a)

    def of_b(self, b: F32, start: int) -> F32:
        """B' of B f32[n, r], which are the weight's rows from `start` on."""
        if self.rows is not None:
            b = np.asarray(b * self.rows[start : start + len(b), None], np.float32)
        return b if self.turned_rows is None else self.turned_rows.apply(b, start)
