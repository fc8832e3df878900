"""load: real and made checkpoints in, graphs out; what is wrong with a checkpoint is refused by name."""

from __future__ import annotations

import json
import math
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from support.checkpoints import (
    LLAMA,
    PHI3,
    QWEN2,
    random_tensors,
    shapes,
    with_header,
    write_checkpoint,
)
from support.configs import LONGROPE
from support.data import checkpoint

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import Constants, State, evaluate
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.tensors import Source
from hearth.compiler.ir.verify import verify
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError

F32 = NDArray[np.float32]
REAL = ("stories260K", "stories3M", "stories3M-outlier")


@pytest.mark.parametrize("name", REAL)
def test_real_weights_are_read_as_safetensors_reads_them(name: str) -> None:
    directory = checkpoint(name)
    model = load(directory, context=None, kv=KVScheme.F32)
    verify(model.graph)
    expected = safetensors.numpy.load_file(directory / "model.safetensors")
    constants = [op for op in order(model.graph.entries["main"]) if isinstance(op, Constant)]
    for constant in constants:
        if not constant.name.startswith("rope."):
            assert isinstance(constant.value, Source)
            rows = constant.value.rows(0, constant.value.shape[0])
            assert np.array_equal(rows, expected.pop(constant.name))
    assert not expected
    assert model.context == 512
    assert (model.assets.bos_id, model.assets.eos_ids) == (1, (2,))
    assert model.assets.notes == ()


@pytest.mark.parametrize("name", REAL)
def test_real_models_continue_as_the_reference_does(name: str) -> None:
    """Teacher-forced over the first 48 tokens; the reference's choice must be within 1e-4 of the best."""
    directory = checkpoint(name)
    graph = load(directory, context=None, kv=KVScheme.F32).graph
    constants = Constants(keep=True)
    for case in json.loads((directory / "reference_greedy.json").read_text())["cases"]:
        ids, start = case["greedy_ids"][:48], len(case["prompt_ids"])
        assert ids[:start] == case["prompt_ids"]
        logits, _ = evaluate(graph, "main", ids[:-1], State.empty(), constants=constants)
        rows = logits[start - 1 :]
        chosen = rows[np.arange(len(rows)), ids[start:]]
        assert np.all(chosen >= rows.max(axis=1) - 1e-4)


Spoil = Callable[[dict[str, F32]], None]
Q = "model.layers.1.self_attn.q_proj.weight"


def _drop(name: str) -> Spoil:
    def spoil(tensors: dict[str, F32]) -> None:
        del tensors[name]

    return spoil


def _put(name: str, *shape: int) -> Spoil:
    def spoil(tensors: dict[str, F32]) -> None:
        tensors[name] = np.ones(shape, np.float32)

    return spoil


REFUSED: dict[str, tuple[Spoil, str, str]] = {
    "a linear is missing": (_drop(Q), "checkpoint.tensor_missing", Q),
    "the head is missing": (
        _drop("lm_head.weight"),
        "checkpoint.tensor_missing",
        "tie_word_embeddings",
    ),
    "the table is missing": (
        _drop("model.embed_tokens.weight"),
        "checkpoint.tensor_missing",
        "model.embed_tokens.weight",
    ),
    "a norm is missing": (_drop("model.norm.weight"), "checkpoint.tensor_missing", "norm"),
    "a wrong shape": (_put(Q, 24, 32), "checkpoint.tensor_shape", Q),
    "a vector for a matrix": (_put(Q, 32 * 24), "checkpoint.tensor_shape", Q),
    "a scalar": (_put("model.norm.weight"), "checkpoint.tensor_rank", "model.norm.weight"),
    "a bias too many": (
        _put("model.layers.0.self_attn.q_proj.bias", 32),
        "checkpoint.tensor_left_over",
        "model.layers.0.self_attn.q_proj.bias",
    ),
    "a layer too many": (
        _put("model.layers.2.input_layernorm.weight", 24),
        "checkpoint.tensor_left_over",
        "model.layers.2.input_layernorm.weight",
    ),
    "an adapter": (
        _put("model.layers.0.self_attn.q_proj.lora_A.weight", 4, 24),
        "checkpoint.tensor_left_over",
        "merged",
    ),
    "a norm on queries": (
        _put("model.layers.0.self_attn.q_norm.weight", 8),
        "checkpoint.tensor_left_over",
        "q_norm",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_tensors_that_do_not_fit_are_refused(case: str, tmp_path: Path) -> None:
    spoil, code, named = REFUSED[case]
    tensors = random_tensors(LLAMA)
    spoil(tensors)
    write_checkpoint(tmp_path, LLAMA, tensors)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path, context=None, kv=KVScheme.F32)
    assert caught.value.code == code
    assert named in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_rotary_buffers_are_ignored(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        tensors[name] = np.ones(4, np.float32)
    write_checkpoint(tmp_path, LLAMA, tensors)
    load(tmp_path, context=None, kv=KVScheme.F32)


def test_a_tied_head_may_repeat_the_table_but_not_differ(tmp_path: Path) -> None:
    tensors = random_tensors(QWEN2)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].copy()
    write_checkpoint(tmp_path / "same", QWEN2, tensors)
    load(tmp_path / "same", context=None, kv=KVScheme.F32)
    tensors["lm_head.weight"][-1, -1] += 1
    write_checkpoint(tmp_path / "other", QWEN2, tensors)
    with pytest.raises(CheckpointError, match=r"lm_head.weight") as caught:
        load(tmp_path / "other", context=None, kv=KVScheme.F32)
    assert caught.value.code == "checkpoint.tied_head_differs"


def test_nan_is_refused_where_the_weight_is_read(tmp_path: Path) -> None:
    tensors = random_tensors(LLAMA)
    tensors[Q][3, 5] = np.nan
    graph = load(write_checkpoint(tmp_path, LLAMA, tensors), context=None, kv=KVScheme.F32).graph
    with pytest.raises(CheckpointError, match=r"q_proj.weight' has NaN or Inf at \[3, 5\]"):
        evaluate(graph, "main", [1], State.empty())


REAL_SIZE = {
    **QWEN2,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "head_dim": None,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
}


def _write_sparse(directory: Path) -> int:
    """A checkpoint of 1.5 billion zeros in bf16 that takes no disk space; gives its size."""
    header, at = {}, 0
    for name, shape in shapes(REAL_SIZE).items():
        stop = at + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, stop]}
        at = stop
    content = with_header(header, b"")
    (directory / "config.json").write_text(json.dumps(REAL_SIZE))
    path = directory / "model.safetensors"
    path.write_bytes(content)
    os.truncate(path, len(content) + at)
    return len(content) + at


def test_the_real_size_stays_on_disk(tmp_path: Path) -> None:
    assert _write_sparse(tmp_path) > 3_000_000_000
    tracemalloc.start()
    try:
        graph = load(tmp_path, context=None, kv=KVScheme.INT8).graph
        for op in order(graph.entries["main"]):
            if isinstance(op, Constant) and isinstance(op.value, Source):
                op.value.rows(0, 16)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    tables = 2 * 4096 * 64 * 4
    assert peak < tables + 8_000_000


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such directory"):
        load(tmp_path / "none", context=None, kv=KVScheme.F32)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="a file"):
        load(tmp_path / "file", context=None, kv=KVScheme.F32)
    with pytest.raises(CheckpointError, match=r"no config\.json") as caught:
        load(tmp_path, context=None, kv=KVScheme.F32)
    assert caught.value.code == "checkpoint.config_missing"
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="json_invalid"):
        load(tmp_path, context=None, kv=KVScheme.F32)


def test_the_fingerprint_tells_sources_apart(tmp_path: Path) -> None:
    def mark(directory: Path) -> str:
        return load(directory, context=None, kv=KVScheme.F32).fingerprint

    first = write_checkpoint(tmp_path / "a")
    second = write_checkpoint(tmp_path / "b")
    plain = mark(first)
    assert plain == mark(second)
    assert len(bytes.fromhex(plain)) == 32
    for name in ("generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        (second / name).write_text("{}")
        assert mark(second) != plain
        (second / name).unlink()
    assert mark(second) == plain
    third = write_checkpoint(tmp_path / "c", {**LLAMA, "rms_norm_eps": 1e-6})
    assert mark(third) != plain
    fourth = write_checkpoint(tmp_path / "d", LLAMA, random_tensors(LLAMA, seed=1))
    assert mark(fourth) != plain


@pytest.mark.parametrize(("context", "noted"), [(None, True), (65, True), (64, False)])
def test_a_note_tells_whose_texts_longrope_turns_otherwise(
    context: int | None, noted: bool, tmp_path: Path
) -> None:
    config = {**PHI3, "max_position_embeddings": 128, "rope_scaling": LONGROPE}
    model = load(write_checkpoint(tmp_path, config), context=context, kv=KVScheme.F32)
    assert any("--context 64" in note for note in model.notes) is noted
