"""Method tune: the divergence falls; scales and multipliers stay what layouts hold."""

from __future__ import annotations

import numpy as np
import pytest
from support.coding import heavy

from hearth.compiler.ir.tensors import ArraySource, round_bf16
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import parse_scheme
from hearth.compiler.tune.fit import Rescaled, Tuned


@pytest.mark.parametrize("name", ["int8", "int4_g32", "lut3_g32", "nf4_g64"])
def test_a_rescaled_weight_is_its_codes_under_other_steps(name: str) -> None:
    source = RoundedSource(ArraySource(heavy((12, 172))), parse_scheme(name))
    rows = source.quantised(0, 12)
    groups = -(-172 // source.group) if source.tabled else 1
    factors = np.random.default_rng(0).uniform(0.8, 1.25, (12, groups)).astype(np.float32)
    made = Rescaled(source, factors)
    found = made.quantised(0, 12)
    np.testing.assert_array_equal(found.codes, rows.codes)
    assert (made.shape, made.bits, made.group) == (source.shape, source.bits, source.group)
    wanted = Tuned(rows.dequantise(), source.group if source.tabled else 172).scaled(factors)
    near = 0.04 if source.tabled else 1e-6
    assert np.abs(found.dequantise() - wanted).max() <= near * np.abs(wanted).max()
    assert not found.dequantise()[2].any()
    if source.tabled:
        np.testing.assert_array_equal(found.scale, round_bf16(found.scale))
        assert found.multipliers is not None and np.abs(found.multipliers.astype(int)).max() <= 127
    part = made.quantised(3, 7)
    np.testing.assert_array_equal(part.dequantise(), found.dequantise()[3:7])


def test_gradients_of_factors_are_sums_over_groups() -> None:
    values, given = heavy((5, 70)), heavy((5, 70), 1)
    each = Tuned(values, 32)
    assert each.ones.shape == (5, 3)
    product = values * given
    np.testing.assert_allclose(each.gradient(given)[:, 2], product[:, 64:].sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(each.gradient(given)[:, 0], product[:, :32].sum(axis=1), rtol=1e-4)
    np.testing.assert_array_equal(Tuned(values[0], 1).scaled(values[1]), values[0] * values[1])
