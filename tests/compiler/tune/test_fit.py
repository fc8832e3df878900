"""Method tune: the archive's divergence falls; scales and multipliers stay what layouts hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import Shape, write_checkpoint
from support.coding import heavy
from support.statics import float_model

from hearth.compiler.calibrate.driver import Job
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.ir.tensors import ArraySource, QuantisedSource, Source, read, round_bf16
from hearth.compiler.ir.types import Static
from hearth.compiler.quantize import Scheme
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import INT8, parse_scheme
from hearth.compiler.tune.fit import Rescaled, Tuned, loss, tune
from hearth.compiler.tune.gradient import Network
from hearth.compiler.tune.rounding import Fixed, PerRow, Roundings
from hearth.runtime.progress import Silent


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


def test_what_is_tuned_is_what_the_archive_computes(tmp_path: Path) -> None:
    """With coarse inputs the least divergence lies elsewhere than with floats."""
    model, graph = float_model(write_checkpoint(tmp_path / "source", Shape(tied=False)), 32)
    ids = np.random.default_rng(4).integers(0, model.dims.vocab, (8, 24)).astype(np.int32)
    weights = Job(graph, Scheme(INT8, INT8, "dynamic"), ids).weights()
    coded = {name: RoundedSource(each.value, scheme) for name, (each, scheme) in weights.items()}
    coarse = Roundings({name: Fixed(Static(1.0)) for name in coded}, PerRow(), PerRow())
    logits = every_row(graph, "prefill")[0]
    exact, rounded = Network(logits), Network(logits, coarse)
    floats = {each.name: read(each.value) for each in exact.constants}

    def lost(sources: Mapping[str, QuantisedSource | Source]) -> float:
        now = floats | {
            name: each.quantised(0, each.shape[0]).dequantise()
            if isinstance(each, QuantisedSource)
            else read(each)
            for name, each in sources.items()
        }
        both = ((exact.run(each, floats).result, rounded.run(each, now).result) for each in ids)
        return float(np.mean([loss(wanted, found)[0] for wanted, found in both]))

    before = min(lost(coded), lost(tune(logits, coded, ids, Silent())))
    assert lost(tune(logits, coded, ids, Silent(), roundings=coarse)) < 0.97 * before
