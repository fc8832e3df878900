"""Hessians: damped, factored in the order of coding, inverted block by block."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import products

from hearth.compiler.quantize.hessian import Hessian, hessian


def _known(columns: int) -> Hessian:
    found = hessian(products(columns), 2)
    assert found is not None
    return found


@pytest.mark.parametrize("columns", [1, 5, 16, 70, 172, 300])
def test_the_factor_is_the_hessians(columns: int) -> None:
    known = _known(columns)
    factor = known.factor
    assert sorted(factor.order) == list(range(columns))
    assert (np.diff(known.diagonal[factor.order]) <= 0).all()
    ordered = known.values[:, :columns][np.ix_(factor.order, factor.order)].astype(np.float64)
    upper = np.eye(columns) + factor.values[:, :columns]
    assert not np.tril(factor.values[:, :columns]).any()
    inner = np.linalg.inv(upper)
    pivots = inner @ ordered @ inner.T
    size = np.abs(ordered).max()
    np.testing.assert_allclose(pivots - np.diag(np.diagonal(pivots)), 0, atol=1e-5 * size)
    assert (np.diagonal(pivots) > 0).all()


def test_the_factor_does_not_depend_on_threads() -> None:
    given = products(300)
    factors = [found.factor.values for threads in (1, 2, 5) if (found := hessian(given, threads))]
    for each in factors[1:]:
        np.testing.assert_array_equal(each, factors[0])


@pytest.mark.parametrize(("columns", "block"), [(172, 32), (70, 128), (1, 32), (256, 64)])
def test_blocks_are_inverted_and_factored(columns: int, block: int) -> None:
    known = _known(columns)
    blocks = known.blocks(block)
    for index in range(-(-columns // block)):
        part = slice(index * block, min(columns, (index + 1) * block))
        size = part.stop - part.start
        h = known.values[part, part].astype(np.float64)
        inverse = blocks.inverse[index, :size, :size].astype(np.float64)
        np.testing.assert_allclose(h @ inverse, np.eye(size), atol=1e-4)
        upper = np.eye(size) + blocks.factor[index, :size, :size]
        made = upper * blocks.pivots[index, :size] @ upper.T
        np.testing.assert_allclose(made, h, atol=1e-5 * np.abs(h).max())


def test_singular_and_dead_inputs_are_damped() -> None:
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    x[:, 10] = 0
    known = hessian(x.T @ x / 3, 2)
    assert known is not None
    assert np.isfinite(known.factor.values).all()


def test_what_is_no_hessian() -> None:
    assert hessian(np.zeros((8, 8), np.float32), 1) is None
    for bad in (np.nan, np.inf, -1):
        given = np.eye(8, dtype=np.float32)
        given[2, 2] = bad
        with pytest.raises(ValueError):
            hessian(given, 1)
    indefinite = np.full((8, 8), 1e6, np.float32) * np.where(np.eye(8), 1e-6, 1).astype(np.float32)
    found = hessian(indefinite, 1)
    assert found is not None
    with pytest.raises(ValueError):
        found.factor  # noqa: B018


def test_any_magnitude_gives_the_same_factor() -> None:
    given = products(70)
    plain, large = hessian(given, 1), hessian(given * np.float32(2.0**60), 1)
    assert plain is not None and large is not None
    np.testing.assert_array_equal(plain.factor.values, large.factor.values)
