"""Lazy sources of mapped weights: rows mapped on demand, or mixed with each other (one tensor in memory at most)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.tensors import F32, Source
from hearth.compiler.transform.rotation import Map

PANEL_NBYTES = 8 << 20
BLOCK_NBYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class MappedRows:
    """Each row w[n, :] under a map of K values."""

    source: Source
    map: Map
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> F32:
        return self.map.apply(self.source.rows(start, stop))


@dataclass(frozen=True, eq=False)
class ScaledRows:
    """Rows first.. times factors[n - first], of a weight or a vector; the others as they are."""

    source: Source
    first: int
    factors: F32
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> F32:
        values = self.source.rows(start, stop)
        low, high = max(start, self.first), min(stop, self.first + len(self.factors))
        if low < high:
            factors = self.factors[low - self.first : high - self.first]
            values = values.copy()
            values[low - start : high - start] *= factors.reshape(-1, *[1] * (values.ndim - 1))
        return values


@dataclass(eq=False)
class Slot:
    """The mixed rows that were made last, and of which source: one for all the sources of a model."""

    _of: object = None
    _start: int = 0
    _rows: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def rows(self, mixed: MixedRows, start: int, stop: int) -> F32:
        """A copy of rows start..stop, which lie in one span; the span is mixed once while nothing else is asked for.

        It is let go of with the last row of all, which is the last that is asked for.
        """
        low, high = mixed.span(start)
        if self._of is not mixed or self._start != low:
            self._of, self._rows = None, np.empty((0, 0), np.float32)  # let the old ones go first
            self._rows = mixed.mix(low, high)
            self._of, self._start = mixed, low
        found = self._rows[start - low : stop - low].copy()
        if stop == mixed.last:
            self._of, self._rows = None, np.empty((0, 0), np.float32)
        return found


@dataclass(frozen=True, eq=False)
class MixedRows:
    """Columns w[first : last, k] under a map, span by span; rows outside stay as they are.

    A vector [N] is one column. `span_rows` divides last - first: a map of one block works on spans of that size.
    """

    source: Source
    first: int
    last: int
    map: Map  # of span_rows values
    slot: Slot
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def span(self, row: int) -> tuple[int, int]:
        """The rows that are mixed with a row within first..last."""
        low = row - (row - self.first) % self.map.size
        return low, low + self.map.size

    def rows(self, start: int, stop: int) -> F32:
        stop = min(stop, self.shape[0])
        pieces, at = [], start
        while at < stop:
            if at < self.first:
                end = min(stop, self.first)
                pieces.append(self.source.rows(at, end))
            elif at >= self.last:
                end = stop
                pieces.append(self.source.rows(at, end))
            else:
                end = min(stop, self.span(at)[1])
                pieces.append(self.slot.rows(self, at, end))
            at = end
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else self.source.rows(start, start)

    def mix(self, low: int, high: int) -> F32:
        """Rows low..high mixed: the tensor's rows, and one panel of columns."""
        values = self._read(low, high)
        matrix = values.reshape(high - low, -1)
        step = max(1, PANEL_NBYTES // (4 * (high - low)))
        for column in range(0, matrix.shape[1], step):
            panel = np.ascontiguousarray(matrix[:, column : column + step].T)
            matrix[:, column : column + step] = self.map.apply(panel).T
        return values

    def _read(self, low: int, high: int) -> F32:
        values = np.empty((high - low, *self.shape[1:]), np.float32)
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        step = max(1, BLOCK_NBYTES // (4 * width))
        for at in range(low, high, step):
            end = min(at + step, high)
            values[at - low : end - low] = self.source.rows(at, end)
        return values
