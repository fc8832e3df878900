"""all-MiniLM-L6-v2, real weights: vectors of the compiled archive against onnxruntime on our own float graph."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from support.compiling import wanted
from support.minilm import SHORT, TEXTS, cosine, minilm
from support.onnx_run import OnnxState, run_onnx, session

from hearth.compiler.frontend import load
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.pipeline import compile_model
from hearth.runtime import Encoder, load_encoder
from hearth.runtime.text.tokenizer import Encoded
from hearth.schemas.commands import KVScheme

# what the recipe says, and the least cosine with the float graph
SCHEMES: dict[str, tuple[dict[str, str], float]] = {
    "f32": ({"weights": "f32", "kv": "f32"}, 0.9999),
    "int8, dynamic": ({"weights": "int8", "activations": "dynamic"}, 0.995),
    "int8 weights": ({"weights": "int8", "activations": "none"}, 0.998),
}


@cache
def reference() -> onnxruntime.InferenceSession:
    """The graph as the frontend makes it, before any pass."""
    return session(to_onnx(load(minilm(), context=None, kv=KVScheme.F32).graph, "main"))


@pytest.mark.parametrize("name", SCHEMES)
def test_the_vectors_are_those_of_the_float_graph(name: str, tmp_path: Path) -> None:
    directory, (recipe, least) = minilm(), SCHEMES[name]
    output = tmp_path / "minilm.har"
    compile_model(directory, output, wanted(**recipe, context=256))
    encoder = load_encoder(output, threads=2)
    found = encoder.embed(list(TEXTS))
    assert found.shape == (len(TEXTS), 384)
    assert min(cosines(encoder, TEXTS)) >= least
    lengths = np.sqrt((found.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def test_texts_of_a_word_or_two_keep_to_the_bound_of_int8(tmp_path: Path) -> None:
    """They depend most on the first token, whose rows have the loudest channels."""
    output = tmp_path / "minilm.har"
    recipe, least = SCHEMES["int8, dynamic"]
    compile_model(minilm(), output, wanted(**recipe, context=256))
    assert min(cosines(load_encoder(output, threads=2), SHORT)) >= least


def cosines(encoder: Encoder, texts: tuple[str, ...]) -> list[float]:
    """Of each text's vector with that of the float graph."""
    exact = [expected(encoder.encode(text)) for text in texts]
    pairs = zip(encoder.embed(list(texts)), exact, texts, strict=True)
    found = {text: cosine(row, vector) for row, vector, text in pairs}
    worst = min(found, key=lambda text: found[text])
    print(f"smallest {found[worst]:.6f} ({worst}), mean {np.mean(list(found.values())):.6f}")
    return list(found.values())


def expected(encoded: Encoded) -> NDArray[np.float32]:
    ids, types = np.array(encoded.ids), np.array(encoded.types)
    results, _ = run_onnx(reference(), ids, OnnxState(), {"types": types})
    return results["embedding"][0]
