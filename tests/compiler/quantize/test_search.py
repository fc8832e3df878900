"""The search of steps: native equals the numpy definition, on any threads; never worse than plain scaling."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import FORMS, SHAPES, heavy

from hearth.compiler.ir.tensors import F32, round_bf16
from hearth.compiler.quantize.grid import Grid
from hearth.compiler.quantize.search import (
    Steps,
    importance,
    nearest_levels,
    normal,
    reference,
    search,
    spread,
    to_codes,
)


def _importance(columns: int) -> F32:
    diagonal = np.random.default_rng(columns).lognormal(0, 1, columns).astype(np.float32)
    diagonal[:1] = 0
    return importance(diagonal, columns)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_native_equals_the_definition(form: str, name: str) -> None:
    grid, group = FORMS[form]
    rows = normal(heavy(SHAPES[name])).rows
    for h in (importance(None, rows.shape[1]), _importance(rows.shape[1])):
        want = reference(rows, h, grid, group)
        for threads in (1, 3):
            found = search(rows, h, grid, group, threads)
            np.testing.assert_array_equal(found.multipliers, want.multipliers)
            np.testing.assert_array_equal(found.scale, want.scale)


def _error(rows: F32, steps: Steps, grid: Grid, group: int, h: F32) -> np.ndarray:
    levels = nearest_levels(rows, steps, grid, group, 2)
    return (h * (rows - levels * steps.scale[:, None].astype(np.float64)) ** 2).sum(axis=1)


@pytest.mark.parametrize("form", FORMS)
def test_no_row_is_worse_than_with_unclipped_steps(form: str) -> None:
    grid, group = FORMS[form]
    rows = normal(heavy((40, 256))).rows
    h = _importance(256)
    found = search(rows, h, grid, group, 2)
    span = group if grid.grouped else 256
    peaks = np.abs(rows.reshape(40, -1, span)).max(axis=2)
    scale = peaks.max(axis=1) / np.float32(grid.reach * grid.highest)
    scale = round_bf16(scale) if grid.bf16 else scale
    used = np.where(scale > 0, scale, 1)[:, None]
    m = np.clip(
        (peaks / (used * np.float32(grid.reach)) + 0.5).astype(int), grid.lowest, grid.highest
    )
    plain = Steps(m.astype(np.int8), scale)
    ours, theirs = (_error(rows, each, grid, group, h) for each in (found, plain))
    assert (ours <= theirs * (1 + 1e-5)).all()
    assert ours.sum() < 0.97 * theirs.sum()


@pytest.mark.parametrize("form", FORMS)
def test_importance_lowers_the_weighted_error(form: str) -> None:
    grid, group = FORMS[form]
    rows, h = normal(heavy((40, 256))).rows, _importance(256)
    with_h = search(rows, h, grid, group, 2)
    without = search(rows, importance(None, 256), grid, group, 2)
    assert _error(rows, with_h, grid, group, h).sum() < _error(rows, without, grid, group, h).sum()


def test_tables_have_scales_of_bf16() -> None:
    grid, group = FORMS["nf4"]
    found = search(normal(heavy((9, 96))).rows, importance(None, 96), grid, group, 2)
    np.testing.assert_array_equal(found.scale, round_bf16(found.scale))


def test_codes_stand_for_the_levels() -> None:
    for grid, group in FORMS.values():
        rows = normal(heavy((9, 172))).rows
        steps = search(rows, importance(None, 172), grid, group, 2)
        levels = nearest_levels(rows, steps, grid, group, 2)
        codes = to_codes(levels.copy(), steps.multipliers, grid, group, 2).astype(int) - grid.first
        at = spread(steps.multipliers, grid, group, 172)
        np.testing.assert_array_equal(grid.levels[at, codes], levels)


def test_rows_become_normal() -> None:
    weights = np.array([[0, 0], [3e38, 1], [1e-30, 1e-32], [1e-42, 0], [-4, 1]], np.float32)
    found = normal(weights)
    assert found.rows[0].max() == 0 and found.rows[3].max() == 0
    peaks = np.abs(found.rows[[1, 2, 4]]).max(axis=1)
    assert (peaks >= 0.5).all() and (peaks < 1).all()
    np.testing.assert_array_equal(
        found.scale(np.abs(found.rows[[0, 1, 2, 3, 4], [0, 0, 0, 0, 0]])[:5])[4], 4
    )
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError):
            normal(np.array([[1, bad]], np.float32))
