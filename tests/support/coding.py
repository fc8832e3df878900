"""Weights and Hessians for the tests of methods that code weights."""

from __future__ import annotations

import numpy as np

from hearth.compiler.ir.tensors import F32, linear_levels
from hearth.compiler.quantize.grid import Grid, int4_grid, int8_grid, table_grid
from hearth.compiler.quantize.tables import nf4

SHAPES = {
    "one": (1, 1),
    "tail_k": (33, 172),
    "tail_n": (17, 128),
    "odd": (7, 70),
    "wide": (34, 300),
}
FORMS: dict[str, tuple[Grid, int]] = {
    "int8": (int8_grid(), 0),
    "int4": (int4_grid(), 32),
    "int2": (table_grid(linear_levels(2)), 32),
    "int6": (table_grid(linear_levels(6)), 128),
    "nf4": (table_grid(nf4()), 64),
}


def heavy(shape: tuple[int, int], seed: int = 0) -> F32:
    """Weights with heavy tails and columns of different sizes; the third row of more than five is zero."""
    rng = np.random.default_rng([seed, *shape])
    weights = rng.standard_t(4, shape) * rng.lognormal(0, 0.6, (1, shape[1]))
    if shape[0] > 5:
        weights[2] = 0
    return weights.astype(np.float32)


def products(columns: int, seed: int = 0) -> F32:
    """The Hessian f32[K, K] of correlated inputs of different loudness; one of more than five is never heard."""
    rng = np.random.default_rng([seed, columns])
    mixed = rng.standard_normal((columns, columns)) / np.sqrt(columns) + np.eye(columns)
    x = rng.standard_normal((2 * columns + 5, columns)) @ mixed * rng.lognormal(0, 0.5, columns)
    if columns > 5:
        x[:, 3] = 0
    return (x.T @ x / len(x)).astype(np.float32)


def loss(weights: F32, coded: F32, hessian: F32) -> float:
    """Sum over the rows of (w - q) H (w - q)^T, in float64."""
    rest = weights.astype(np.float64) - coded
    return float(((rest @ hessian.astype(np.float64)) * rest).sum())
