"""Ops without operands: what a call is given, what the archive stores, what the cache holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hearth.compiler.ir.ops.base import Op
from hearth.compiler.ir.tensors import GroupedSource, QuantisedSource, Source
from hearth.compiler.ir.types import CacheType, Dim, TensorType, Type
from hearth.schemas.dtypes import DType


@dataclass(frozen=True, eq=False)
class Tokens(Op):
    """Ids i32[rows] of this call, from the port of that name; rows is T, or 1 in decode."""

    rows: int | Dim = Dim.T
    port: str = "tokens"

    def infer(self) -> Type:
        return TensorType(DType.I32, (self.rows,))


@dataclass(frozen=True, eq=False)
class Input(Op):
    """A matrix f32[rows, columns] from the port of that name (a native part of a general graph)."""

    port: str
    columns: int
    rows: int | Dim = Dim.T

    def infer(self) -> Type:
        return TensorType(DType.F32, (self.rows, self.columns))


@dataclass(frozen=True, eq=False)
class Position(Op):
    """Absolute position i32[] of the first token of this call."""

    def infer(self) -> Type:
        return TensorType(DType.I32, ())


TABLES: Mapping[int, DType] = {
    2: DType.T2,
    3: DType.T3,
    4: DType.T4,
    5: DType.T5,
    6: DType.T6,
}


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A named weight, table or gain; lazy."""

    name: str
    value: Source | QuantisedSource | GroupedSource

    def infer(self) -> Type:
        match self.value:
            case QuantisedSource(bits=bits, tabled=True):
                return TensorType(TABLES[bits], self.value.shape)
            case QuantisedSource(bits=bits):
                return TensorType(DType.W4 if bits == 4 else DType.W8, self.value.shape)
            case GroupedSource(bits=bits):
                return TensorType(DType.G4 if bits == 4 else DType.G8, self.value.shape)
            case Source(stored=stored):
                return TensorType(DType(stored), self.value.shape)


FLOATS = (DType.F32, DType.F16, DType.BF16)
GROUPED = (DType.G8, DType.G4)  # multiplied in f32 only
INTEGERS = (DType.W8, DType.W4, *TABLES.values())  # multiplied in int8 too
WEIGHTS = (*FLOATS, *INTEGERS, *GROUPED)


@dataclass(frozen=True, eq=False)
class Cache(Op):
    """The KV cache of one layer as the call finds it."""

    cache: CacheType

    def infer(self) -> Type:
        return self.cache
