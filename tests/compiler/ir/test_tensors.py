"""Numbers that weights are made of: bf16, levels of a table times a multiplier, and the types they have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.graphs import Draw

from hearth.compiler.ir.ops import IRError, Linear, Quantize, tensor
from hearth.compiler.ir.tensors import effective_levels, linear_levels, round_bf16
from hearth.schemas.dtypes import DType


@given(st.lists(st.floats(-(2.0**120), 2.0**120, width=32), min_size=1, max_size=9))
def test_bf16_is_the_nearest_and_even_where_two_are(values: list[float]) -> None:
    x = np.array(values, np.float32)
    found = round_bf16(x)
    bits = found.view(np.uint32)
    assert not (bits & 0xFFFF).any()
    assert np.array_equal(round_bf16(found), found)
    below = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    above = (below.view(np.uint32) + np.uint32(0x10000)).view(np.float32)  # away from zero
    down, up = (np.abs(each.astype(np.float64) - x.astype(np.float64)) for each in (below, above))
    even = (below.view(np.uint32) & 0x10000) == 0
    assert np.array_equal(found, np.where((down < up) | ((down == up) & even), below, above))


def test_bf16_halves_go_to_even() -> None:
    ties = np.array([0x3F808000, 0x3F818000, 0xBF808000], np.uint32).view(np.float32)
    expected = np.array([0x3F800000, 0x3F820000, 0xBF800000], np.uint32)
    assert np.array_equal(round_bf16(ties).view(np.uint32), expected)


def test_every_level_times_every_multiplier() -> None:
    levels, multipliers = np.arange(-128, 128), np.arange(-127, 128)
    found = effective_levels(levels.astype(np.int8)[:, None], multipliers.astype(np.int8))
    exact = np.floor(levels[:, None] * multipliers / 128 + 0.5)
    assert np.array_equal(found, exact)
    assert (exact.min(), exact.max()) == (-127, 127)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_linear_levels_fill_int8_evenly(bits: int) -> None:
    levels = linear_levels(bits)
    assert levels.dtype == np.int8
    assert levels.tolist() == list(range(-128, 128, 256 >> bits))


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6])
def test_a_weight_with_a_table_has_a_type_of_its_own(bits: int) -> None:
    """It takes q8 rows as int8 and int4 weights do."""
    weight = Draw().tabled("w", 6, 8, bits, 32)
    assert tensor(weight).dtype is DType(f"t{bits}")
    x = Draw().constant("x", 4, 8)
    assert tensor(Linear(Quantize(x), weight)).shape == (4, 6)
    assert tensor(Linear(x, weight)).shape == (4, 6)
    with pytest.raises(IRError, match="q8 rows need"):
        Linear(Quantize(x), Draw().grouped("w", 6, 8, 4, 16))
