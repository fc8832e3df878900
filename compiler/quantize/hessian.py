"""The Hessian of a layer's output error, H = mean of x^T x over calibration: damped, ordered and factored.

For a row w with codes that stand for q the layer's error is (w - q) H (w - q)^T. With H = (1 + F) D (1 + F)^T, F
strictly upper, it is the sum of D[j] * (e[j] + sum of e[i] F[i, j] over i < j)^2 for e = w - q: column after column,
what is wanted of column j is w[j] plus what the errors before it add. That is GPTQ's update without an inverse (QuIP's
LDLQ, Chee et al. 2023, arXiv:2307.13304, which shows the two equal).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32
from hearth.runtime import native

F64 = NDArray[np.float64]
I32 = NDArray[np.int32]

LANES = 16
DAMPING = 0.01  # of the mean of the diagonal
STEPS = 6  # tenfold dampings tried before a matrix is given up


@dataclass(frozen=True, eq=False)
class Factor:
    """order i32[K]: columns as they are coded; values f32[K, K up to 16]: F in that order."""

    order: I32
    values: F32


@dataclass(frozen=True, eq=False)
class Blocks:
    """Of the blocks on the diagonal, the last one filled up: inverse and F f32[B, b, b], D f32[B, b]."""

    inverse: F32
    factor: F32
    pivots: F32


@dataclass(frozen=True, eq=False)
class Hessian:
    """values f32[K, K up to a multiple of 16]: scaled by a power of two and damped; peak bytes 20 K^2 with `factor`."""

    values: F32
    diagonal: F32
    damping: float
    threads: int

    @property
    def columns(self) -> int:
        return len(self.values)

    @cached_property
    def factor(self) -> Factor:
        """With columns by falling diagonal (GPTQ's act-order)."""
        order = np.argsort(-self.diagonal, kind="stable").astype(np.int32)
        return Factor(order, _factor(self.values, order, self.damping, self.threads))

    def blocks(self, block: int) -> Blocks:
        """Inverse and factor of every block of columns, in float64 inside."""
        count = -(-self.columns // block)
        h = np.tile(np.eye(block), (count, 1, 1))
        for index in range(count):
            part = slice(index * block, min(self.columns, (index + 1) * block))
            size = part.stop - part.start
            h[index, :size, :size] = self.values[part, part]
        upper, pivots = _upper(h)
        inner = _inverse(upper)
        inverse = np.einsum("bji,bj,bjk->bik", inner, 1 / pivots, inner)
        return Blocks(
            *(np.ascontiguousarray(x, np.float32) for x in (inverse, upper - np.eye(block), pivots))
        )


def hessian(given: F32, threads: int, damping: float = DAMPING) -> Hessian | None:
    """Of f32[K, K], symmetric; None where no input was ever different from zero. ValueError if not finite."""
    diagonal = np.ascontiguousarray(np.diagonal(given), np.float32)
    mean = float(diagonal.mean(dtype=np.float64))
    if not np.isfinite(mean) or not np.isfinite(given).all() or (diagonal < 0).any():
        raise ValueError("a Hessian must be finite, its diagonal not negative")
    if mean == 0:
        return None
    exponent = int(np.frexp(mean)[1])
    k = len(given)
    values = np.zeros((k, -(-k // LANES) * LANES), np.float32)
    np.ldexp(given, -exponent, out=values[:, :k])
    added = damping * float(np.ldexp(mean, -exponent))
    scaled = np.ldexp(diagonal, -exponent)
    values[np.arange(k), np.arange(k)] = scaled + np.float32(added)
    return Hessian(values, scaled, added, threads)


def _factor(values: F32, order: I32, damping: float, threads: int) -> F32:
    """F f32[K, stride] in the order of coding; more damping where rounding made the matrix indefinite."""
    backwards = order[::-1]
    k, stride = values.shape
    for step in range(STEPS):
        matrix = np.zeros((k, stride))
        for row, column in enumerate(backwards):
            matrix[row, :k] = values[column, backwards]
        extra = 0.0 if step == 0 else damping * 10.0**step
        matrix[np.arange(k), np.arange(k)] += extra
        if native.cholesky(matrix, threads):
            return _unit(matrix, k, stride)
    raise ValueError("the Hessian is not positive, whatever its damping")


def _unit(matrix: F64, k: int, stride: int) -> F32:
    """From the lower factor of the columns backwards: divided by its diagonal, turned around, strictly upper."""
    factor = np.zeros((k, stride), np.float32)
    for start in range(0, k, 256):
        rows = slice(start, min(k, start + 256))
        low = matrix[k - rows.stop : k - rows.start, :k] / np.diagonal(matrix)[None, :k]
        factor[rows, :k] = np.triu(low[::-1, ::-1], rows.start + 1)
    return factor


def _upper(h: F64) -> tuple[F64, F64]:
    """h = u diag(d) u^T for matrices [B, b, b], u unit upper."""
    rest, size = h.copy(), h.shape[1]
    upper, pivots = np.tile(np.eye(size), (len(h), 1, 1)), np.empty(h.shape[:2])
    for j in range(size - 1, -1, -1):
        pivots[:, j] = rest[:, j, j]
        column = rest[:, :j, j] / pivots[:, j, None]
        upper[:, :j, j] = column
        rest[:, :j, :j] -= column[:, :, None] * column[:, None, :] * pivots[:, j, None, None]
    return upper, pivots


def _inverse(upper: F64) -> F64:
    """Of unit upper matrices."""
    inner = np.tile(np.eye(upper.shape[1]), (len(upper), 1, 1))
    for j in range(upper.shape[1]):  # columns left of j are done
        inner[:, :j, j] = -(inner[:, :j, :j] * upper[:, None, :j, j]).sum(axis=2)
    return inner
