"""Smoothing of decoders: powers of two in existing operands, the function stays, loud channels end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from support.data import checkpoint
from support.graphs import Draw, Tiny, decoder
from support.smoothing import loudness, maxima

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Linear, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite
from hearth.compiler.ir.tensors import ArraySource, read
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.transform import quieten_peaks, rotate, smooth_decoder
from hearth.compiler.transform.mixed import ScaledRows
from hearth.compiler.transform.smooth_decoder import Columns
from hearth.schemas.commands import Activation, KVScheme

IDS = np.random.default_rng(3).integers(0, 53, 20)
LOUD = 64.0
GATE_UP = "model.layers.0.mlp.gate_proj+up_proj.weight"
QKV = "model.layers.0.self_attn.q_proj+k_proj+v_proj.weight"


def fused(graph: Graph) -> Graph:
    return run_passes(FLOAT_PASSES, graph)


def loud(graph: Graph, weight: str, row: int) -> Graph:
    """A row of a weight made loud, and nothing to undo it."""

    def rule(op: Any) -> Any:
        match op:
            case Constant(name=name) if name == weight:
                return Constant(name, ScaledRows(op.value, row, np.array([LOUD], np.float32)))
        return None

    return rewrite(graph, rule)


def weights(graph: Graph) -> dict[str, Constant]:
    return {op.name: op for op in order(all_outputs(graph)) if isinstance(op, Constant)}


def logits(graph: Graph, entry: str = "prefill", count: int = 20) -> np.ndarray:
    return run_entry(graph, entry, {"tokens": IDS[:count]})[0]["logits"]


TINY = (Tiny(), Tiny(bias=True, tied=False), Tiny(heads=3, kv_heads=1), Tiny(head_norms=True))


@pytest.mark.parametrize("tiny", TINY)
@pytest.mark.parametrize("norms", [True, False])
def test_the_function_stays_to_the_order_of_sums(tiny: Tiny, norms: bool) -> None:
    graph = fused(decoder(tiny))
    for weight, row in ((GATE_UP, 36 + 5), (QKV, (tiny.heads + tiny.kv_heads) * 8 + 3)):
        graph = loud(graph, weight, row)
    smoothed = smooth_decoder(graph, maxima(graph, IDS), norms=norms)
    assert smoothed is not graph
    verify(smoothed)
    for entry, count in (("prefill", 20), ("decode", 1)):
        expected = logits(graph, entry, count)
        assert (
            np.abs(logits(smoothed, entry, count) - expected).max() <= 1e-5 * np.abs(expected).max()
        )


def test_loud_channels_end_where_a_row_makes_them() -> None:
    graph = loud(loud(fused(decoder(Tiny(bias=True))), GATE_UP, 36 + 5), QKV, 6 * 8 + 3)
    before = maxima(graph, IDS)
    after = maxima(smooth_decoder(graph, before), IDS)
    for part in ("0.self_attn.o_proj", "0.mlp.down_proj"):
        assert loudness(before, part) > 25 and loudness(after, part) < 4


def test_factors_are_powers_of_two_and_shared_by_query_heads() -> None:
    graph = loud(fused(decoder(Tiny())), QKV, 6 * 8 + 3)
    smoothed = weights(smooth_decoder(graph, maxima(graph, IDS), norms=False))
    name = "model.layers.0.self_attn.o_proj.weight"
    before, after = (read(each[name].value) for each in (weights(graph), smoothed))  # type: ignore[arg-type]
    ratio = after / before
    np.testing.assert_array_equal(ratio, np.tile(ratio[0], (24, 1)))
    np.testing.assert_array_equal(np.frexp(ratio[0])[0], 0.5)
    heads = ratio[0].reshape(2, 2, 8)  # [KV head, query head, dim]
    np.testing.assert_array_equal(heads[:, 0], heads[:, 1])
    values = [read(each[QKV].value)[48:] for each in (weights(graph), smoothed)]  # type: ignore[arg-type]
    np.testing.assert_array_equal(values[1] * heads[:, 0].reshape(-1, 1), values[0])


def test_norms_take_factors_as_a_gain_of_both_entries() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    loudest = maxima(graph, IDS)
    loudest[QKV] = loudest[QKV].copy()
    loudest[QKV][3] *= LOUD
    smoothed = smooth_decoder(graph, loudest)
    gains = {op.gain for op in order(all_outputs(smoothed)) if isinstance(op, RMSNorm) and op.gain}
    assert {gain.name for gain in gains if isinstance(gain, Constant)} >= {f"{QKV}/gain"}
    gain = read(weights(smoothed)[f"{QKV}/gain"].value)  # type: ignore[arg-type]
    assert gain.argmin() == 3 and gain[3] <= 1 / 8
    bare = smooth_decoder(graph, loudest, norms=False)
    assert f"{QKV}/gain" not in weights(bare)


def test_inputs_that_stay_floats_bring_no_noise() -> None:
    rng = np.random.default_rng(0)
    columns = Columns(ArraySource(rng.standard_normal((6, 8)).astype(np.float32)), np.ones(8))
    factors = np.ones((1, 8))
    both, inputs, weights = (
        columns.noise(factors, *levels) for levels in ((7, 127), (np.inf, 127), (7, np.inf))
    )
    np.testing.assert_allclose(both, inputs + weights)
    assert 0 < inputs[0] < weights[0]


@pytest.mark.parametrize("bits", [3, 4])
def test_peaks_are_quietened(bits: int) -> None:
    """Of norms; from 4 bits up also before down and o, where V's and up's rows take the factors."""
    graph = fused(decoder(Tiny(layers=1)))
    levels = 2 ** (bits - 1) - 1
    heard = {name: np.ones_like(each) for name, each in maxima(graph, IDS).items()}
    assert quieten_peaks(graph, heard, levels=levels) is graph
    for each in heard.values():
        each[3] = LOUD
    quiet = quieten_peaks(graph, heard, levels=levels)
    before, after = weights(graph), weights(quiet)
    for name in (QKV, GATE_UP):
        gain = read(after[f"{name}/gain"].value)  # type: ignore[arg-type]
        assert gain[3] == 2 / LOUD and (np.delete(gain, 3) == 1).all()
    for name in ("self_attn.o_proj", "mlp.down_proj"):
        one, two = (each[f"model.layers.0.{name}.weight"] for each in (before, after))
        if bits < 4:
            assert two is one
            continue
        ratio = read(two.value) / read(one.value)  # type: ignore[arg-type]
        np.testing.assert_array_equal(ratio[:, 3], LOUD / 2)
    found = logits(quiet)
    assert np.abs(found - logits(graph)).max() <= 1e-5 * np.abs(logits(graph)).max()


def test_without_maxima_nothing_happens() -> None:
    graph = fused(decoder(Tiny()))
    assert smooth_decoder(graph, {}) is graph


def test_dead_channels_keep_their_factor() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    loudest = maxima(graph, IDS)
    loudest = {name: np.where(np.arange(len(each)) == 2, 0, each) for name, each in loudest.items()}
    smoothed = smooth_decoder(graph, {k: v.astype(np.float32) for k, v in loudest.items()})
    for op in weights(smoothed).values():
        assert np.isfinite(read(op.value)).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("activation", "smoothed"), [(Activation.RELU, True), (Activation.GELU, False)]
)
def test_only_functions_that_factors_pass_through(activation: Activation, smoothed: bool) -> None:
    graph = loud(fused(decoder(Tiny(layers=1))), GATE_UP, 5)

    def plain(op: Any) -> Any:
        match op:
            case Linear(activation=Activation.SWIGLU):
                source = ArraySource(read(op.weight.value)[:36])  # type: ignore[attr-defined]
                weight = shared.setdefault("up", Constant("up", source))
                return replace(op, weight=weight, activation=activation)
        return None

    shared: dict[str, Constant] = {}
    graph = rewrite(graph, plain)
    verify(graph)
    after = smooth_decoder(graph, maxima(graph, IDS), norms=False)
    assert (weights(after)["up"] is not weights(graph)["up"]) == smoothed
    np.testing.assert_allclose(logits(after), logits(graph), rtol=1e-4, atol=1e-4)


def test_a_weight_that_other_ops_read_too_is_left_alone() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    table = weights(graph)["model.embed_tokens.weight"]
    after = smooth_decoder(graph, maxima(graph, IDS))
    assert weights(after)["model.embed_tokens.weight"] is table


def test_coded_weights_are_left_alone() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    draw = Draw()

    def coded(op: Any) -> Any:
        match op:
            case Constant(name=name) if name.endswith("down_proj.weight"):
                return draw.grouped(name, *op.value.shape, 4, 16)
        return None

    graph = rewrite(graph, coded)
    after = smooth_decoder(graph, maxima(graph, IDS), norms=False)
    assert weights(after)[GATE_UP] is weights(graph)[GATE_UP]


def test_the_outlier_twin_is_brought_back() -> None:
    """o and down by smoothing; the inputs of q/k/v and gate/up by the rotation."""
    plain, twin = (
        fused(load(checkpoint(name), context=64, kv=KVScheme.F32).graph)
        for name in ("stories3M", "stories3M-outlier")
    )
    expected, before = maxima(plain, IDS), maxima(twin, IDS)
    both = rotate(smooth_decoder(twin, before, norms=False))
    after = maxima(both, IDS)
    for part, was in (("o_proj", 50), ("down_proj", 150)):
        assert loudness(before, part) > was
        assert loudness(after, part) < 1.2 * loudness(expected, part)
    for part in ("q_proj", "gate_proj"):
        assert loudness(after, part) < 0.6 * loudness(expected, part)
    found, wanted = logits(both), logits(twin)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
