"""all-MiniLM-L6-v2, real weights: vectors of the compiled archive against onnxruntime on our own float graph."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from support.compiling import wanted
from support.minilm import TEXTS, cosine, minilm
from support.onnx_run import OnnxState, run_onnx, session

from hearth.compiler.frontend import load
from hearth.compiler.ir.to_onnx import to_onnx
from hearth.compiler.pipeline import compile_model
from hearth.runtime import load_encoder
from hearth.runtime.tokenizer import Encoded
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
    exact = [expected(encoder.encode(text)) for text in TEXTS]
    cosines = [cosine(row, vector) for row, vector in zip(found, exact, strict=True)]
    print(f"{name}: smallest {min(cosines):.6f}, mean {np.mean(cosines):.6f}")
    assert min(cosines) >= least
    lengths = np.sqrt((found.astype(np.float64) ** 2).sum(axis=1))
    np.testing.assert_allclose(lengths, 1, atol=1e-6)


def expected(encoded: Encoded) -> NDArray[np.float32]:
    ids, types = np.array(encoded.ids), np.array(encoded.types)
    results, _ = run_onnx(reference(), ids, OnnxState(), {"types": types})
    return results["embedding"][0]
