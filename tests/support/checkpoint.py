"""A small random checkpoint on disk, as transformers writes one, to compile in tests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


@dataclass(frozen=True)
class Shape:
    """A Qwen2-like model (biases on q, k, v); the defaults are odd on purpose."""

    hidden: int = 40
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    ffn: int = 76
    vocab: int = 97
    context: int = 128
    tied: bool = True
    seed: int = 0


def write_checkpoint(folder: Path, shape: Shape | None = None) -> Path:
    """config.json and model.safetensors (f16), without a tokenizer."""
    shape = shape or Shape()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "vocab_size": shape.vocab,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": shape.tied,
        "hidden_act": "silu",
        "torch_dtype": "float16",
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(_tensors(shape), folder / "model.safetensors")
    return folder


def _tensors(shape: Shape) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(shape.seed)
    tensors: dict[str, np.ndarray] = {}

    def draw(name: str, *dims: int, spread: float = 1.0, mean: float = 0.0) -> None:
        values = rng.standard_normal(dims) * spread + mean
        tensors[name] = values.astype(np.float16)

    def linear(name: str, n: int, k: int) -> None:
        draw(f"{name}.weight", n, k, spread=k**-0.5)

    width, kv_width = shape.hidden, shape.hidden // shape.heads * shape.kv_heads
    draw("model.embed_tokens.weight", shape.vocab, width)
    for layer in range(shape.layers):
        at = f"model.layers.{layer}"
        for name, n in (("q", width), ("k", kv_width), ("v", kv_width)):
            linear(f"{at}.self_attn.{name}_proj", n, width)
            draw(f"{at}.self_attn.{name}_proj.bias", n, spread=0.2)
        linear(f"{at}.self_attn.o_proj", width, width)
        linear(f"{at}.mlp.gate_proj", shape.ffn, width)
        linear(f"{at}.mlp.up_proj", shape.ffn, width)
        linear(f"{at}.mlp.down_proj", width, shape.ffn)
        draw(f"{at}.input_layernorm.weight", width, spread=0.3, mean=1.0)
        draw(f"{at}.post_attention_layernorm.weight", width, spread=0.3, mean=1.0)
    draw("model.norm.weight", width, spread=0.3, mean=1.0)
    if not shape.tied:
        linear("lm_head", shape.vocab, width)
    return tensors
