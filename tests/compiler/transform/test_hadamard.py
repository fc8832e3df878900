"""Hadamard matrices: exact in integers for every order that a factor may have."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.transform.hadamard import WILLIAMSON, dense, factors, sylvester

# widths of real models: hidden sizes, heads and feed-forward sizes
WIDTHS = {
    64: ((), 64),
    80: ((20,), 4),
    128: ((), 128),
    192: ((12,), 16),
    576: ((36,), 16),
    768: ((12,), 64),
    896: ((28,), 32),
    1536: ((12,), 128),
    2048: ((), 2048),
    3072: ((12,), 256),
    4864: ((76,), 64),
    5120: ((20,), 256),
    8960: ((20, 28), 16),
    11008: ((172,), 64),
    13824: ((12, 36), 32),
    14336: ((28,), 512),
    18944: ((148,), 128),
    29568: ((44, 84), 8),
}
PALEY_ONE = (
    4,
    8,
    12,
    20,
    24,
    28,
    32,
    44,
    48,
    60,
    68,
    72,
    80,
    84,
    104,
    108,
    128,
    132,
    140,
    164,
    244,
)
PALEY_TWO = (12, 20, 28, 36, 52, 60, 76, 84, 100, 108, 124, 148, 180, 196, 244)


def assert_hadamard(matrix: np.ndarray) -> None:
    n = len(matrix)
    assert matrix.dtype == np.int8 and set(np.unique(matrix)) <= {-1, 1}
    wide = matrix.astype(np.int64)
    np.testing.assert_array_equal(wide @ wide.T, n * np.eye(n, dtype=np.int64))


@pytest.mark.parametrize("order", [1, 2, 4, 8, 64, 256])
def test_sylvester(order: int) -> None:
    assert_hadamard(sylvester(order))


@pytest.mark.parametrize("order", sorted({*PALEY_ONE, *PALEY_TWO, *(4 * m for m in WILLIAMSON)}))
def test_dense_factors(order: int) -> None:
    assert_hadamard(dense(order))


@pytest.mark.parametrize("order", [2 * 3, 40, 92 * 2, 188])
def test_an_order_that_no_construction_gives_is_refused(order: int) -> None:
    with pytest.raises(ValueError, match=str(order)):
        dense(order)


@pytest.mark.parametrize("width", WIDTHS)
def test_widths_of_models_are_products_of_known_orders(width: int) -> None:
    found = factors(width)
    assert (found.dense, found.sylvester) == WIDTHS[width]
    assert found.blocks == 1 and found.order == width
    for order in found.dense:
        assert_hadamard(dense(order))


@pytest.mark.parametrize(
    ("width", "blocks", "order"),
    [(6, 3, 2), (37, 37, 1), (260, 5, 52), (188, 47, 4), (30, 15, 2)],
)
def test_other_widths_fall_back_to_blocks(width: int, blocks: int, order: int) -> None:
    found = factors(width)
    assert (found.blocks, found.order) == (blocks, order)
