"""Families through compile and runtime: the evaluator's numbers, to the bit where that is exact."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import bert, gpt2, phi
from support.checkpoints import (
    GEMMA,
    GEMMA2,
    GEMMA3,
    LLAMA,
    PARTLY_TURNED,
    PHI3,
    QWEN3,
    apart,
    random_tensors,
    write_checkpoint,
)
from support.compiling import compiled_logits, evaluated_logits, graph_before_lowering, wanted
from support.data import checkpoint, real

from hearth.compiler.ir.evaluate import evaluate, run_entry
from hearth.compiler.ir.state import State
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load, load_encoder, native
from hearth.runtime.archive import open_archive
from hearth.runtime.text.tokenizer import Encoded

SCHEMES: dict[str, dict[str, Any]] = {
    "int4": {"weights": "int4"},
    "int8": {"weights": "int8", "kv": "f16"},
    "f32": {"weights": "f32", "kv": "f32"},
    "f16": {"weights": "f16", "kv": "f16"},
}
EXACT = ("int4", "int8")
IDS = np.random.default_rng(3).integers(0, 53, 17).astype(np.int32)
TYPES = [0] * 9 + [1] * 8
DECODERS: dict[str, Mapping[str, Any]] = {
    "as published": gpt2.GPT2,
    "untied, erf": {**gpt2.GPT2, "tie_word_embeddings": False, "activation_function": "gelu"},
    "relu, by layer": {
        **gpt2.GPT2,
        "activation_function": "relu",
        "scale_attn_by_inverse_layer_idx": True,
    },
}


def compare(found: Any, expected: Any, exact: bool) -> None:
    if exact:
        np.testing.assert_array_equal(found, expected)
    else:
        assert np.abs(found - expected).max() <= 2e-4 * np.abs(expected).max()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", DECODERS)
def test_gpt2(case: str, scheme: str, tmp_path: Path) -> None:
    config = DECODERS[case]
    source = write_checkpoint(tmp_path / "m", config, gpt2.random_tensors(config))
    options = wanted(**SCHEMES[scheme], context=40)
    found = compiled_logits(source, tmp_path / "m.har", options, IDS)
    compare(found, evaluated_logits(source, options, IDS), scheme in EXACT)


GEMMAS: dict[str, Mapping[str, Any]] = {"gemma": GEMMA, "gemma2": GEMMA2, "gemma3": GEMMA3}
ROTARY: dict[str, Mapping[str, Any]] = {
    "qwen3": QWEN3,
    **GEMMAS,
    "phi3": PHI3,
    "phi3, longrope of a part": PARTLY_TURNED,
    "phi3, heads of 96": {**PHI3, "hidden_size": 192, "num_attention_heads": 2},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", ROTARY)
def test_rotary_decoders(case: str, scheme: str, tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "m", ROTARY[case])
    options = wanted(**SCHEMES[scheme], context=40)
    found = compiled_logits(source, tmp_path / "m.har", options, IDS)
    compare(found, evaluated_logits(source, options, IDS), scheme in EXACT)


PARALLEL: dict[str, Mapping[str, Any]] = {
    "as published": phi.PHI,
    "heads of 80": {**phi.PHI, "hidden_size": 160, "num_attention_heads": 2},
}


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("case", PARALLEL)
def test_phi(case: str, scheme: str, tmp_path: Path) -> None:
    config = PARALLEL[case]
    source = write_checkpoint(tmp_path / "m", config, phi.random_tensors(config))
    options = wanted(**SCHEMES[scheme], context=40)
    found = compiled_logits(source, tmp_path / "m.har", options, IDS)
    compare(found, evaluated_logits(source, options, IDS), scheme in EXACT)


def test_what_phi3_stores_as_one_is_packed_as_if_it_had_been_merged(tmp_path: Path) -> None:
    """The same model as Llama stores it gives the same bytes of weights."""
    tensors = random_tensors(PHI3)
    whole = write_checkpoint(tmp_path / "phi3", {**PHI3, "sliding_window": None}, tensors)
    parts = write_checkpoint(tmp_path / "llama", {**LLAMA, "head_dim": 6}, apart(PHI3, tensors))
    found = []
    for source in (whole, parts):
        output = source.with_suffix(".har")
        compile_model(source, output, wanted(weights="int4", context=40))
        archive = open_archive(output)
        found.append(bytes(archive.weights()))
    assert found[0] == found[1]


@pytest.mark.parametrize("skip", [(), ("fuse-activation",)], ids=["fused", "apart"])
@pytest.mark.parametrize("case", GEMMAS)
def test_gemma_is_the_same_bits_on_every_instruction_set_in_every_chunk(
    case: str, skip: tuple[str, ...], tmp_path: Path
) -> None:
    source = write_checkpoint(tmp_path / "m", GEMMAS[case], dtype="BF16")
    options = wanted(skip, weights="int4", context=48)
    compile_model(source, tmp_path / "m.har", options)
    graph = graph_before_lowering(source, options)
    ids = np.random.default_rng(4).integers(0, 53, 41)
    expected, _ = evaluate(graph, "prefill", ids, State.empty(), logit_rows=len(ids))
    for isa in native.isas():
        session = load(tmp_path / "m.har", threads=2, isa=isa).session()
        for chunk in (1, 7, 16, len(ids)):
            session.rewind(0)
            for end in range(chunk, len(ids) + 1, chunk):
                last = session.prefill(ids[end - chunk : end].tolist())
                np.testing.assert_array_equal(last, expected[end - 1], f"{isa}, {chunk}, {end}")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("family", ["BERT", "ROBERTA", "DISTILBERT"])
def test_encoders(family: str, scheme: str, tmp_path: Path) -> None:
    config = getattr(bert, family)
    source = write_checkpoint(tmp_path / "m", config, bert.random_tensors(config))
    options = wanted(**SCHEMES[scheme], context=30)
    compile_model(source, tmp_path / "m.har", options)
    encoder = load_encoder(tmp_path / "m.har", threads=2)
    graph = graph_before_lowering(source, options)
    given = {"tokens": IDS.astype(np.int64), "types": np.array(TYPES)}
    text = Encoded(IDS.tolist(), TYPES if encoder.has_types else [0] * len(IDS))
    for found, entry in ((encoder.hidden(text), "hidden"), (encoder.embed([text]), "main")):
        (expected,) = run_entry(graph, entry, given)[0].values()
        compare(found, expected, scheme in EXACT)


def test_greedy_tokens_of_a_real_gpt2_are_those_of_onnxruntime(tmp_path: Path) -> None:
    """onnx/capp-gpt2 holds the same weights; onnxruntime ran that graph."""
    cases = json.loads(real("onnx", "capp-gpt2", "reference_ort.json").read_text())["cases"]
    compile_model(checkpoint("capp-gpt2"), tmp_path / "m.har", wanted(weights="f32", kv="f32"))
    model = load(tmp_path / "m.har", threads=2)
    assert cases
    for case in cases:
        session = model.session()
        logits = session.prefill(case["prompt_ids"])
        exact = np.array(case["prefill_last_logits"])
        assert np.abs(logits - exact).max() <= 2e-4 * np.abs(exact).max()
        for token in case["greedy_ids"]:
            assert int(logits.argmax()) == token
            logits = session.decode(token)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_real_gpt2_that_sorts(scheme: str, tmp_path: Path) -> None:
    """gpt-nano-sort was trained to give the six letters of its prompt in order."""
    options = wanted(**SCHEMES[scheme], context=11)
    compile_model(checkpoint("gpt-nano-sort"), tmp_path / "m.har", options)
    model = load(tmp_path / "m.har", threads=2)
    for letters in ([2, 1, 0, 1, 2, 0], [0, 0, 2, 1, 0, 1], [1, 1, 1, 2, 2, 0]):
        session = model.session()
        logits, given = session.prefill(letters), []
        for _ in range(5):
            given.append(int(logits.argmax()))
            logits = session.decode(given[-1])
        assert [*given, int(logits.argmax())] == sorted(letters)
