"""Every pass: fires where it should, is idempotent, leaves other graphs identical, keeps the function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Tokens
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, Pass, check_skip, run_passes
from hearth.compiler.quantize import quantize
from hearth.compiler.quantize.schemes import INT4_G32, INT8, Scheme
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError

Build = Callable[..., Graph]
IDS = np.array([3, 17, 5, 5, 39, 0, 21], np.int32)
ALL = (*FLOAT_PASSES, *QUANTISED_PASSES)


def logits(graph: Graph) -> tuple[np.ndarray, np.ndarray]:
    """The last row after a prompt, and after one more token: by main, or by prefill and decode."""
    split = "main" not in graph.entries
    first, state = evaluate(graph, "prefill" if split else "main", IDS, State.empty())
    second, _ = evaluate(graph, "decode" if split else "main", np.array([9], np.int32), state)
    return first[-1], second[-1]


def assert_same_function(before: Graph, after: Graph) -> None:
    """Equal up to float rounding: 60 roundings deep, each of relative size eps, on logits of this scale.

    The depth counts the ops between a token and its logits in two layers, each of which rounds sums of
    at most K = 36 terms; reordering them moves a result by at most K * eps of the largest partial sum.
    """
    for old, new in zip(logits(before), logits(after), strict=True):
        bound = 60 * 36 * np.finfo(np.float32).eps * np.abs(old).max()
        assert np.abs(old - new).max() <= bound


def names(graph: Graph, entry: str) -> list[str]:
    return [type(op).__name__ for op in order(graph.entries[entry])]


@pytest.mark.parametrize("each", FLOAT_PASSES, ids=lambda each: each.name)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_float_pass_keeps_the_function_and_is_idempotent(
    decoder: Build, each: Pass, tied: bool, bias: bool
) -> None:
    graph = decoder(tied=tied, bias=bias)
    once = each.run(graph)
    verify(once)
    assert each.run(once) is once
    assert_same_function(graph, once)


@pytest.mark.parametrize("each", FLOAT_PASSES, ids=lambda each: each.name)
def test_float_pass_in_its_place_keeps_the_function(decoder: Build, each: Pass) -> None:
    before = decoder(bias=True)
    for step in FLOAT_PASSES[: FLOAT_PASSES.index(each)]:
        before = step.run(before)
    after = each.run(before)
    assert each.run(after) is after
    assert_same_function(before, after)


@pytest.mark.parametrize("each", ALL, ids=lambda each: each.name)
def test_an_unrelated_graph_comes_back_identical(each: Pass) -> None:
    graph = Graph({"prefill": (Tokens(),)})
    assert each.run(graph) is graph


@pytest.mark.parametrize("skip", [None, *(each.name for each in ALL if not each.required)])
@pytest.mark.parametrize("weights", [INT8, INT4_G32], ids=lambda scheme: scheme.name)
def test_quantised_passes_are_exact(decoder: Build, weights: object, skip: str | None) -> None:
    """What runs after quantisation keeps every bit, whichever pass is left out."""
    out = frozenset() if skip is None else check_skip([skip])
    kept = run_passes(FLOAT_PASSES, decoder(bias=True, kv=KVScheme.INT8), out)
    quantised = quantize(kept, Scheme(weights, INT8, "dynamic", KVScheme.INT8))
    fused = run_passes(QUANTISED_PASSES, quantised, out)
    for old, new in zip(logits(quantised), logits(fused), strict=True):
        assert np.array_equal(old, new)


def test_the_whole_order_gives_the_expected_ops(decoder: Build) -> None:
    graph = run_passes(FLOAT_PASSES, decoder(bias=True))
    assert set(graph.entries) == {"prefill", "decode"}
    decode = names(graph, "decode")
    assert decode.count("Linear") == 4 * 2 + 1
    assert decode.count("Slice") == 3 * 2
    for gone in ("Add", "Mul", "Activate", "Gated", "RoPE", "LastRows"):
        assert gone not in decode
    assert names(graph, "prefill").count("LastRows") == 2  # attention's result and the residual
    quantised = quantize(graph, Scheme(INT4_G32, INT8, "dynamic", KVScheme.F32))
    fused = names(run_passes(QUANTISED_PASSES, quantised), "decode")
    assert fused.count("RMSNormQuantize") == 2 * 2 + 1
    assert fused.count("Quantize") == 2 * 2


def test_entries_share_their_constants(decoder: Build) -> None:
    graph = run_passes(FLOAT_PASSES, decoder())
    prefill, decode = (
        {op for op in order(graph.entries[name]) if type(op).__name__ == "Constant"}
        for name in ("prefill", "decode")
    )
    assert prefill == decode


def test_every_pass_can_be_switched_off(decoder: Build) -> None:
    whole = decoder(bias=True)
    for each in ALL:
        if not each.required:
            assert_same_function(whole, run_passes(FLOAT_PASSES, whole, frozenset({each.name})))


def test_skipping_an_unknown_or_required_pass_is_refused() -> None:
    for name in ("no-such-pass", "split"):
        with pytest.raises(UsageError, match=name):
            check_skip([name])


def test_observe_sees_each_step(decoder: Build) -> None:
    seen: list[str] = []
    graph = run_passes(FLOAT_PASSES, decoder(), observe=lambda name, _: seen.append(name))
    assert seen == [each.name for each in FLOAT_PASSES]
    assert len(all_outputs(graph)) == 2 * (1 + 4)
