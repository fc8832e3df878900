"""Parts of matrices: some of the columns, some of the rows, all rows made one."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.ir.ops.base import Op, matrix, need
from hearth.compiler.ir.types import Dim, TensorType, Type
from hearth.schemas.commands import Pooling
from hearth.schemas.dtypes import DType


@dataclass(frozen=True, eq=False)
class Slice(Op):
    """y = x[:, start:stop], a view."""

    x: Op
    start: int
    stop: int

    def infer(self) -> Type:
        rows, columns = matrix(self, self.x)
        need(0 <= self.start < self.stop <= columns, self, f"{self.start}:{self.stop}")
        return TensorType(DType.F32, (rows, self.stop - self.start))


@dataclass(frozen=True, eq=False)
class LastRows(Op):
    """y[R, N] = the last R rows of x[T, N]."""

    x: Op
    rows: int | Dim = Dim.R

    def infer(self) -> Type:
        _, columns = matrix(self, self.x)
        return TensorType(DType.F32, (self.rows, columns))


@dataclass(frozen=True, eq=False)
class Pool(Op):
    """y[1, N] = the T rows of x[T, N] made one."""

    x: Op
    kind: Pooling

    def infer(self) -> Type:
        return TensorType(DType.F32, (1, matrix(self, self.x)[1]))
