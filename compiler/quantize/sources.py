"""Weights rounded to f16, row range by row range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hearth.compiler.ir.tensors import F32, Source
from hearth.schemas.errors import CheckpointError


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
