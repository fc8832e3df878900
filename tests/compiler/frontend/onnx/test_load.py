"""Real exports through the whole compiler: onnxruntime's logits and tokens, the weights of the Hugging Face twin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from support.checkpoints import LLAMA, MISTRAL, QWEN2, QWEN3, write_checkpoint
from support.compiling import wanted
from support.contrib import IDS, Writer, decoder
from support.data import checkpoint, real
from support.packed import packed
from support.raised import RELATIVE, Source
from support.spelled import Form, attention

from hearth.compiler.frontend import load as load_source
from hearth.compiler.frontend.onnx import GraphSource
from hearth.compiler.frontend.source import SourceModel
from hearth.compiler.ir.to_onnx import save_onnx
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load
from hearth.runtime.archive.reader import open_archive
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import UsageError
from hearth.schemas.manifest import ModelKind

FLOAT = wanted(weights="f32", kv="f32", activations="none")


def test_capp_gpt2_gives_the_reference(tmp_path: Path) -> None:
    source = real("onnx", "capp-gpt2")
    archive = tmp_path / "m.har"
    compile_model(source, archive, FLOAT)
    model = load(archive, threads=2)
    assert model.manifest.kind is ModelKind.DECODER
    assert not [name for name in open_archive(archive).entries if name.startswith("onnx/")]
    for case in json.loads((source / "reference_ort.json").read_text())["cases"]:
        session = model.session()
        logits = session.prefill(case["prompt_ids"])
        reference = np.array(case["prefill_last_logits"], np.float32)
        assert np.abs(logits - reference).max() <= RELATIVE * np.abs(reference).max()
        run = Source.open(source / "model.onnx")
        want = run.feed(np.array(case["prompt_ids"]))[-1]
        for token in case["greedy_ids"]:
            assert np.abs(logits - want).max() <= RELATIVE * np.abs(want).max()
            assert logits.argmax() == want.argmax() == token
            logits, want = session.decode(token), run.feed(np.array([token]))[-1]


@pytest.mark.parametrize("weights", ["f32", "int8", "int4"])
def test_the_twin_has_the_same_weights(tmp_path: Path, weights: str) -> None:
    """capp-gpt2 as optimum exported it, and as its checkpoint."""
    options = wanted(weights=weights, kv="f32")
    one, other = tmp_path / "onnx.har", tmp_path / "hf.har"
    compile_model(real("onnx", "capp-gpt2"), one, options)
    compile_model(checkpoint("capp-gpt2"), other, options)
    assert packed(one) == packed(other)


def test_what_lies_beside_the_graph(tmp_path: Path) -> None:
    decoder(tmp_path)
    config = {"model_type": "mine", "max_position_embeddings": 40, "eos_token_id": 3}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = load_source(tmp_path, context=None, kv=KVScheme.F32)
    assert isinstance(model, SourceModel)
    assert (model.family, model.context, model.assets.eos_ids) == ("mine", 40, (3,))
    assert tmp_path / "config.json" in model.files and tmp_path / "model.onnx" in model.files
    with pytest.raises(UsageError, match=r"context\.out_of_range"):
        load_source(tmp_path, context=41, kv=KVScheme.F32)


def learned(w: Writer, ids: str) -> str:
    """Words, and a table of 20 positions."""
    words, places = (
        w.tensor(w.rng.standard_normal((n, 64)).astype(np.float32), "table") for n in (48, 20)
    )
    at = w.input("position_ids", TensorProto.INT64, ["batch", "tokens"])
    return w.op("Add", w.op("Gather", words, ids), w.op("Gather", places, at))


def test_the_context_ends_where_learned_positions_end(tmp_path: Path) -> None:
    decoder(tmp_path, lambda w, x: attention(w, x, Form()), embedding=learned)
    model = load_source(tmp_path, context=None, kv=KVScheme.F32)
    assert isinstance(model, SourceModel) and model.context == 20
    with pytest.raises(UsageError, match="1 to 20"):
        load_source(tmp_path, context=21, kv=KVScheme.F32)
    archive = tmp_path / "m.har"
    compile_model(tmp_path, archive, wanted(context=20, weights="f32", kv="f32"))
    got = load(archive).session().prefill(IDS)
    want = Source.open(tmp_path / "model.onnx").feed(IDS)[-1]
    assert np.abs(got - want).max() <= RELATIVE * np.abs(want).max()


def test_what_is_not_raised_says_why(tmp_path: Path) -> None:
    decoder(tmp_path, mlp=lambda w, x: w.op("Softplus", x))
    source = load_source(tmp_path, context=64, kv=KVScheme.F32)
    assert isinstance(source, GraphSource)
    (reason,) = [text for node, text in source.reasons.items() if "Softplus" in node]
    assert "is no known activation" in reason


FAMILIES = (LLAMA, QWEN2, QWEN3, MISTRAL)


@pytest.mark.parametrize("config", FAMILIES, ids=lambda config: config["model_type"])
def test_our_own_exports_come_back(tmp_path: Path, config: Mapping[str, Any]) -> None:
    """A float graph that `to_onnx` wrote gives the weights and the logits of the checkpoint it came from."""
    source = write_checkpoint(tmp_path / "checkpoint", config)
    graph = load_source(source, context=64, kv=KVScheme.F32).graph
    save_onnx(graph, "main", tmp_path / "model.onnx")
    options = wanted(weights="int8", kv="int8")
    one, other = tmp_path / "onnx.har", tmp_path / "hf.har"
    compile_model(tmp_path / "model.onnx", one, options)
    compile_model(source, other, options)
    assert packed(one) == packed(other)
    ids = np.arange(20)
    assert np.array_equal(*(load(each).session().prefill(ids) for each in (one, other)))


def test_a_pooling_that_cannot_be_had(tmp_path: Path) -> None:
    """Neither a decoder nor a graph that stays general drops --pooling in silence."""
    path = decoder(tmp_path, lambda w, x: attention(w, x, Form(rope="half")))
    with pytest.raises(UsageError, match="decoder") as caught:
        load_source(path, context=None, kv=KVScheme.F32, pooling="mean")
    assert caught.value.code == "usage.pooling"
    path = decoder(tmp_path, lambda w, x: w.op("CumSum", x, w.tensor(np.array(1), "axis")))
    with pytest.raises(UsageError, match="stays general"):
        load_source(path, context=None, kv=KVScheme.F32, pooling="cls")
