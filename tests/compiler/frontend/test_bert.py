"""BERT, RoBERTa, DistilBERT: the graph against the encoder written independently; vectors; what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.bert import BERT, DISTILBERT, ROBERTA, hidden, random_tensors
from support.checkpoints import write_checkpoint

from hearth.compiler.frontend import SourceModel, load
from hearth.compiler.ir.evaluate import run_entry
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.rewrite import order
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import CheckpointError, UsageError
from hearth.schemas.manifest import Dims, Embedding, ModelKind

CONFIGS: dict[str, Mapping[str, Any]] = {
    "bert": BERT,
    "bert, relu, one head": {**BERT, "hidden_act": "relu", "num_attention_heads": 1},
    "bert, three types": {**BERT, "type_vocab_size": 3},
    "roberta": ROBERTA,
    "distilbert": DISTILBERT,
}
IDS = np.random.default_rng(3).integers(0, 53, 33).tolist()
TYPES = [0] * 20 + [1] * 13


def _load(directory: Path, config: Mapping[str, Any], **options: Any) -> SourceModel:
    tensors = options.pop("tensors", None) or random_tensors(config)
    write_checkpoint(directory, config, tensors)
    return load(directory, context=options.pop("context", None), kv=KVScheme.F32, **options)


def _sentence(directory: Path, mode: str, normalise: bool = True, longest: int = 30) -> None:
    """The files of sentence-transformers."""
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * normalise
    steps = [
        {"idx": index, "path": f"{index}_{kind}" if index else "", "type": f"s.models.{kind}"}
        for index, kind in enumerate(kinds)
    ]
    (directory / "1_Pooling").mkdir(parents=True, exist_ok=True)
    modes = {"pooling_mode_mean_tokens": False, "word_embedding_dimension": 24, mode: True}
    (directory / "modules.json").write_text(json.dumps(steps))
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(modes))
    limits = {"max_seq_length": longest, "do_lower_case": False}
    (directory / "sentence_bert_config.json").write_text(json.dumps(limits))


def _inputs(model: SourceModel, types: list[int] | None = None) -> dict[str, Any]:
    ports = {"tokens": np.array(IDS), "types": np.array(types or [0] * len(IDS))}
    read = {op.port for op in order(model.graph.entries["main"]) if hasattr(op, "port")}
    return {name: values for name, values in ports.items() if name in read}


@pytest.mark.parametrize("case", CONFIGS)
def test_it_computes_what_the_papers_say(case: str, tmp_path: Path) -> None:
    config = CONFIGS[case]
    model = _load(tmp_path, config)
    verify(model.graph)
    types = TYPES if config.get("type_vocab_size", 0) > 1 else None
    wanted = hidden(config, random_tensors(config), IDS, types)
    for graph in (model.graph, run_passes(FLOAT_PASSES, model.graph)):
        rows = run_entry(graph, "hidden", _inputs(model, types))[0]["hidden"]
        assert np.abs(rows - wanted).max() <= 2e-4 * np.abs(wanted).max()
        vector = run_entry(graph, "main", _inputs(model, types))[0]["embedding"]
        assert np.abs(vector[0] - wanted.mean(axis=0)).max() <= 2e-4 * np.abs(wanted).max()


def test_the_facts_of_the_model(tmp_path: Path) -> None:
    model = _load(tmp_path, BERT)
    assert (model.kind, model.family, model.context) == (ModelKind.ENCODER, "bert", 40)
    assert model.dims == Dims(2, 24, 3, 3, 8, 37, 53)
    assert model.embedding == Embedding("mean", False, 24)
    assert _load(tmp_path, ROBERTA).context == 38  # two rows of the table come before


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_lasttoken", "last"),
        ("pooling_mode_max_tokens", "max"),
    ],
)
@pytest.mark.parametrize("normalise", [False, True])
def test_the_vector_as_sentence_transformers_makes_it(
    mode: str, name: str, normalise: bool, tmp_path: Path
) -> None:
    _sentence(tmp_path, mode, normalise)
    model = _load(tmp_path, BERT)
    assert model.embedding == Embedding(name, normalise, 24)
    assert model.context == 30
    ids = {"tokens": np.array(IDS[:30]), "types": np.zeros(30, np.int64)}
    rows = hidden(BERT, random_tensors(BERT), IDS[:30])
    wanted = {"mean": rows.mean(0), "cls": rows[0], "last": rows[-1], "max": rows.max(0)}[name]
    if normalise:
        wanted = wanted / np.sqrt((wanted**2).sum())
    (vector,) = run_entry(model.graph, "main", ids)[0]["embedding"]
    assert np.abs(vector - wanted).max() <= 2e-4 * np.abs(wanted).max()
    names = [path.name for path in model.files]
    assert {"modules.json", "config.json", "sentence_bert_config.json"} <= set(names)


def test_the_command_line_wins_over_the_files(tmp_path: Path) -> None:
    _sentence(tmp_path, "pooling_mode_mean_tokens", normalise=False)
    model = _load(tmp_path, BERT, pooling="cls", context=35)
    assert model.embedding == Embedding("cls", False, 24)
    assert model.context == 35
    every = _load(tmp_path, BERT, pooling="none", context=35)
    rows = run_entry(every.graph, "main", _inputs(every))[0]["embedding"]
    np.testing.assert_array_equal(
        rows, run_entry(every.graph, "hidden", _inputs(every))[0]["hidden"]
    )
    assert every.fingerprint == model.fingerprint
    (tmp_path / "modules.json").unlink()
    assert _load(tmp_path, BERT).fingerprint != model.fingerprint


def test_heads_poolers_prefixes_and_old_names(tmp_path: Path) -> None:
    tensors = random_tensors(BERT)
    old = {
        f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): values
        for name, values in tensors.items()
    }
    extra = {"bert.pooler.dense.weight": (24, 24), "cls.predictions.bias": (53,)}
    old |= {name: np.ones(shape, np.float32) for name, shape in extra.items()}
    one = _load(tmp_path / "one", BERT, tensors=tensors)
    config = {**BERT, "architectures": ["BertForMaskedLM"]}
    two = _load(tmp_path / "two", config, tensors=old)
    assert not any("head" in note for note in one.notes)
    assert any("the head of BertForMaskedLM is left out" in note for note in two.notes)
    vectors = [run_entry(m.graph, "main", _inputs(m))[0]["embedding"] for m in (one, two)]
    np.testing.assert_array_equal(*vectors)


def test_roberta_has_one_port_and_starts_behind_the_padding(tmp_path: Path) -> None:
    model = _load(tmp_path, ROBERTA)
    assert list(_inputs(model)) == ["tokens"]
    table = next(
        op.value
        for op in order(model.graph.entries["main"])
        if isinstance(op, Constant) and op.name.endswith("position_embeddings.weight")
    )
    stored = random_tensors(ROBERTA)["embeddings.position_embeddings.weight"]
    np.testing.assert_array_equal(table.rows(0, 38), stored[2:])


REFUSED: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "relative positions": (
        {**BERT, "position_embedding_type": "relative_key"},
        "config.unsupported",
        "position_embedding_type",
    ),
    "a decoder": ({**BERT, "is_decoder": True}, "config.unsupported", "is_decoder"),
    "a classifier": (
        {**BERT, "architectures": ["BertForSequenceClassification"]},
        "family.architecture",
        "BertForSequenceClassification",
    ),
    "sines": ({**DISTILBERT, "sinusoidal_pos_embds": True}, "config.unsupported", "sinusoidal"),
    "heads": ({**BERT, "num_attention_heads": 5}, "config.value_invalid", "num_attention_heads"),
    "no room behind the padding": (
        {**ROBERTA, "pad_token_id": 39},
        "config.value_invalid",
        "max_position_embeddings",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    config, code, named = REFUSED[case]
    with pytest.raises(CheckpointError, match=named) as caught:
        _load(tmp_path, config)
    assert caught.value.code == code


SENTENCES: dict[str, tuple[dict[str, str], str]] = {
    "not a list": ({"modules.json": "{}"}, "sentence.invalid"),
    "no JSON": ({"modules.json": "["}, "checkpoint.json_invalid"),
    "a dense layer": (
        {"modules.json": '[{"type": "s.Transformer"}, {"type": "s.Dense", "path": "2_Dense"}]'},
        "sentence.module",
    ),
    "a path outside": (
        {"modules.json": '[{"type": "s.Transformer"}, {"type": "s.Pooling", "path": "../x"}]'},
        "sentence.invalid",
    ),
    "a path with a NUL": (
        {"modules.json": '[{"type": "s.Transformer"}, {"type": "s.Pooling", "path": "a\\u0000"}]'},
        "sentence.invalid",
    ),
    "a path that is no text": (
        {"modules.json": '[{"type": "s.Transformer"}, {"type": "s.Pooling", "path": "\\ud800"}]'},
        "sentence.invalid",
    ),
    "no pooling file": (
        {"modules.json": '[{"type": "s.Transformer"}, {"type": "s.Pooling", "path": "p"}]'},
        "checkpoint.file_missing",
    ),
    "weighted": (
        {"1_Pooling/config.json": '{"pooling_mode_weightedmean_tokens": true}'},
        "sentence.pooling",
    ),
    "two at once": (
        {
            "1_Pooling/config.json": '{"pooling_mode_cls_token": true, '
            '"pooling_mode_max_tokens": true}'
        },
        "sentence.pooling",
    ),
    "a list": ({"sentence_bert_config.json": "[]"}, "sentence.invalid"),
    "a length of 0": (
        {"sentence_bert_config.json": '{"max_seq_length": 0}'},
        "config.value_invalid",
    ),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_sentence_files_that_make_no_sense_are_refused(case: str, tmp_path: Path) -> None:
    files, code = SENTENCES[case]
    _sentence(tmp_path, "pooling_mode_mean_tokens")
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError) as caught:
        _load(tmp_path, BERT)
    assert caught.value.code == code


def test_the_pooling_by_name_of_newer_files(tmp_path: Path) -> None:
    _sentence(tmp_path, "pooling_mode_mean_tokens")
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    found = _load(tmp_path, BERT).embedding
    assert found is not None and found.pooling == "cls"


def test_a_context_beyond_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1 to 38"):
        _load(tmp_path, ROBERTA, context=39)
