"""Tables of levels: NF4, and those learned from a tensor."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import heavy

from hearth.compiler.ir.tensors import linear_levels
from hearth.compiler.quantize.grid import I8, table_grid
from hearth.compiler.quantize.search import importance, nearest_levels, normal, search
from hearth.compiler.quantize.tables import learned, nf4


def _error(weights: np.ndarray, table: I8) -> float:
    data, h = normal(weights), importance(None, weights.shape[1])
    grid = table_grid(table)
    steps = search(data.rows, h, grid, 32, 2)
    levels = nearest_levels(data.rows, steps, grid, 32, 2)
    scale = data.scale(steps.scale)[:, None].astype(np.float64)
    return float(((weights - levels * scale) ** 2).sum())


def test_nf4_has_the_published_levels() -> None:
    assert nf4().tolist() == [
        -127,
        -88,
        -67,
        -50,
        -36,
        -23,
        -12,
        0,
        10,
        20,
        31,
        43,
        56,
        71,
        92,
        127,
    ]


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_a_learned_table_is_better_than_even_levels(bits: int) -> None:
    weights = heavy((64, 192), bits)
    h = importance(None, 192)
    table = learned(weights, h, bits, 32, 1)
    assert table.shape == (1 << bits,) and table.dtype == np.int8
    assert (np.diff(table.astype(int)) >= 0).all()
    assert np.abs(table.astype(int)).max() == 127
    assert _error(weights, table) < _error(weights, linear_levels(bits))
    np.testing.assert_array_equal(table, learned(weights, h, bits, 32, 3))


def test_a_table_of_nothing_is_a_table() -> None:
    table = learned(np.zeros((4, 64), np.float32), importance(None, 64), 4, 32, 1)
    assert (np.diff(table.astype(int)) >= 0).all()
