"""The graph: its exact form, shared constants, and its meaning against a decoder written independently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import plain_decoder
from support.checkpoints import (
    GEMMA,
    GEMMA2,
    GEMMA3,
    LLAMA,
    MISTRAL,
    PHI3,
    QWEN2,
    QWEN3,
    apart,
    random_tensors,
    shapes,
    write_checkpoint,
)
from support.graphs import MEASURELESS

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import (
    Add,
    Attention,
    Cache,
    Constant,
    Embedding,
    HeadNorm,
    Linear,
    Op,
    RMSNorm,
    RoPE,
    Scale,
)
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import Source
from hearth.compiler.ir.types import CacheType
from hearth.compiler.ir.verify import verify
from hearth.schemas.commands import KVKind, KVScheme

CONFIGS: dict[str, Mapping[str, Any]] = {
    "llama": LLAMA,
    "llama, tied, MHA": {**LLAMA, "tie_word_embeddings": True, "num_key_value_heads": 4},
    "llama, all biases": {**LLAMA, "attention_bias": True, "mlp_bias": True},
    "llama, 7 heads, MQA": {**LLAMA, "num_attention_heads": 7, "num_key_value_heads": 1},
    "mistral, window 16": MISTRAL,
    "mistral, window 1": {**MISTRAL, "sliding_window": 1},
    "mistral, no window": {**MISTRAL, "sliding_window": None},
    "qwen2": QWEN2,
    "qwen2, untied": {**QWEN2, "tie_word_embeddings": False, "rope_theta": 1e6},
    "qwen3": QWEN3,
    "gemma": GEMMA,
    "gemma, untied, MQA, biases": {
        **GEMMA,
        "tie_word_embeddings": False,
        "num_key_value_heads": 1,
        "attention_bias": True,
    },
    "gemma2": GEMMA2,
    "gemma2, no caps": {
        **GEMMA2,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    "gemma3": GEMMA3,
    "gemma3, capped logits": {**GEMMA3, "final_logit_softcapping": 2.0},
    "gemma3, full layers only, untied": {
        **GEMMA3,
        "sliding_window_pattern": 1,
        "tie_word_embeddings": False,
    },
    "qwen3, untied, biases": {**QWEN3, "tie_word_embeddings": False, "attention_bias": True},
    "phi3, window 16": PHI3,
    "phi3, tied, MHA": {**PHI3, "tie_word_embeddings": True, "num_key_value_heads": 4},
}


def _graph(directory: Path, config: Mapping[str, Any], kv: KVScheme = KVScheme.F32) -> Graph:
    return load(write_checkpoint(directory, config), context=40, kv=kv).graph


def _ops(graph: Graph) -> tuple[Op, ...]:
    return order(graph.entries["main"])


def _counts(graph: Graph) -> Counter[str]:
    return Counter(type(op).__name__ for op in _ops(graph))


@pytest.mark.parametrize("case", CONFIGS)
def test_it_computes_what_the_papers_say(case: str, tmp_path: Path) -> None:
    config = CONFIGS[case]
    graph = _graph(tmp_path, config)
    verify(graph)
    ids = np.random.default_rng(3).integers(0, config["vocab_size"], 33)
    found, state = evaluate(graph, "main", ids, State.empty())
    wanted = plain_decoder.logits(config, apart(config, random_tensors(config)), ids.tolist())
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-4 * np.abs(wanted).max()
    assert state.position == 33


def test_prefill_then_decode_is_the_same(tmp_path: Path) -> None:
    graph = _graph(tmp_path, MISTRAL)
    ids = np.random.default_rng(4).integers(0, 53, 30)
    whole, _ = evaluate(graph, "main", ids, State.empty())
    state, rows = State.empty(), []
    for chunk in (ids[:7], ids[7:29], ids[29:]):
        logits, state = evaluate(graph, "main", chunk, state)
        rows.append(logits)
    assert np.abs(np.concatenate(rows) - whole).max() <= 2e-4 * np.abs(whole).max()


def _tables(config: Mapping[str, Any]) -> list[str]:
    """The names of the tables that some layer turns by."""
    two = config["model_type"] == "gemma3_text" and config["sliding_window_pattern"] > 1
    prefixes = ("rope", "rope.local") if two else ("rope",)
    return [f"{prefix}.{function}" for prefix in prefixes for function in ("cos", "sin")]


@pytest.mark.parametrize("case", CONFIGS)
def test_constants_carry_the_names_and_values_of_the_checkpoint(case: str, tmp_path: Path) -> None:
    config = CONFIGS[case]
    constants = [op for op in _ops(_graph(tmp_path, config)) if isinstance(op, Constant)]
    names = [constant.name for constant in constants]
    assert Counter(names) == Counter([*shapes(config), *_tables(config)])
    tensors = random_tensors(config)
    for constant in constants:
        if constant.name in tensors:
            assert isinstance(constant.value, Source)
            rows = constant.value.rows(0, constant.value.shape[0])
            from_one = "gemma" in config["model_type"] and "norm" in constant.name
            assert np.array_equal(rows, tensors[constant.name] + np.float32(from_one))


def test_the_unfused_form(tmp_path: Path) -> None:
    assert _counts(_graph(tmp_path, LLAMA)) == {
        "Tokens": 1,
        "Position": 1,
        "Embedding": 1,
        "Constant": 2 + 9 * 2 + 3,
        "Cache": 2 * 2,
        "RMSNorm": 2 * 2 + 1,
        "Linear": 7 * 2 + 1,
        "RoPE": 2 * 2,
        "KVWrite": 2 * 2,
        "Attention": 2,
        "Activate": 2,
        "Mul": 2,
        "Add": 2 * 2,
    }


def test_what_is_stored_as_one_is_one_linear(tmp_path: Path) -> None:
    found = _counts(_graph(tmp_path, PHI3))
    assert found["Linear"] == 4 * 2 + 1
    assert found["Slice"] == 5 * 2


def test_head_norms_stand_before_rotation(tmp_path: Path) -> None:
    ops = _ops(_graph(tmp_path, QWEN3))
    norms = [op.x for op in ops if isinstance(op, RoPE)]
    assert [norm.heads for norm in norms if isinstance(norm, HeadNorm)] == [4, 2] * 2


@pytest.mark.parametrize(
    ("dtype", "factor"), [("F32", 4.898979663848877), ("F16", 4.8984375), ("BF16", 4.90625)]
)
def test_embeddings_are_scaled_in_the_type_they_are_stored_in(
    dtype: str, factor: float, tmp_path: Path
) -> None:
    """By transformers: sqrt(E) as the table's dtype; the tied head reads the table as it is."""
    source = write_checkpoint(tmp_path, GEMMA, dtype=dtype)
    graph = load(source, context=40, kv=KVScheme.F32).graph
    scales = [op for op in _ops(graph) if isinstance(op, Scale)]
    assert [(type(op.x), op.factor) for op in scales] == [(Embedding, factor)]
    head = graph.entries["main"][0]
    assert isinstance(head, Linear) and head.weight is scales[0].x.operands[0]


def test_layers_with_a_window_turn_by_tables_of_their_own(tmp_path: Path) -> None:
    """Also where the window is as long as the context, which hides it from attention alone."""
    for window, expected in ((7, [7, 0, 7]), (40, [0, 0, 0])):
        ops = _ops(_graph(tmp_path / str(window), {**GEMMA3, "sliding_window": window}))
        assert [op.window for op in ops if isinstance(op, Attention)] == expected
        tables = [op.cos.name for op in ops if isinstance(op, RoPE)]  # type: ignore[attr-defined]
        assert tables == [*["rope.local.cos"] * 2, *["rope.cos"] * 2, *["rope.local.cos"] * 2]


def test_what_blocks_add_is_normalised_first(tmp_path: Path) -> None:
    ops = _ops(_graph(tmp_path, GEMMA3))
    added = [type(op.b).__name__ for op in ops if isinstance(op, Add)]
    assert added == ["RMSNorm"] * 6
    scales = {op.scale for op in ops if isinstance(op, Attention)}
    assert scales == {float(np.float32(11**-0.5))}


def test_biases_are_additions(tmp_path: Path) -> None:
    assert _counts(_graph(tmp_path, QWEN2))["Add"] == 2 * 2 + 2 * 3
    every = {**LLAMA, "attention_bias": True, "mlp_bias": True}
    assert _counts(_graph(tmp_path, every))["Add"] == 2 * 2 + 2 * 7


def test_tied_embeddings_are_one_constant(tmp_path: Path) -> None:
    graph = _graph(tmp_path, QWEN2)
    head = graph.entries["main"][0]
    tables = [op.table for op in _ops(graph) if isinstance(op, Embedding)]
    assert isinstance(head, Linear)
    assert [head.weight] == tables


@pytest.mark.parametrize("kv", MEASURELESS)
def test_outputs_are_logits_and_the_caches_in_order(kv: KVScheme, tmp_path: Path) -> None:
    graph = _graph(tmp_path, LLAMA, kv)
    kinds = [op.type for op in graph.entries["main"][1:]]
    assert kinds == [
        CacheType(layer, kind, 2, 8, 40, kv) for layer in range(2) for kind in (KVKind.K, KVKind.V)
    ]
    assert sum(isinstance(op, Cache) for op in _ops(graph)) == len(kinds)


def test_scale_window_and_eps(tmp_path: Path) -> None:
    for window, expected in ((16, 16), (39, 39), (40, 0), (4096, 0), (None, 0)):
        graph = _graph(tmp_path / str(window), {**MISTRAL, "sliding_window": window})
        for op in _ops(graph):
            match op:
                case Attention():
                    assert op.window == expected
                    assert op.scale == float(np.float32(1 / np.sqrt(8)))
                case RMSNorm():
                    assert op.eps == 1e-5
