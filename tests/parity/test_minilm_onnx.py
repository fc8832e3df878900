"""all-MiniLM-L6-v2 through torch's ONNX exporter: the very vectors of its Hugging Face directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from support.compiling import wanted
from support.minilm import TEXTS, cosine, minilm

from hearth.compiler.pipeline import compile_model
from hearth.runtime import Encoder, load_encoder

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", reason="needs the parity extra")
pytest.importorskip("onnxscript", reason="needs the parity extra")

FLOAT = {"weights": "f32", "kv": "f32"}
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "modules.json")
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def export(folder: Path, attention: str) -> Path:
    """The model as torch exports it, batch and length free, and the files beside it."""
    source = minilm()

    class Rows(torch.nn.Module):  # type: ignore[name-defined,misc]
        """The last layer's rows alone."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = transformers.AutoModel.from_pretrained(
                source, attn_implementation=attention
            )

        def forward(self, ids: object, mask: object, types: object) -> object:
            given = dict(zip(INPUTS, (ids, mask, types), strict=True))
            return self.encoder(**given).last_hidden_state

    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    example = tokenizer([TEXTS[0]] * 2, return_tensors="pt")
    batch, length = torch.export.Dim("batch", max=64), torch.export.Dim("length", min=2, max=256)
    folder.mkdir()
    torch.onnx.export(
        Rows().eval(),
        tuple(example[name] for name in INPUTS),
        str(folder / "model.onnx"),
        dynamo=True,
        input_names=list(INPUTS),
        output_names=["last_hidden_state"],
        dynamic_shapes=({0: batch, 1: length},) * 3,
    )
    for name in BESIDE:
        shutil.copy(source / name, folder / name)
    shutil.copytree(source / "1_Pooling", folder / "1_Pooling")
    return folder


def compiled(source: Path, output: Path, **recipe: str) -> Encoder:
    compile_model(source, output, wanted(**recipe, context=256))
    return load_encoder(output, threads=2)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_an_export_gives_the_same_vectors(attention: str, tmp_path: Path) -> None:
    folder = export(tmp_path / "onnx", attention)
    texts = list(TEXTS)
    exact = compiled(minilm(), tmp_path / "hf.har", **FLOAT).embed(texts)
    found = compiled(folder, tmp_path / "onnx.har", **FLOAT).embed(texts)
    np.testing.assert_array_equal(found, exact)
    coded = compiled(folder, tmp_path / "int8.har", weights="int8", activations="dynamic")
    cosines = [cosine(a, b) for a, b in zip(coded.embed(texts), exact, strict=True)]
    assert min(cosines) >= 0.995
