"""Configs of GPT-2, Phi and encoders changed at random are read or refused as user errors, never anything else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import bert, checkpoints, gpt2, phi
from support.checkpoints import write_checkpoint

from hearth.compiler.frontend import load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.verify import verify
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import HearthError

ODD = (
    None, True, False, 0, 1, -1, 2, 3, 24, 64, 10**6, 2**31, 2**63, 10**30, 0.5, 1e-300, 1e300,
    float("inf"), float("nan"), "", "x", "gelu", "relu", "gpt2", "bert", "absolute", "relative_key",
    [], [1], ["x"], {}, {"a": 1}, "\ud800",
)  # fmt: skip
FAMILIES: Mapping[str, tuple[Mapping[str, Any], Any]] = {
    "gpt2": (gpt2.GPT2, gpt2),
    "phi": (phi.PHI, phi),
    "phi3": (checkpoints.PARTLY_TURNED, checkpoints),
    "bert": (bert.BERT, bert),
    "roberta": (bert.ROBERTA, bert),
    "distilbert": (bert.DISTILBERT, bert),
}
MORE = {
    "gpt2": ("tie_word_embeddings", "scale_attn_weights", "scale_attn_by_inverse_layer_idx"),
    "phi": ("head_dim", "rope_parameters", "layer_types"),
    "phi3": ("head_dim", "rope_parameters", "attention_bias"),
    "bert": ("position_embedding_type", "is_decoder", "pad_token_id"),
    "roberta": ("position_embedding_type", "is_decoder"),
    "distilbert": ("sinusoidal_pos_embds",),
}
SENTENCE = {
    "modules.json": [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ],
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
    "sentence_bert_config.json": {"max_seq_length": 20},
}
changed = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of every family."""
    base = tmp_path_factory.mktemp("families")
    for name, (config, module) in FAMILIES.items():
        write_checkpoint(base / name, config, module.random_tensors(config))
    (base / "bert" / "1_Pooling").mkdir()
    return base


def try_to_load(directory: Path) -> None:
    """Read, or refused; what is read is sound and runs."""
    try:
        model = load(directory, context=None, kv=KVScheme.F32)
    except HearthError:
        return
    verify(model.graph)
    ids = {"tokens": np.arange(2) % model.dims.vocab, "types": np.zeros(2, np.int64)}
    if model.context >= 2:
        (result,) = run_entry(model.graph, "main", ids)[0].values()
        assert result.ndim == 2


@pytest.mark.parametrize("family", FAMILIES)
@changed
@given(source=st.data())
def test_a_config_changed_anywhere(folder: Path, family: str, source: st.DataObject) -> None:
    config = dict(FAMILIES[family][0])
    for _ in range(source.draw(st.integers(1, 2))):
        key = source.draw(st.sampled_from([*config, *MORE[family], "never_heard_of"]))
        holder = config
        if isinstance(config.get(key), dict) and source.draw(st.booleans()):
            holder = config[key] = dict(config[key])
            key = source.draw(st.sampled_from([*holder, "factor", "attention_factor"]))
        if source.draw(st.booleans()):
            holder[key] = source.draw(st.sampled_from(ODD))
        else:
            holder.pop(key, None)
    (folder / family / "config.json").write_text(json.dumps(config))
    try_to_load(folder / family)


@changed
@given(source=st.data())
def test_sentence_files_changed_anywhere(folder: Path, source: st.DataObject) -> None:
    directory = folder / "bert"
    (directory / "config.json").write_text(json.dumps(bert.BERT))
    files = json.loads(json.dumps(SENTENCE))
    name = source.draw(st.sampled_from(list(files)))
    holder = files[name]
    if isinstance(holder, list) and source.draw(st.booleans()):
        holder = source.draw(st.sampled_from(holder))
    if isinstance(holder, list):
        holder[source.draw(st.integers(0, 2))] = source.draw(st.sampled_from(ODD))
    else:
        key = source.draw(st.sampled_from([*holder, "pooling_mode", "pooling_mode_max_tokens"]))
        holder[key] = source.draw(st.sampled_from(ODD))
    for path, values in files.items():
        (directory / path).write_text(json.dumps(values))
    try:
        try_to_load(directory)
    finally:
        for path in files:
            (directory / path).unlink()
