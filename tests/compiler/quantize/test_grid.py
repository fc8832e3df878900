"""Grids: the table of half steps finds the nearest level."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import FORMS

from hearth.compiler.ir.tensors import QuantisedRows
from hearth.compiler.quantize.grid import table_grid
from hearth.compiler.quantize.tables import nf4


@pytest.mark.parametrize("form", FORMS)
def test_the_nearest_level_is_found(form: str) -> None:
    grid, _ = FORMS[form]
    x = np.random.default_rng(0).uniform(-140, 140, 2000)
    cells = np.clip(np.floor(x * 2) + 256, 0, 511).astype(int)
    for m in range(grid.lowest, grid.highest + 1, 7):
        levels = grid.levels[m - grid.lowest].astype(float)
        found = np.abs(x - grid.values[m - grid.lowest, cells])
        np.testing.assert_array_equal(found, np.abs(x[:, None] - levels).min(axis=1))
        codes = grid.nearest[m - grid.lowest, cells]
        np.testing.assert_array_equal(
            grid.levels[m - grid.lowest, codes], grid.values[m - grid.lowest, cells]
        )


def test_levels_are_those_of_quantised_rows() -> None:
    grid, codes = table_grid(nf4()), np.arange(16, dtype=np.int8)[None]
    for m in (-127, -3, 0, 64, 127):
        multiplier = np.full((1, 1), m, np.int8)
        rows = QuantisedRows(codes, multiplier, np.ones(1, np.float32), 16, nf4())
        np.testing.assert_array_equal(grid.levels[m + 127], rows.effective()[0])
