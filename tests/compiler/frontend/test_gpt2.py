"""GPT-2: the graph against the model written independently, names in both spellings, what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import write_checkpoint
from support.gpt2 import GPT2, logits, random_tensors

from hearth.compiler.frontend import SourceModel, load
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.ops import Constant, LayerNorm, Linear, tensor
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.types import Dim
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError, UsageError
from hearth.schemas.manifest import Dims, ModelKind

CONFIGS: dict[str, Mapping[str, Any]] = {
    "as published": GPT2,
    "untied": {**GPT2, "tie_word_embeddings": False},
    "one head, wide ffn": {**GPT2, "n_head": 1, "n_inner": 70},
    "erf": {**GPT2, "activation_function": "gelu"},
    "relu": {**GPT2, "activation_function": "relu"},
    "silu": {**GPT2, "activation_function": "silu"},
    "tanh": {**GPT2, "activation_function": "tanh"},
    "scaled by layer": {**GPT2, "scale_attn_by_inverse_layer_idx": True},
    "not scaled": {**GPT2, "scale_attn_weights": False},
}
IDS = np.random.default_rng(3).integers(0, 53, 33).tolist()


def _load(directory: Path, config: Mapping[str, Any], **options: Any) -> SourceModel:
    tensors = options.pop("tensors", None) or random_tensors(config)
    write_checkpoint(directory, config, tensors)
    return load(directory, context=options.pop("context", None), kv=KVScheme.F32, **options)


@pytest.mark.parametrize("case", CONFIGS)
def test_it_computes_what_the_paper_says(case: str, tmp_path: Path) -> None:
    config = CONFIGS[case]
    graph = _load(tmp_path, config).graph
    verify(graph)
    wanted = logits(config, random_tensors(config), IDS)
    found, _ = evaluate(graph, "main", IDS, State.empty())
    assert np.abs(found - wanted).max() <= 2e-4 * np.abs(wanted).max()
    passed = run_passes(FLOAT_PASSES, graph)
    last, state = evaluate(passed, "prefill", IDS[:-1], State.empty())
    assert np.abs(last[0] - wanted[-2]).max() <= 2e-4 * np.abs(wanted).max()
    last, _ = evaluate(passed, "decode", IDS[-1:], state)
    assert np.abs(last[0] - wanted[-1]).max() <= 2e-4 * np.abs(wanted).max()


def test_the_passes_leave_bare_norms_and_one_activated_linear(tmp_path: Path) -> None:
    graph = run_passes(FLOAT_PASSES, _load(tmp_path, GPT2).graph)
    ops = order(graph.entries["decode"])
    names = [type(op).__name__ for op in ops if not isinstance(op, Constant)]
    assert not {"Activate", "RoPE", "RMSNorm"} & set(names)
    assert names.count("Add") == 1  # words and positions
    assert names.count("Linear") == 4 * GPT2["n_layer"] + 1
    norms = [op for op in ops if isinstance(op, LayerNorm)]
    kept = [norm for norm in norms if norm.gain is not None or norm.bias is not None]
    assert len(kept) == 1  # before the tied head, whose table keeps its values


def test_in_prefill_the_last_mlp_and_the_head_see_the_last_rows_only(tmp_path: Path) -> None:
    graph = run_passes(FLOAT_PASSES, _load(tmp_path, GPT2).graph)
    linears = [op for op in order(graph.entries["prefill"]) if isinstance(op, Linear)]
    rows = [tensor(op).shape[0] for op in linears]
    assert rows.count(Dim.T) == 4 * (GPT2["n_layer"] - 1) + 1  # all but the last layer's o and MLP
    assert rows.count(Dim.R) == 3 + 1


def test_the_facts_of_the_model(tmp_path: Path) -> None:
    model = _load(tmp_path, GPT2)
    assert model.kind is ModelKind.DECODER
    assert model.family == "gpt2"
    assert model.dims == Dims(2, 24, 3, 3, 8, 96, 53)
    assert model.context == 40
    assert [path.name for path in model.files] == ["config.json", "model.safetensors"]


def test_names_with_and_without_the_prefix_and_old_buffers(tmp_path: Path) -> None:
    tensors = random_tensors(GPT2)
    bare = {name.removeprefix("transformer."): values for name, values in tensors.items()}
    bare["h.0.attn.bias"] = np.tril(np.ones((40, 40), np.float32))
    bare["h.1.attn.masked_bias"] = np.full(1, -1e4, np.float32)
    bare["lm_head.weight"] = bare["wte.weight"]
    one = _load(tmp_path / "one", GPT2, tensors=tensors).graph
    two = _load(tmp_path / "two", GPT2, tensors=bare).graph
    results = [evaluate(graph, "main", IDS, State.empty())[0] for graph in (one, two)]
    np.testing.assert_array_equal(*results)


def test_a_shorter_context_reads_fewer_positions(tmp_path: Path) -> None:
    model = _load(tmp_path, GPT2, context=17)
    tables = {op.name: op for op in order(model.graph.entries["main"]) if isinstance(op, Constant)}
    assert tables["transformer.wpe.weight"].value.shape == (17, 24)
    with pytest.raises(UsageError, match="1 to 40") as caught:
        _load(tmp_path, GPT2, context=41)
    assert caught.value.code == "context.out_of_range"


REFUSED: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "another function": (
        {**GPT2, "activation_function": "gelu_10"},
        "config.unsupported",
        "activation_function",
    ),
    "heads": ({**GPT2, "n_head": 5}, "config.value_invalid", "n_head"),
    "cross attention": (
        {**GPT2, "add_cross_attention": True},
        "config.unsupported",
        "add_cross_attention",
    ),
    "a classifier": (
        {**GPT2, "architectures": ["GPT2ForSequenceClassification"]},
        "family.architecture",
        "GPT2ForSequenceClassification",
    ),
    "an unknown key": ({**GPT2, "rotary": True}, "config.key_unknown", "rotary"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    config, code, named = REFUSED[case]
    with pytest.raises(CheckpointError, match=named) as caught:
        _load(tmp_path, config)
    assert caught.value.code == code


def test_tensors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = random_tensors(GPT2)
    for name, changed, code in (
        ("transformer.h.0.attn.c_attn.weight", np.ones((72, 24)), "checkpoint.tensor_shape"),
        ("h.0.ln_1.weight", np.ones(24), "checkpoint.tensor_twice"),
        ("transformer.h.2.ln_1.weight", np.ones(24), "checkpoint.tensor_left_over"),
        ("lm_head.weight", np.ones((53, 24)), "checkpoint.tied_head_differs"),
    ):
        with pytest.raises(CheckpointError) as caught:
            _load(tmp_path, GPT2, tensors={**tensors, name: changed.astype(np.float32)})
        assert caught.value.code == code
    del tensors["transformer.ln_f.bias"]
    with pytest.raises(CheckpointError, match=r"ln_f\.bias.*missing"):
        _load(tmp_path, GPT2, tensors=tensors)


def test_a_pooling_gives_the_rows_before_the_head(tmp_path: Path) -> None:
    model = _load(tmp_path, GPT2, pooling="mean")
    assert list(model.graph.entries) == ["main", "hidden"]
    assert model.embedding is not None and model.embedding.pooling == "mean"
    with pytest.raises(UsageError) as caught:
        _load(tmp_path, GPT2, pooling="none")
    assert caught.value.code == "usage.pooling"


def test_every_name_of_a_function_is_one_that_is_built() -> None:
    from hearth.compiler.frontend.activations import ACTIVATIONS

    assert all(function.is_function for function in ACTIVATIONS.values())
