"""GPTQ's loop: native equals the numpy definition; the layer's error falls against rounding."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import FORMS, SHAPES, heavy, loss, products

from hearth.compiler.quantize.gptq import gptq, reference
from hearth.compiler.quantize.hessian import hessian
from hearth.compiler.quantize.search import importance, nearest_levels, normal, search


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", SHAPES)
def test_native_equals_the_definition(form: str, name: str) -> None:
    grid, group = FORMS[form]
    rows = normal(heavy(SHAPES[name])).rows
    columns = rows.shape[1]
    known = hessian(products(columns), 2)
    assert known is not None
    steps = search(rows, importance(None, columns), grid, group, 2)
    want = reference(rows, steps, grid, group, known.factor)
    for threads in (1, 3):
        np.testing.assert_array_equal(gptq(rows, steps, grid, group, known.factor, threads), want)


@pytest.mark.parametrize("form", FORMS)
def test_the_layer_loses_less(form: str) -> None:
    grid, group = FORMS[form]
    rows, h = normal(heavy((40, 256))).rows, products(256)
    known = hessian(h, 2)
    assert known is not None
    steps = search(rows, importance(None, 256), grid, group, 2)
    rounded = nearest_levels(rows, steps, grid, group, 2)
    fed = gptq(rows, steps, grid, group, known.factor, 2)
    losses = [loss(rows, levels * steps.scale[:, None], h) for levels in (rounded, fed)]
    assert losses[1] < 0.6 * losses[0]


def test_a_diagonal_hessian_rounds() -> None:
    """Inputs that do not move together: nothing is passed on."""
    grid, group = FORMS["int4"]
    rows = normal(heavy((8, 64))).rows
    known = hessian(np.diag(np.arange(1, 65, dtype=np.float32)), 1)
    assert known is not None
    steps = search(rows, importance(None, 64), grid, group, 1)
    np.testing.assert_array_equal(
        gptq(rows, steps, grid, group, known.factor, 1), nearest_levels(rows, steps, grid, group, 1)
    )
