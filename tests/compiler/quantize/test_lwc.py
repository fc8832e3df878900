"""The descent over groups: native equals the numpy definition; no row of a layer gets worse."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import FORMS, SHAPES, heavy, loss, products

from hearth.compiler.ir.tensors import F32, round_bf16
from hearth.compiler.quantize.gptq import gptq
from hearth.compiler.quantize.grid import I8, Grid
from hearth.compiler.quantize.hessian import Hessian, hessian
from hearth.compiler.quantize.lwc import CLIP, KEEP, Fit, block_of, descend, reference
from hearth.compiler.quantize.search import Steps, importance, nearest_levels, normal, search

WAYS = {"clips": (CLIP, False), "codes": (KEEP, True), "both": (CLIP, True)}


def _known(columns: int) -> Hessian:
    found = hessian(products(columns), 2)
    assert found is not None
    return found


def _start(rows: F32, grid: Grid, group: int, known: Hessian, fed: bool) -> tuple[Steps, I8]:
    steps = search(rows, importance(None, rows.shape[1]), grid, group, 2)
    if fed:
        return steps, gptq(rows, steps, grid, group, known.factor, 2)
    return steps, nearest_levels(rows, steps, grid, group, 2)


def _fit(known: Hessian, grid: Grid, group: int, way: str) -> Fit:
    trials, fed = WAYS[way]
    return Fit(known, known.blocks(block_of(grid, group, known.columns)), trials, 2, fed)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_native_equals_the_definition(form: str, name: str, way: str) -> None:
    grid, group = FORMS[form]
    rows = normal(heavy(SHAPES[name])).rows
    known = _known(rows.shape[1])
    fit = _fit(known, grid, group, way)
    steps, levels = _start(rows, grid, group, known, fit.fed)
    want, want_levels = reference(rows, steps, levels, grid, group, fit)
    for threads in (1, 3):
        moved = levels.copy()
        found = descend(rows, steps, moved, grid, group, fit, threads)
        np.testing.assert_array_equal(moved, want_levels)
        np.testing.assert_array_equal(found.multipliers, want.multipliers)
        np.testing.assert_array_equal(found.scale, want.scale)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("form", FORMS)
def test_no_row_gets_worse(form: str, way: str) -> None:
    grid, group = FORMS[form]
    rows = normal(heavy((40, 256))).rows
    known = _known(256)
    fit = _fit(known, grid, group, way)
    steps, levels = _start(rows, grid, group, known, fit.fed)
    moved = levels.copy()
    found = descend(rows, steps, moved, grid, group, fit, 2)
    h = known.values[:, :256]
    for row in range(len(rows)):
        part = slice(row, row + 1)
        before = loss(rows[part], levels[part] * steps.scale[part, None], h)
        after = loss(rows[part], moved[part] * found.scale[part, None], h)
        assert after <= before * (1 + 1e-4) + 1e-9
    if grid.bf16:
        np.testing.assert_array_equal(found.scale, round_bf16(found.scale))
