"""Whole entries: chunks, rewinds and kept constants change no bit; misuse is refused."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import MEASURELESS, Tiny, decoder

from hearth.compiler.ir import constants as constants_module
from hearth.compiler.ir.evaluate import Constants, State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import INT4_G32, INT8, WeightScheme
from hearth.schemas.commands import KVKind, KVScheme

IDS = np.random.default_rng(0).integers(0, 53, 30)


def compiled(tiny: Tiny, weights: WeightScheme = INT4_G32) -> Graph:
    graph = run_passes(FLOAT_PASSES, decoder(tiny))
    return run_passes(QUANTISED_PASSES, quantize(graph, make_scheme(weights, "dynamic", tiny.kv)))


def in_chunks(graph: Graph, sizes: list[int], kept: Constants) -> tuple[np.ndarray, State]:
    state, rows, start = State.empty(), [], 0
    for size in sizes:
        ids = IDS[start : start + size]
        entry = "decode" if size == 1 else "prefill"
        logits, state = evaluate(graph, entry, ids, state, logit_rows=size, constants=kept)
        rows.append(logits)
        start += size
    return np.concatenate(rows), state


@pytest.mark.parametrize("weights", [INT8, INT4_G32], ids=lambda scheme: scheme.name)
@pytest.mark.parametrize("kv", MEASURELESS)
@pytest.mark.parametrize("window", [0, 7])
def test_chunks_change_no_bit(weights: WeightScheme, kv: KVScheme, window: int) -> None:
    graph = compiled(Tiny(kv=kv, window=window, bias=True), weights)
    kept = Constants(keep=True)
    whole, state = in_chunks(graph, [30], kept)
    for sizes in ([1] * 30, [7, 7, 7, 7, 2], [16, 1, 13]):
        pieces, after = in_chunks(graph, sizes, kept)
        np.testing.assert_array_equal(pieces, whole)
        assert after.position == state.position == 30
        for key, stored in state.caches.items():
            np.testing.assert_array_equal(after.caches[key].values, stored.values)


def test_rewinding_and_replaying_changes_no_bit() -> None:
    graph = compiled(Tiny(kv=KVScheme.INT8))
    _, state = evaluate(graph, "prefill", IDS[:20], State.empty())
    first, _ = evaluate(graph, "prefill", IDS[20:], state)
    _, elsewhere = evaluate(graph, "prefill", IDS[:10], state)
    again, _ = evaluate(graph, "prefill", IDS[20:], elsewhere.rewind(20))
    np.testing.assert_array_equal(first, again)
    assert state.caches[0, KVKind.K].length == 20  # a state is a value: nothing touched it


def test_small_blocks_and_kept_constants_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = compiled(Tiny())
    once, _ = evaluate(graph, "prefill", IDS, State.empty())
    monkeypatch.setattr(constants_module, "BLOCK_ELEMENTS", 100)
    kept = Constants(keep=True)
    for _ in range(2):
        again, _ = evaluate(graph, "prefill", IDS, State.empty(), constants=kept)
        np.testing.assert_array_equal(once, again)


def test_logits_of_the_last_rows_are_rows_of_all() -> None:
    graph = compiled(Tiny())
    every, _ = evaluate(graph, "prefill", IDS, State.empty(), logit_rows=30)
    last, _ = evaluate(graph, "prefill", IDS, State.empty())
    assert last.shape == (1, 53)
    np.testing.assert_array_equal(every[-1:], last)


def test_misuse_is_refused() -> None:
    graph = compiled(Tiny(context=32))
    _, state = evaluate(graph, "prefill", IDS, State.empty())
    with pytest.raises(ValueError, match="exceed"):
        evaluate(graph, "prefill", IDS[:3], state)
    with pytest.raises(ValueError, match="takes 1 rows of tokens"):
        evaluate(graph, "decode", IDS[:2], state)
    with pytest.raises(ValueError, match="rows of logits"):
        evaluate(graph, "prefill", IDS[:2], State.empty(), logit_rows=3)
    with pytest.raises(ValueError, match="token ids"):
        evaluate(graph, "prefill", [53], State.empty())
    with pytest.raises(ValueError, match="rewind"):
        state.rewind(31)
    with pytest.raises(ValueError, match="holds 0 positions"):
        evaluate(graph, "prefill", [1], State(position=4))
