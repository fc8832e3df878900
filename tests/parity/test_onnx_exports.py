"""Models exported by torch, with both of its exporters: the logits and the packed weights of the Hugging Face path.

Each case draws its weights anew. A failure names its seed: HEARTH_PARITY_SEED=that draws the same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.compiling import wanted
from support.minilm import TEXTS, cosine, minilm
from support.packed import packed

from hearth import runtime
from hearth.compiler.pipeline import compile_model
from hearth.runtime.archive.reader import open_archive

torch = pytest.importorskip("torch", reason="needs the parity extra")
transformers = pytest.importorskip("transformers", minversion="5", reason="needs the parity extra")
pytest.importorskip("onnxscript", reason="needs the parity extra")

SEED = int(os.environ.get("HEARTH_PARITY_SEED", np.random.SeedSequence().generate_state(1)[0]))
BOUND = 2e-4
CONTEXT, LAYERS, HEAD_DIM = 40, 2, 16
FLOAT = wanted(weights="f32", kv="f32", activations="none", context=CONTEXT)
ROTARY: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 112,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**ROTARY)),
    "qwen2": lambda: transformers.Qwen2ForCausalLM(
        transformers.Qwen2Config(**ROTARY, tie_word_embeddings=True)
    ),
    "qwen3": lambda: transformers.Qwen3ForCausalLM(
        transformers.Qwen3Config(**ROTARY, head_dim=HEAD_DIM, tie_word_embeddings=True)
    ),
    "mistral": lambda: transformers.MistralForCausalLM(
        transformers.MistralConfig(**ROTARY, sliding_window=16)
    ),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=96, n_embd=64, n_layer=LAYERS, n_head=4, n_positions=128)
    ),
}


class Cached(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Logits and the caches, from ids, mask, positions and pasts."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, position_ids: Any, past: Any) -> Any:
        cache = transformers.DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        result = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        layers = result.past_key_values.layers
        return result.logits, [(layer.keys, layer.values) for layer in layers]


class Plain(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Logits from ids alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any) -> Any:
        return self.model(input_ids=input_ids, use_cache=False).logits


def _inputs(heads: int) -> tuple[Any, ...]:
    tokens, before, batch = 3, 5, 2
    rows = torch.arange(before, before + tokens)[None].repeat(batch, 1)
    mask = torch.ones(batch, before + tokens, dtype=torch.int64)
    shape = (batch, heads, before, HEAD_DIM)
    past = [(torch.randn(shape), torch.randn(shape)) for _ in range(LAYERS)]
    return torch.randint(0, 96, (batch, tokens)), mask, rows, past


def by_dynamo(model: Any, heads: int, path: Path, opset: int) -> None:
    """torch.export, then ONNX."""
    free = torch.export.Dim.DYNAMIC
    rows, caches = {0: free, 1: free}, {0: free, 2: free}
    torch.onnx.export(
        Cached(model), _inputs(heads), str(path), dynamo=True, opset_version=opset,
        dynamic_shapes={
            "input_ids": rows, "attention_mask": rows, "position_ids": rows,
            "past": [(caches, caches)] * LAYERS,
        },
    )  # fmt: skip


def by_trace(model: Any, heads: int, path: Path, opset: int) -> None:
    """TorchScript."""
    pasts = [f"past.{i}.{kind}" for i in range(LAYERS) for kind in ("key", "value")]
    rows = ["input_ids", "attention_mask", "position_ids"]
    torch.onnx.export(
        Cached(model), _inputs(heads), str(path), dynamo=False, opset_version=opset,
        input_names=[*rows, *pasts],
        output_names=["logits", *(name.replace("past", "present") for name in pasts)],
        dynamic_axes={
            **{name: {0: "batch", 1: f"{name}_length"} for name in rows},
            **{name: {0: "batch", 2: "past"} for name in pasts},
        },
    )  # fmt: skip


def without_past(model: Any, heads: int, path: Path, opset: int) -> None:
    """A plain function of ids."""
    free = torch.export.Dim.DYNAMIC
    torch.onnx.export(
        Plain(model), _inputs(heads)[:1], str(path), dynamo=True, opset_version=opset,
        dynamic_shapes={"input_ids": {0: free, 1: free}},
    )  # fmt: skip


EXPORTS: dict[str, Callable[[Any, int, Path], None]] = {
    "dynamo 18": lambda *model: by_dynamo(*model, 18),
    "dynamo 23": lambda *model: by_dynamo(*model, 23),
    "traced": lambda *model: by_trace(*model, 17),
    "without past": lambda *model: without_past(*model, 18),
}


def _drawn(make: Callable[[], Any]) -> Any:
    """Random weights; gains and biases that matter."""
    torch.manual_seed(SEED % (1 << 31))
    model = make().eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, 1.0, 0.3)
        else:
            torch.nn.init.normal_(parameter, 0.0, parameter.shape[-1] ** -0.5)
    return model


def _logits(archive: Path, ids: np.ndarray) -> np.ndarray:
    session = runtime.load(archive, threads=2).session()
    first = session.prefill(ids[:-4])
    return np.stack([first, *(session.decode(int(token)) for token in ids[-4:])])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("export", EXPORTS)
def test_decoder(tmp_path: Path, family: str, export: str) -> None:
    model = _drawn(FAMILIES[family])
    source, graph = tmp_path / "hf", tmp_path / "onnx" / "model.onnx"
    model.save_pretrained(source)
    graph.parent.mkdir()
    EXPORTS[export](model, 4 if family == "gpt2" else 2, graph)
    archives = tmp_path / "hf.har", tmp_path / "onnx.har"
    for path, archive in zip((source, graph), archives, strict=True):
        compile_model(path, archive, FLOAT)
    names = open_archive(archives[1]).entries
    assert not [name for name in names if name.startswith("onnx/")]
    ids = np.random.default_rng(SEED).integers(0, 96, 30)
    want, got = (_logits(archive, ids) for archive in archives)
    assert np.abs(got - want).max() <= BOUND * np.abs(want).max(), f"HEARTH_PARITY_SEED={SEED}"
    assert packed(archives[0], tables=False) == packed(archives[1], tables=False)


class Hidden(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Rows of an encoder."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state


class Sentence(Hidden):
    """The mean of the rows, of length 1."""

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        rows = super().forward(input_ids, attention_mask, token_type_ids)
        weights = attention_mask[..., None].float()
        pooled = (rows * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(pooled, dim=1)


@pytest.mark.parametrize(
    ("wrapper", "dynamo"), [(Hidden, False), (Sentence, True)], ids=["rows, traced", "vector"]
)
def test_minilm(tmp_path: Path, wrapper: type, dynamo: bool) -> None:
    """Real weights: f32 to 0.9999, int8 with dynamic activations to 0.995 of the Hugging Face path in f32."""
    directory = minilm()
    model = transformers.AutoModel.from_pretrained(directory).eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    ids = torch.randint(5, 1000, (2, 7))
    given = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    free = torch.export.Dim.DYNAMIC
    shapes: dict[str, Any] = (
        {"dynamic_shapes": {name: {0: free, 1: free} for name in names}}
        if dynamo
        else {"dynamic_axes": {name: {0: "b", 1: "t"} for name in names}, "input_names": names}
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    torch.onnx.export(wrapper(model), given, str(tmp_path / "model.onnx"), dynamo=dynamo, **shapes)
    reference = tmp_path / "hf.har"
    compile_model(directory, reference, FLOAT)
    want = runtime.load_encoder(reference).embed(TEXTS)
    for weights, activations, bound in (("f32", "none", 0.9999), ("int8", "dynamic", 0.995)):
        archive = tmp_path / f"{weights}.har"
        options = wanted(weights=weights, activations=activations, context=CONTEXT)
        compile_model(tmp_path / "model.onnx", archive, options)
        assert not [name for name in open_archive(archive).entries if name.startswith("onnx/")]
        got = runtime.load_encoder(archive).embed(TEXTS)
        assert min(map(cosine, got, want)) >= bound
