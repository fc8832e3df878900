"""Lazy quantised weights: rows are read and coded when asked for, so no weight is held twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.tensors import F32, QuantisedRows, Source
from hearth.compiler.quantize.schemes import Form, WeightScheme
from hearth.schemas.errors import CheckpointError

Method = Callable[[F32, WeightScheme], QuantisedRows]


@dataclass(frozen=True, eq=False)
class MethodSource:
    """A weight coded by a method whose rows are independent of each other."""

    source: Source
    scheme: WeightScheme
    method: Method

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def bits(self) -> int:
        return self.scheme.bits

    @property
    def group(self) -> int:
        return self.scheme.group

    @property
    def tabled(self) -> bool:
        return self.scheme.form is Form.TABLE

    def quantised(self, start: int, stop: int) -> QuantisedRows:
        return self.method(self.source.rows(start, stop), self.scheme)


@dataclass(frozen=True, eq=False)
class HalfSource:
    """A weight rounded to f16."""

    source: Source
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def stored(self) -> str:
        return "f16"

    def rows(self, start: int, stop: int) -> F32:
        exact = self.source.rows(start, stop)
        with np.errstate(over="ignore"):
            rounded = exact.astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            raise CheckpointError(
                "quantize.f16_range",
                f"a weight of magnitude {float(np.abs(exact).max()):.6g}",
                expected="at most 65504 for f16",
                where=self.name,
                remedy="use --weights f32 or int8",
            )
        return rounded
