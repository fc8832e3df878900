"""Calling table rows in tests: the rows of an op, operands that end on guard pages, gaps between rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hearth.runtime import native
from hearth.schemas.commands import BY_NAME
from support.guard import guarded

F32 = NDArray[np.float32]
UNTOUCHED = 0xA5
THREADS = (1, 2, 3)


def rows_of(op: str) -> list[native.Kernel]:
    """The table rows of one op."""
    return [kernel for kernel in native.kernels() if kernel.opcode == BY_NAME[op].opcode]


def need(kernel: native.Kernel) -> None:
    """Skip by name where this CPU lacks the ISA."""
    if kernel.isa not in native.isas():
        pytest.skip(f"this CPU lacks {kernel.isa} for {kernel.name}")


def kernel_id(kernel: object) -> str | None:
    """For parametrize(ids=...)."""
    return kernel.name if isinstance(kernel, native.Kernel) else None


@dataclass(frozen=True)
class Matrix:
    """f32[rows, cols] (or bytes) with `gap` bytes between rows, ending on a page without access."""

    memory: NDArray[np.uint8]
    rows: int
    nbytes: int
    gap: int

    @classmethod
    def of(cls, values: NDArray[Any], gap: int = 0, align: int = 1) -> Matrix:
        """Holds the values; what lies between the rows is garbage."""
        flat = np.ascontiguousarray(values)
        rows, nbytes = flat.shape[0], flat[0].nbytes
        spread = np.full((rows, nbytes + gap), UNTOUCHED, np.uint8)
        spread[:, :nbytes] = flat.view(np.uint8).reshape(rows, nbytes)
        return cls(guarded(spread.reshape(-1)[: spread.size - gap], align), rows, nbytes, gap)

    @classmethod
    def blank(cls, rows: int, nbytes: int, gap: int = 0, align: int = 1) -> Matrix:
        """To be written."""
        return cls.of(np.full((rows, nbytes), UNTOUCHED, np.uint8), gap, align)

    @property
    def stride(self) -> int:
        return self.nbytes + self.gap

    def values(self, dtype: Any = np.float32) -> NDArray[Any]:
        """The rows; fails where a kernel wrote between them."""
        tail = np.full(self.gap, UNTOUCHED, np.uint8)
        whole = np.concatenate([self.memory, tail]).reshape(self.rows, self.stride)
        assert (whole[:, self.nbytes :] == UNTOUCHED).all(), "a kernel wrote between rows"
        return np.ascontiguousarray(whole[:, : self.nbytes]).view(dtype)


def call(
    kernel: native.Kernel,
    operands: Sequence[Matrix | NDArray[Any] | None],
    ints: Sequence[int],
    floats: Sequence[float] = (),
    *,
    rows: int,
    tokens: int | None = None,
    position: int = 0,
    threads: int = 1,
) -> None:
    """native.call with the strides that the matrices have."""
    native.call(
        kernel.name,
        [each.memory if isinstance(each, Matrix) else each for each in operands],
        [each.stride if isinstance(each, Matrix) else 0 for each in operands],
        ints,
        floats,
        rows=rows,
        tokens=rows if tokens is None else tokens,
        position=position,
        threads=threads,
    )
