"""Stored tensors as lazy sources of the IR, read row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from hearth.compiler.frontend.onnx.model import Initializer
from hearth.compiler.ir.tensors import F32, Source

STORED: Mapping[int, str] = {
    TensorProto.FLOAT: "f32",
    TensorProto.FLOAT16: "f16",
    TensorProto.BFLOAT16: "bf16",
    TensorProto.DOUBLE: "f32",
}


@dataclass(frozen=True, eq=False)
class InitializerSource:
    """A float initializer of one or two axes."""

    initializer: Initializer

    @property
    def shape(self) -> tuple[int, ...]:
        return self.initializer.shape

    @property
    def stored(self) -> str:
        return STORED[self.initializer.dtype]

    def rows(self, start: int, stop: int) -> F32:
        stop = min(stop, self.shape[0])
        return np.ascontiguousarray(self.initializer.rows(start, stop), np.float32)


@dataclass(frozen=True, eq=False)
class OrderedRows:
    """Rows of a source in another order, or some of them."""

    source: Source
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.order), *self.source.shape[1:])

    @property
    def stored(self) -> str:
        return self.source.stored

    def rows(self, start: int, stop: int) -> F32:
        wanted = self.order[start:stop]
        if not wanted:
            return np.empty((0, *self.shape[1:]), np.float32)
        low, high = min(wanted), max(wanted) + 1
        rows = self.source.rows(low, high)[np.asarray(wanted) - low]
        return np.asarray(rows, np.float32)
