"""Models exported by optimum (text-generation-with-past): the logits and the packed weights of the Hugging Face path.

optimum asks for an older transformers than the other parity tests: an environment of its own runs this file
(`pip install optimum-onnx torch`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.compiling import wanted
from support.packed import packed

from hearth import runtime
from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive.reader import open_archive

torch = pytest.importorskip("torch", reason="needs torch")
export = pytest.importorskip("optimum.exporters.onnx", reason="needs optimum-onnx")
transformers = pytest.importorskip("transformers", reason="needs transformers")

BOUND = 2e-4
CONTEXT = 40
FLOAT = wanted(weights="f32", kv="f32", activations="none", context=CONTEXT)
ROTARY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROTARY)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**ROTARY, tie_word_embeddings=True)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128, bos_token_id=1,
            eos_token_id=2,
        )
    ),
}  # fmt: skip


def _logits(archive: Path, ids: np.ndarray) -> np.ndarray:
    session = runtime.load(archive, threads=2).session()
    first = session.prefill(ids[:-4])
    return np.stack([first, *(session.decode(int(token)) for token in ids[-4:])])


@pytest.mark.parametrize("family", FAMILIES)
def test_export(tmp_path: Path, family: str) -> None:
    torch.manual_seed(0)
    model = FAMILIES[family]().eval()
    for parameter in model.parameters():
        spread = 0.3 if parameter.dim() == 1 else parameter.shape[-1] ** -0.5
        torch.nn.init.normal_(parameter, float(parameter.dim() == 1), spread)
    source, graph = tmp_path / "hf", tmp_path / "onnx"
    model.save_pretrained(source)
    export.main_export(
        str(source), str(graph), task="text-generation-with-past", do_validation=False
    )
    archives = tmp_path / "hf.har", tmp_path / "onnx.har"
    for path, archive in zip((source, graph), archives, strict=True):
        compile_model(path, archive, FLOAT)
    assert not [name for name in open_archive(archives[1]).entries if name.startswith("onnx/")]
    ids = np.random.default_rng(0).integers(0, 96, 30)
    want, got = (_logits(archive, ids) for archive in archives)
    assert np.abs(got - want).max() <= BOUND * np.abs(want).max()
    assert packed(archives[0], tables=False) == packed(archives[1], tables=False)
