"""GPTAQ: weights that make up for what the layers before have lost (Li et al. 2025, arXiv:2504.02692).

The inputs xq of a linear differ from xf, those of the float model. Its float weights W do best on xq as
W' = W + W C (H + d I)^-1 with H = mean xq^T xq, C = mean (xf - xq)^T xq and d a hundredth of H's mean diagonal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.calibrate.statistics import CHUNK
from hearth.compiler.ir.tensors import Source

F32 = NDArray[np.float32]
DAMP = np.float32(0.01)


@dataclass(frozen=True, eq=False)
class Shifted:
    """W' of a weight W, row range by row range."""

    source: Source
    factor: F32  # [K, K], C (H + d I)^-1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape

    @property
    def stored(self) -> str:
        return "f32"

    def rows(self, start: int, stop: int) -> F32:
        weights = self.source.rows(start, stop)
        return weights + weights @ self.factor


def shift_factor(exact: F32, coded: F32, hessian: F32) -> F32:
    """C (H + d I)^-1 of inputs f32[T, K] of the float model and of the coded one: f32[K, K]."""
    rows, k = exact.shape
    cross = np.zeros((k, k), np.float32)
    for start in range(0, rows, CHUNK):
        part = coded[start : start + CHUNK]
        cross += (exact[start : start + CHUNK] - part).T @ part
    cross /= np.float32(rows)
    return np.ascontiguousarray(np.linalg.solve(damped(hessian), cross.T).T)


def damped(hessian: F32) -> F32:
    """H + d I; a diagonal of zeros becomes ones."""
    found = hessian.copy()
    mean = hessian.diagonal().mean()
    found[np.diag_indices(len(found))] += DAMP * mean if mean > 0 else np.float32(1)
    return found
