"""QuaRot offline: the same function and the same ops, over families, tied or not; what does not fit is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bert import BERT
from support.bert import random_tensors as bert_tensors
from support.checkpoints import LLAMA, MISTRAL, QWEN2, QWEN3, write_checkpoint
from support.data import checkpoint
from support.gpt2 import GPT2
from support.gpt2 import random_tensors as gpt2_tensors
from support.graphs import Draw, Tiny, decoder
from support.onnx_run import OnnxState, run_onnx, session
from support.smoothing import loudness, maxima

from hearth.compiler.frontend import load
from hearth.compiler.ir.constants import Constants
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, Input, LayerNorm, RMSNorm, Tokens
from hearth.compiler.ir.rewrite import all_outputs, order, rewrite
from hearth.compiler.ir.tensors import ArraySource, Source
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.ir.verify import verify
from hearth.compiler.lower import lower
from hearth.compiler.lower.targets import TARGETS
from hearth.compiler.passes import FLOAT_PASSES, QUANTISED_PASSES, run_passes
from hearth.compiler.quantize import make_scheme, quantize
from hearth.compiler.quantize.schemes import INT8
from hearth.compiler.transform import rotate, rotation_notes
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError

IDS = np.random.default_rng(3).integers(0, 53, 20)
CLOSE = 1e-5  # of the largest logit
TINY: dict[str, Tiny] = {
    "tied": Tiny(),
    "untied, biases": Tiny(tied=False, bias=True),
    "window, partial rotation": Tiny(window=5, rotary=4),
    "head norms": Tiny(head_norms=True, tied=False),
    "one KV head": Tiny(heads=3, kv_heads=1, head_dim=16, layers=1),
    "heads of 12": Tiny(heads=2, kv_heads=2, head_dim=12, layers=1),
    "blocks of 2": Tiny(hidden=30, head_dim=6, layers=1),
}


def fused(graph: Graph, *skip: str) -> Graph:
    return run_passes(FLOAT_PASSES, graph, frozenset(skip))


def logits(graph: Graph, ids: np.ndarray = IDS) -> np.ndarray:
    """Prefill, then the last ids one by one."""
    constants = Constants(keep=True)
    found, state = evaluate(
        graph, "prefill", ids[:-2], State.empty(), logit_rows=4, constants=constants
    )
    rows = [found]
    for token in ids[-2:]:
        found, state = evaluate(graph, "decode", [int(token)], state, constants=constants)
        rows.append(found)
    return np.concatenate(rows)


def assert_same_function(before: Graph, after: Graph, ids: np.ndarray = IDS) -> None:
    verify(after)
    expected, found = logits(before, ids), logits(after, ids)
    assert np.abs(found - expected).max() <= CLOSE * np.abs(expected).max()


def kinds(graph: Graph) -> dict[str, Counter[type]]:
    return {
        entry: Counter(type(op) for op in order(outputs) if not isinstance(op, Constant))
        for entry, outputs in graph.entries.items()
    }


def weights(graph: Graph) -> dict[str, Constant]:
    return {op.name: op for op in order(all_outputs(graph)) if isinstance(op, Constant)}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", TINY)
def test_function_and_ops_stay(name: str, stream: bool) -> None:
    graph = fused(decoder(TINY[name]))
    turned = rotate(graph, stream=stream)
    assert_same_function(graph, turned)
    assert kinds(graph) == kinds(turned)


@pytest.mark.parametrize(
    "skip", ["fold-norm-gain", "merge-linears", "fuse-residual", "fuse-bias", "last-rows"]
)
def test_without_a_pass(skip: str) -> None:
    graph = fused(decoder(Tiny(bias=True)), skip)
    assert_same_function(graph, rotate(graph))


@pytest.mark.parametrize("config", [LLAMA, MISTRAL, QWEN2, QWEN3], ids=lambda c: c["model_type"])
@pytest.mark.parametrize("tied", [True, False])
def test_families(tmp_path: Path, config: dict[str, Any], tied: bool) -> None:
    folder = write_checkpoint(tmp_path, {**config, "tie_word_embeddings": tied})
    graph = fused(load(folder, context=64, kv=KVScheme.F32).graph)
    turned = rotate(graph)
    assert_same_function(graph, turned)
    new = set(weights(turned)) - set(weights(graph))
    assert new == ({"model.embed_tokens.weight/untied"} if tied else set())
    assert len(rotation_notes(graph, turned)) == len(new)
    for name in set(weights(turned)) & set(weights(graph)):
        constant = weights(graph)[name]
        kept = name.startswith("rope") or name.endswith(("q_norm.weight", "k_norm.weight"))
        assert (constant.value is weights(turned)[name].value) == kept


def test_gpt2_becomes_a_centred_stream(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, GPT2, gpt2_tensors(GPT2))
    graph = fused(load(folder, context=40, kv=KVScheme.F32).graph)
    turned = rotate(graph)
    assert_same_function(graph, turned)
    found = kinds(turned)["prefill"]
    assert LayerNorm not in found and found[RMSNorm] == kinds(graph)["prefill"][LayerNorm]
    heads = rotate(graph, stream=False)
    assert_same_function(graph, heads)
    assert kinds(heads) == kinds(graph)


def test_a_constant_gain_stays_and_nothing_is_untied() -> None:
    graph = fused(decoder(Tiny(layers=1)), "fold-norm-gain")

    def flat(op: Any) -> Any:
        if isinstance(op, Constant) and "norm" in op.name:
            return Constant(op.name, ArraySource(np.full(24, 0.75, np.float32)))
        return None

    graph = rewrite(graph, flat)
    turned = rotate(graph)
    assert_same_function(graph, turned)
    assert set(weights(turned)) == set(weights(graph)) and not rotation_notes(graph, turned)


def test_seeds_differ_and_one_seed_repeats() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    name = "model.layers.0.mlp.down_proj.weight"
    first, again, other = (
        weights(rotate(graph, seed))[name].value.rows(0, 9)
        for seed in (0, 0, 1)  # type: ignore[union-attr]
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_onnxruntime_agrees() -> None:
    graph = fused(decoder(Tiny(bias=True)))
    runs = []
    for each in (graph, rotate(graph)):
        found, _ = run_onnx(session(to_onnx(each, "prefill")), IDS, OnnxState())
        runs.append(found["logits"])
    assert np.abs(runs[1] - runs[0]).max() <= CLOSE * np.abs(runs[0]).max()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("stream", [True, False])
def test_the_program_has_the_commands_it_had(stream: bool, tied: bool) -> None:
    graph = fused(decoder(Tiny(bias=True, tied=tied)))
    programs = []
    for each in (graph, rotate(graph, stream=stream)):
        coded = run_passes(QUANTISED_PASSES, quantize(each, make_scheme(INT8)))
        programs.append(lower(coded, TARGETS["x86-64-v3"]).program)
    for entry in ("prefill", "decode"):
        before, after = (
            [(command.op, command.ints) for command in program.entries[entry].commands]
            for program in programs
        )
        assert before == after


def test_an_encoder_is_refused(tmp_path: Path) -> None:
    graph = load(
        write_checkpoint(tmp_path, BERT, bert_tensors(BERT)), context=None, kv=KVScheme.F32
    )
    with pytest.raises(CheckpointError, match=r"transform\.rotate"):
        rotate(fused(graph.graph))


def test_weights_that_came_quantised_are_refused() -> None:
    graph = fused(decoder(Tiny(layers=1)))
    draw = Draw()

    def coded(op: Any) -> Any:
        match op:
            case Constant(name="model.layers.0.mlp.down_proj.weight", value=Source()):
                return draw.grouped(op.name, *op.value.shape, 4, 16)
        return None

    with pytest.raises(CheckpointError, match="came quantised"):
        rotate(rewrite(graph, coded))


def test_a_graph_without_embeddings_or_of_odd_width_is_refused() -> None:
    with pytest.raises(CheckpointError, match="Hadamard"):
        rotate(fused(decoder(Tiny(hidden=25))))
    table = Draw().constant("table", 8, 4)
    x = Embedding(table, Tokens())
    with pytest.raises(CheckpointError, match="result of the model"):
        rotate(Graph({"prefill": (x,)}))
    with pytest.raises(CheckpointError, match="no embedding"):
        rotate(Graph({"prefill": (Input("x", 4),)}))


@pytest.mark.parametrize("name", ["stories3M", "stories3M-outlier", "stories260K", "capp-gpt2"])
def test_real_models(name: str) -> None:
    graph = fused(load(checkpoint(name), context=64, kv=KVScheme.F32).graph)
    assert_same_function(graph, rotate(graph))


def test_the_stream_of_stories3m_gets_quieter() -> None:
    graph = fused(load(checkpoint("stories3M"), context=64, kv=KVScheme.F32).graph)
    before, after = (maxima(each, IDS) for each in (graph, rotate(graph)))
    for part in ("q_proj", "gate_proj"):
        assert loudness(after, part) < 0.6 * loudness(before, part)
    assert loudness(after, "down_proj") == pytest.approx(loudness(before, "down_proj"), rel=1e-3)
