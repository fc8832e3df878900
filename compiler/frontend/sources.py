"""Sources made of other sources: a range of rows, the transpose of a matrix, gains stored as what they exceed 1 by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.ir.tensors import F32, Source

ONE = np.float32(1)
PANEL_NBYTES = 8 << 20
BLOCK_NBYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class RowRange:
    """Rows start..stop of a table."""

    source: Source
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.stop - self.start, *self.source.shape[1:])

    @property
    def stored(self) -> str:
        return self.source.stored

    def rows(self, start: int, stop: int) -> F32:
        return self.source.rows(self.start + start, min(self.start + stop, self.stop))


@dataclass(frozen=True, eq=False)
class FromOne:
    """1 + v, in f32."""

    source: Source
    stored: str = "f32"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    def rows(self, start: int, stop: int) -> F32:
        return ONE + self.source.rows(start, stop)


@dataclass(eq=False)
class Panel:
    """The rows of a transpose that were made last, and of which source: one for all the sources of a model."""

    nbytes: int = PANEL_NBYTES
    _source: Source | None = None
    _start: int = 0
    _rows: F32 = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def rows(self, source: Source, start: int, stop: int) -> F32:
        """Columns start..stop of the source as rows; each source is read once per panel, in order."""
        end = self._start + len(self._rows)
        if source is not self._source or not self._start <= start <= stop <= end:
            self._fill(source, start, stop)
        return self._rows[start - self._start : stop - self._start].copy()

    def _fill(self, source: Source, start: int, stop: int) -> None:
        height, width = source.shape
        self._source, self._start = None, start
        self._rows = np.empty((0, 0), np.float32)  # let the old one go first
        count = max(stop - start, self.nbytes // (4 * height))
        rows = np.empty((min(count, width - start), height), np.float32)
        step = max(1, BLOCK_NBYTES // (4 * width))
        for low in range(0, height, step):
            block = source.rows(low, min(low + step, height))
            rows[:, low : low + len(block)] = block[:, start : start + len(rows)].T
        self._source, self._rows = source, rows


@dataclass(frozen=True, eq=False)
class Transposed:
    """w[n, k] = source[k, n], read in panels: never the whole matrix at once."""

    source: Source
    panel: Panel

    @property
    def shape(self) -> tuple[int, ...]:
        height, width = self.source.shape
        return (width, height)

    @property
    def stored(self) -> str:
        return self.source.stored

    def rows(self, start: int, stop: int) -> F32:
        return self.panel.rows(self.source, start, min(stop, self.shape[0]))
