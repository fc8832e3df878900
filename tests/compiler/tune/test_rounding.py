"""Roundings: what the runtime's codes stand for, wherever an archive rounds; gradients pass straight through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.checkpoint import Shape, write_checkpoint
from support.kernels import Matrix, call, kernel_id, need, rows_of
from support.statics import measured

from hearth.compiler import frontend
from hearth.compiler.calibrate.driver import Job
from hearth.compiler.calibrate.stages import every_row
from hearth.compiler.frontend import SourceModel
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Linear
from hearth.compiler.ir.tensors import F32, QuantisedSource, Source, read
from hearth.compiler.ir.types import Static
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.quantize import Scheme, Statics, quantize
from hearth.compiler.quantize.coding import RoundedSource
from hearth.compiler.quantize.schemes import INT8, Activations
from hearth.compiler.tune.fit import loss
from hearth.compiler.tune.gradient import Network
from hearth.compiler.tune.rounding import UNROUNDED, Fixed, PerRow, roundings
from hearth.runtime import native
from hearth.schemas.commands import KVScheme

IDS = np.array([5, 9, 2, 30, 9, 1, 17, 80, 3, 3, 64, 21], np.int32)
STATIC = Static(0.0625, -41)
ARCHIVES: dict[str, tuple[Activations, KVScheme]] = {
    "dynamic": ("dynamic", KVScheme.INT8),
    "dynamic, float cache": ("dynamic", KVScheme.F32),
    "static": ("static", KVScheme.INT8_STATIC),
    "int8 cache alone": ("none", KVScheme.INT8),
    "f16 cache": ("none", KVScheme.F16),
}
Coded = dict[str, QuantisedSource | Source]


def loud(shape: tuple[int, int]) -> F32:
    """Rows of different sizes, one of them zero, with outliers."""
    x = np.random.default_rng(7).standard_t(3, shape) * 2.0 ** np.arange(-4, shape[0] - 4)[:, None]
    x[1] = 0
    return x.astype(np.float32)


@pytest.mark.parametrize("kernel", rows_of("quantize"), ids=kernel_id)
def test_rows_are_what_the_kernels_codes_stand_for(kernel: native.Kernel) -> None:
    need(kernel)
    x = loud((6, 172))
    records = Matrix.blank(6, 256 + 256 // 8 + 4 + 60, 0, align=64)
    call(kernel, [Matrix.of(x, 4), records], [172], rows=6)
    held = records.values(np.uint8)
    codes = held[:, :172].view(np.int8)
    scale = np.ascontiguousarray(held[:, 288:292]).view(np.float32)
    np.testing.assert_array_equal(PerRow().rounded(x), codes.astype(np.float32) * scale)


@pytest.mark.parametrize("kernel", rows_of("quantize_static"), ids=kernel_id)
def test_fixed_codes_are_those_of_the_kernels(kernel: native.Kernel) -> None:
    need(kernel)
    x = loud((6, 172))
    records = Matrix.blank(6, 256 + 256 // 8 + 4 + 60, 0, align=64)
    call(kernel, [Matrix.of(x, 4), records], [172], [STATIC.scale, STATIC.zero], rows=6)
    codes = records.values(np.uint8)[:, :172].view(np.int8).astype(np.float32)
    wanted = (codes - np.float32(STATIC.zero)) * np.float32(STATIC.scale)
    np.testing.assert_array_equal(Fixed(STATIC).rounded(x), wanted)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("source"), Shape(tied=False))


def float_graph(source: Path, kv: KVScheme) -> Graph:
    kept = KVScheme.F32 if kv is KVScheme.INT8_STATIC else kv
    model = frontend.load(source, context=32, kv=kept)
    assert isinstance(model, SourceModel)
    return run_passes(FLOAT_PASSES, model.graph, frozenset(("fold-norm-gain", "last-rows")))


def coded_weights(graph: Graph, scheme: Scheme) -> Coded:
    found: Coded = {}
    for name, (weight, each) in Job(graph, scheme, IDS[None]).weights().items():
        assert isinstance(weight.value, Source)
        found[name] = RoundedSource(weight.value, each)
    return found


def values_of(network: Network, coded: Coded) -> dict[str, F32]:
    found = {}
    for each in network.constants:
        value = coded.get(each.name, each.value)
        if isinstance(value, QuantisedSource):
            found[each.name] = value.quantised(0, value.shape[0]).dequantise()
        else:
            assert isinstance(value, Source)
            found[each.name] = read(value)
    return found


@pytest.mark.parametrize("case", ARCHIVES)
def test_the_network_rounds_where_the_archive_does(case: str, source: Path) -> None:
    """Up to the order of float sums, and the few codes that it moves to their neighbours."""
    activations, kv = ARCHIVES[case]
    graph = float_graph(source, kv)
    statics = measured(float_graph(source, KVScheme.F32), "prefill", IDS.tolist())
    scheme = Scheme(INT8, INT8, activations, kv)
    coded = coded_weights(graph, scheme)
    archived = quantize(graph, scheme, coded, statics)
    wanted, _ = evaluate(archived, "prefill", IDS, State.empty(), logit_rows=len(IDS))
    logits = every_row(graph, "prefill")[0]
    exact, rounded = Network(logits), Network(logits, roundings(scheme, coded, statics))
    values = values_of(exact, coded)
    floats, found = (each.run(IDS, values).result for each in (exact, rounded))
    assert np.linalg.norm(found - wanted) <= 0.1 * np.linalg.norm(floats - wanted)


def test_straight_through_is_the_slope_over_many_steps() -> None:
    """Of fixed codes 1 within their range and 0 beyond; of a row's own codes 1 wherever the largest value stays."""
    fixed, x = Fixed(STATIC), np.linspace(-8, 12, 400, dtype=np.float32)[None]
    step = np.float32(20 * STATIC.scale)
    slope = (fixed.rounded(x + step) - fixed.rounded(x - step)) / (2 * step)
    low, high = (-127 - STATIC.zero) * STATIC.scale, (127 - STATIC.zero) * STATIC.scale
    passed = fixed.passed(x, np.ones_like(x))
    whole = (x - step > low) & (x + step < high)
    outside = (x + step < low) | (x - step > high)
    assert whole.any() and outside.any()
    np.testing.assert_allclose(slope[whole], 1, atol=1 / 20)
    np.testing.assert_array_equal(slope[outside], 0)
    np.testing.assert_array_equal(passed[whole], 1)
    np.testing.assert_array_equal(passed[outside], 0)
    row = np.linspace(-1, 1, 255, dtype=np.float32)[None]
    moved = np.float32(20 / 127) * (np.abs(row) < 0.5)
    up, down = PerRow().rounded(row + moved), PerRow().rounded(row - moved)
    np.testing.assert_allclose((up - down)[moved > 0], 2 * 20 / 127, rtol=1 / 20)
    np.testing.assert_array_equal(PerRow().passed(row, row), row)


def test_the_gradient_is_exact_where_nothing_is_rounded_behind(source: Path) -> None:
    """The head's weight meets codes, and its result is a float: differences know no steps."""
    graph = float_graph(source, KVScheme.INT8)
    scheme = Scheme(INT8, INT8, "dynamic", KVScheme.INT8)
    coded = coded_weights(graph, scheme)
    logits = every_row(graph, "prefill")[0]
    assert isinstance(logits, Linear)
    network = Network(logits, roundings(scheme, coded, Statics()))
    values, floats = values_of(network, coded), values_of(network, {})
    wanted = Network(logits).run(IDS, floats).result
    run, found = network.run(IDS, values), dict[str, F32]()
    run.gradients(loss(wanted, run.result)[1], found)
    name = logits.weight.name  # type: ignore[attr-defined]
    share = np.float32(0.003 * np.linalg.norm(values[name]) / np.linalg.norm(found[name]))
    way = found[name] * share
    sides = [
        loss(wanted, network.run(IDS, values | {name: values[name] + side * way}).result)[0]
        for side in (1, -1)
    ]
    predicted = float((found[name] * way).sum(dtype=np.float64))
    assert abs((sides[0] - sides[1]) / 2 - predicted) <= 0.02 * abs(predicted)


def test_nothing_is_rounded_unless_said() -> None:
    x = loud((3, 5))
    assert UNROUNDED.of_input("w").rounded(x) is x
