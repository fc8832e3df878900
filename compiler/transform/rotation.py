"""Rotations of rows: random signs, then a Hadamard matrix over its root, the same bits on every machine.

Values become integers of one power of two per row, so that every sum on the way is exact in float64, in whatever order
a matrix product adds; one rounding makes them floats again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.tensors import F32
from hearth.compiler.transform.hadamard import Factors, Signs, dense, factors, sylvester

F64 = NDArray[np.float64]
BLOCK_ELEMENTS = 1 << 19
EXACT_BITS = 52  # integers of float64, and the sign
WIDEST_SYLVESTER = 64  # larger ones are products of smaller ones


class Map(Protocol):
    """A linear map of rows f32[m, size] to rows of the same size; rows are independent of each other."""

    @property
    def size(self) -> int: ...

    def apply(self, rows: F32) -> F32: ...


@dataclass(frozen=True, eq=False)
class Rotation:
    """y = (x * signs) @ H / sqrt(order), in each block of `order` columns; H the Kronecker product of the factors."""

    size: int
    signs: Signs  # i8[size]
    factors: tuple[Signs, ...]

    @property
    def order(self) -> int:
        """Columns of a block."""
        return int(np.prod([len(factor) for factor in self.factors], dtype=np.int64))

    def apply(self, rows: F32) -> F32:
        """f32[m, size]: each value within one rounding and 2^-38 of the row's largest."""
        step = max(1, BLOCK_ELEMENTS // self.size)
        turned = np.empty(rows.shape, np.float32)
        for at in range(0, len(rows), step):
            turned[at : at + step] = self._block(rows[at : at + step])
        return turned

    def _block(self, rows: F32) -> F32:
        bits = EXACT_BITS - self.order.bit_length()
        _, exponent = np.frexp(np.abs(rows).max(axis=1, initial=0))
        shift = (bits - exponent)[:, None]
        values = np.rint(np.ldexp(rows.astype(np.float64), shift)) * self.signs
        inner = self.order
        for factor in self.factors:
            inner //= len(factor)
            values = _multiplied(values.reshape(-1, len(factor), inner), factor)
        scaled = values.reshape(rows.shape) * (1 / np.sqrt(np.float64(self.order)))
        return np.asarray(np.ldexp(scaled, -shift), np.float32)


def _multiplied(values: F64, factor: Signs) -> F64:
    """y[., j, i] = sum over k of x[., k, i] * factor[k, j], exact."""
    matrix = factor.astype(np.float64)
    if values.shape[2] == 1:
        return np.asarray(values[:, :, 0] @ matrix, np.float64)
    return np.asarray(np.matmul(matrix.T, values), np.float64)


def rotation(order: int, size: int, seed: int | None = 0) -> Rotation:
    """The rotation of blocks of `order` columns within `size`, the same in each; seed None: without signs."""
    signs = np.ones(order, np.int8) if seed is None else random_signs(order, seed)
    found = factors(order)
    return Rotation(size, np.tile(signs, size // order), matrices(found))


def matrices(found: Factors) -> tuple[Signs, ...]:
    """The factors as matrices, outermost first; a large power of two as several."""
    parts = [dense(order) for order in found.dense]
    left = found.sylvester
    while left > WIDEST_SYLVESTER:
        parts.append(sylvester(WIDEST_SYLVESTER))
        left //= WIDEST_SYLVESTER
    return (*parts, sylvester(left))


def random_signs(count: int, seed: int) -> Signs:
    """+1 and -1 from SplitMix64, the same in every version of every library."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        top = (z ^ (z >> np.uint64(31))) >> np.uint64(63)
    return np.where(top == 1, np.int8(-1), np.int8(1))


@dataclass(frozen=True)
class Centre:
    """y = x - mean(x), row by row: what LayerNorm does first, moved into the weights that write its input."""

    size: int

    def apply(self, rows: F32) -> F32:
        """f32[m, size]; the sum is taken in float64, column by column."""
        total = np.zeros(len(rows))
        for column in rows.T:
            total += column
        return np.asarray(rows - (total / self.size)[:, None], np.float32)


@dataclass(frozen=True)
class Chain:
    """One map after the other."""

    first: Map
    second: Map

    @property
    def size(self) -> int:
        return self.first.size

    def apply(self, rows: F32) -> F32:
        return self.second.apply(self.first.apply(rows))
