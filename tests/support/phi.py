"""Phi-2 for tests: a tiny config, its tensors by an independent table, and the model in float64 as the paper has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32, F64 = NDArray[np.float32], NDArray[np.float64]

PHI: Mapping[str, Any] = {
    "architectures": ["PhiForCausalLM"],
    "model_type": "phi",
    "hidden_act": "gelu_new",
    "hidden_size": 40,
    "intermediate_size": 52,
    "layer_norm_eps": 1e-5,
    "max_position_embeddings": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": None,
    "partial_rotary_factor": 0.4,
    "qk_layernorm": False,
    "rope_scaling": None,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 53,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as a checkpoint has them."""
    width, inner, vocab = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, width)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        found |= _affine(f"{at}.input_layernorm", width)
        for name in ("q_proj", "k_proj", "v_proj", "dense"):
            found |= _affine(f"{at}.self_attn.{name}", width, width)
        found |= _affine(f"{at}.mlp.fc1", inner, width) | _affine(f"{at}.mlp.fc2", width, inner)
    found |= _affine("model.final_layernorm", width)
    return found | _affine("lm_head", vocab, width)


def _affine(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, F32]:
    """Values that keep activations of ordinary size; biases that matter."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, F32] = {}
    for name, shape in shapes(config).items():
        values = rng.standard_normal(shape)
        values *= shape[1] ** -0.5 if len(shape) == 2 else 0.3
        values += name.endswith("norm.weight")
        tensors[name] = values.astype(np.float32)
    return tensors


def logits(
    config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], ids: Sequence[int]
) -> F64:
    """f64[T, V]."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    x = w["model.embed_tokens.weight"][list(ids)]
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        h = _norm(x, w, f"{at}.input_layernorm", config)
        y = _linear(_attention(h, w, f"{at}.self_attn", config), w, f"{at}.self_attn.dense")
        z = _linear(_gelu(_linear(h, w, f"{at}.mlp.fc1")), w, f"{at}.mlp.fc2")
        x = x + y + z
    return _linear(_norm(x, w, "model.final_layernorm", config), w, "lm_head")


def _attention(h: F64, w: Mapping[str, F64], at: str, config: Mapping[str, Any]) -> F64:
    heads, count = config["num_attention_heads"], len(h)
    q, k, v = (
        _linear(h, w, f"{at}.{part}_proj").reshape(count, heads, -1).transpose(1, 0, 2)
        for part in "qkv"
    )
    turned = int(q.shape[-1] * config["partial_rotary_factor"])
    q, k = (_rotate(each, turned, config["rope_theta"]) for each in (q, k))
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])
    scores = np.where(np.tri(count, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = weights / weights.sum(axis=-1, keepdims=True) @ v
    return np.asarray(y.transpose(1, 0, 2).reshape(count, -1))


def _rotate(x: F64, turned: int, theta: float) -> F64:
    """Of each head the first `turned` values: pairs (i, i + turned / 2) as complex numbers."""
    half = turned // 2
    turns = np.arange(x.shape[1])[:, None] * theta ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:turned]) * np.exp(1j * turns)
    return np.concatenate([z.real, z.imag, x[..., turned:]], axis=-1)


def _linear(x: F64, w: Mapping[str, F64], name: str) -> F64:
    return np.asarray(x @ w[f"{name}.weight"].T + w[f"{name}.bias"])


def _norm(x: F64, w: Mapping[str, F64], name: str, config: Mapping[str, Any]) -> F64:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + config["layer_norm_eps"])
    return np.asarray(centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"])


def _gelu(x: F64) -> F64:
    return np.asarray(x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
