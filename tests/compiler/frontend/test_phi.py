"""Phi-2: its tensors, its two blocks on one norm, and its meaning against a model written independently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import phi
from support.checkpoints import write_checkpoint
from support.configs import parse_config, without

from hearth.compiler.frontend import load
from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.rope_config import RopeConfig
from hearth.compiler.frontend.rotary_names import Part
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import Constant, Embedding, LayerNorm, Linear
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.schemas.commands import Activation, KVScheme
from hearth.schemas.errors import CheckpointError

PHI = phi.PHI
CONFIG = ModelConfig(
    family="phi",
    layers=2,
    hidden=40,
    heads=4,
    kv_heads=4,
    head_dim=10,
    ffn=52,
    vocab=53,
    context=64,
    tied=False,
    norm_eps=1e-5,
    windows=(0, 0),
    rope=RopeConfig(10000.0, share=0.4),
    biased=(Part.Q, Part.K, Part.V, Part.O, Part.UP, Part.DOWN),
    activation=Activation.GELU_TANH,
    layer_norms=True,
)


def _graph(directory: Path, config: Mapping[str, Any] = PHI) -> Graph:
    write_checkpoint(directory, config, phi.random_tensors(config))
    return load(directory, context=40, kv=KVScheme.F32).graph


def test_its_config() -> None:
    assert parse_config(PHI) == CONFIG
    newer = {
        **without(
            PHI, "partial_rotary_factor", "rope_theta", "rope_scaling", "num_key_value_heads"
        ),
        "rope_parameters": {
            "partial_rotary_factor": 0.4,
            "rope_theta": 1e4,
            "rope_type": "default",
        },
    }
    assert parse_config(newer) == CONFIG
    assert (
        parse_config(without({**PHI, "hidden_size": 48}, "partial_rotary_factor")).rope.share == 0.5
    )


@pytest.mark.parametrize("key", ["qk_layernorm", "layer_norm_eps", "hidden_act"])
def test_what_it_does_not_have_is_refused_by_name(key: str) -> None:
    wrong = {"qk_layernorm": True, "layer_norm_eps": 0, "hidden_act": "mish"}
    with pytest.raises(CheckpointError, match=key):
        parse_config({**PHI, key: wrong[key]})


@pytest.mark.parametrize("tied", [False, True])
def test_it_computes_what_the_paper_says(tied: bool, tmp_path: Path) -> None:
    config, tensors = {**PHI, "tie_word_embeddings": tied}, phi.random_tensors(PHI)
    if tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    write_checkpoint(tmp_path, config, tensors)
    graph = load(tmp_path, context=40, kv=KVScheme.F32).graph
    verify(graph)
    ids = np.random.default_rng(3).integers(0, 53, 33)
    found, state = evaluate(graph, "main", ids, State.empty())
    wanted = phi.logits(PHI, tensors, ids.tolist())
    assert np.abs(found - wanted).max() <= 2e-4 * np.abs(wanted).max()
    assert state.position == 33


def test_constants_carry_the_names_of_the_checkpoint(tmp_path: Path) -> None:
    ops = order(_graph(tmp_path).entries["main"])
    names = [op.name for op in ops if isinstance(op, Constant)]
    assert Counter(names) == Counter([*phi.shapes(PHI), "rope.cos", "rope.sin"])


def test_both_blocks_of_a_layer_read_one_norm(tmp_path: Path) -> None:
    ops = order(_graph(tmp_path).entries["main"])
    norms = [op for op in ops if isinstance(op, LayerNorm)]
    read = Counter(op.x for op in ops if isinstance(op, Linear) and op.x in norms)
    assert [read[norm] for norm in norms] == [4, 4, 1]


def test_its_function_is_a_step_of_the_linear_beside_merged_queries_keys_and_values(
    tmp_path: Path,
) -> None:
    graph = run_passes(FLOAT_PASSES, _graph(tmp_path))
    linears = [op for op in order(graph.entries["decode"]) if isinstance(op, Linear)]
    found = Counter((op.weight.type.shape[0], op.activation) for op in linears)  # type: ignore[union-attr]
    assert found == {
        (120, Activation.NONE): 2,
        (40, Activation.NONE): 4,
        (52, Activation.GELU_TANH): 2,
        (53, Activation.NONE): 1,
    }
    assert all(op.bias is not None for op in linears)


def test_a_pooling_reads_the_rows_before_the_head_and_its_bias(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, PHI, phi.random_tensors(PHI))
    graph = load(tmp_path, context=40, kv=KVScheme.F32, pooling="last").graph
    assert isinstance(graph.entries["hidden"][0], LayerNorm)


def test_a_body_without_a_head_lacks_its_bias_too(tmp_path: Path) -> None:
    tensors = phi.random_tensors(PHI)
    body = {name: values for name, values in tensors.items() if not name.startswith("lm_head")}
    write_checkpoint(tmp_path, {**PHI, "architectures": ["PhiModel"]}, body)
    model = load(tmp_path, context=40, kv=KVScheme.F32, pooling="last")
    tables = [op for op in order(model.graph.entries["main"]) if isinstance(op, Embedding)]
    assert len(tables) == 1
