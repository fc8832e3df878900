"""Decoders without a head become encoders: whatever the file calls its tensors, and where a head would be missed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.checkpoints import LLAMA, MISTRAL, QWEN2, QWEN3, random_tensors, write_checkpoint
from support.command_line import hearth
from support.compiling import wanted
from support.plain_decoder import logits

from hearth.compiler.frontend import load
from hearth.compiler.frontend.source import SourceModel
from hearth.compiler.ir.evaluate import State, evaluate
from hearth.compiler.ir.verify import verify
from hearth.compiler.passes import FLOAT_PASSES, run_passes
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load as load_archive
from hearth.runtime import load_encoder
from hearth.schemas.commands import KVScheme
from hearth.schemas.errors import ArchiveError, CheckpointError, UsageError
from hearth.schemas.manifest import Embedding, ModelKind

IDS = [3, 1, 4, 1, 5, 9, 2, 6]
STEM, HEAD = "model.", "lm_head.weight"
BODIES: dict[str, Mapping[str, Any]] = {
    name: {**config, "architectures": [f"{name}Model"]}
    for name, config in {"Llama": LLAMA, "Mistral": MISTRAL, "Qwen2": QWEN2, "Qwen3": QWEN3}.items()
}


def write(
    folder: Path, config: Mapping[str, Any], *, stem: bool = False, head: bool = False
) -> Path:
    tensors = random_tensors({**config, "tie_word_embeddings": not head})
    named = {
        name if stem or name == HEAD else name.removeprefix(STEM): values
        for name, values in tensors.items()
    }
    return write_checkpoint(folder, config, named)


def source(folder: Path, pooling: Any = "last") -> SourceModel:
    found = load(folder, context=None, kv=KVScheme.F32, pooling=pooling)
    assert isinstance(found, SourceModel)
    return found


def rows_of(config: Mapping[str, Any]) -> Any:
    """The rows before the head, by the papers: the head is the identity."""
    head = np.eye(config["hidden_size"], dtype=np.float32)
    return logits(config, {**random_tensors(config), HEAD: head}, IDS)


@pytest.mark.parametrize("stem", [True, False])
@pytest.mark.parametrize("name", BODIES)
def test_a_body_makes_vectors(name: str, stem: bool, tmp_path: Path) -> None:
    model = source(write(tmp_path, BODIES[name], stem=stem))
    assert (model.kind, model.embedding) == (ModelKind.ENCODER, Embedding("last", False, 24))
    graph = run_passes(FLOAT_PASSES, model.graph)
    verify(graph)
    expected = rows_of(BODIES[name])
    found = evaluate(graph, "hidden", IDS, State.empty())[0]
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    vector = evaluate(graph, "main", IDS, State.empty())[0]
    np.testing.assert_allclose(vector, expected[-1:], rtol=2e-4, atol=2e-5)


def test_every_position_sees_the_whole_text_where_the_config_says_so(tmp_path: Path) -> None:
    """As gte-Qwen2 does."""
    config = {**BODIES["Qwen2"], "is_causal": False}
    model = source(write(tmp_path, config), "mean")
    expected = rows_of(config)
    found = evaluate(model.graph, "main", IDS, State.empty())[0]
    np.testing.assert_allclose(found[0], expected.mean(0), rtol=2e-4, atol=2e-5)
    assert not np.allclose(expected, rows_of(BODIES["Qwen2"]))


def test_an_untied_head_that_is_not_stored_is_not_missed_where_vectors_are_wanted(
    tmp_path: Path,
) -> None:
    config = {**QWEN2, "tie_word_embeddings": False}
    assert source(write(tmp_path, config)).kind is ModelKind.ENCODER
    with pytest.raises(CheckpointError, match="lm_head") as caught:
        source(tmp_path, None)
    assert caught.value.code == "checkpoint.tensor_missing"


def test_a_tied_head_needs_no_tensor(tmp_path: Path) -> None:
    """Qwen3-Embedding is published so: a causal model's architecture, and names without their stem."""
    model = source(write(tmp_path, QWEN3))
    assert model.kind is ModelKind.DECODER and set(model.graph.entries) == {"main", "hidden"}


def test_a_head_that_is_there_is_used(tmp_path: Path) -> None:
    config = {**BODIES["Llama"], "tie_word_embeddings": False}
    assert source(write(tmp_path, config, stem=True, head=True)).kind is ModelKind.DECODER


def test_without_a_pooling_it_would_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        source(write(tmp_path, BODIES["Qwen3"]), None)
    assert caught.value.code == "usage.pooling"


@pytest.mark.parametrize(
    ("config", "head"),
    [
        ({**QWEN2, "is_causal": False}, False),
        ({**BODIES["Mistral"], "is_causal": False}, False),
        ({**BODIES["Llama"], "is_causal": False}, True),
    ],
    ids=["with a tied head", "beside a window", "with a head"],
)
def test_a_whole_text_is_for_vectors_alone(
    config: Mapping[str, Any], head: bool, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="is_causal") as caught:
        source(write(tmp_path, config, head=head))
    assert caught.value.code == "config.unsupported"


@pytest.mark.parametrize("weights", ["int4", "int8"])
def test_the_archive_makes_vectors_and_no_text(weights: str, tmp_path: Path) -> None:
    """Several texts of a request share a run and change no bit; logits it has none."""
    folder, path = write(tmp_path / "m", BODIES["Qwen3"]), tmp_path / "m.har"
    compile_model(folder, path, wanted(weights=weights, pooling="last"))
    encoder = load_encoder(path, threads=2)
    texts = [IDS, IDS[:1], IDS * 5, [7]]
    alone = np.concatenate([encoder.embed([text]) for text in texts])
    np.testing.assert_array_equal(encoder.embed(texts), alone)
    np.testing.assert_array_equal(encoder.hidden(IDS)[-1:], alone[:1])
    portable = load_encoder(path, threads=1, isa="portable")
    np.testing.assert_array_equal(portable.embed(texts), alone)
    with pytest.raises(ArchiveError) as caught:
        load_archive(path)
    assert caught.value.code == "archive.kind"


def test_it_is_compared_with_its_source_and_verified(tmp_path: Path) -> None:
    """Over standard ONNX, whose causal attention begins without a past here."""
    folder, path = write(tmp_path / "m", BODIES["Qwen3"]), tmp_path / "m.har"
    floats = ("--weights", "f32", "--kv", "f32", "--activations", "none")
    assert hearth("compile", folder, "-o", path, *floats, "--pooling", "mean", "--check") == 0
    assert hearth("verify", path) == 0
