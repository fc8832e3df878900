"""A decoder in float64, written once more from the papers: no op, cache or table of the project is used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def logits(
    config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], ids: Sequence[int]
) -> F64:
    """f64[T, V] for a config of transformers 4's spelling; RoPE unscaled, but for Gemma 3's linear factor."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    x = w["model.embed_tokens.weight"][list(ids)]
    if _is_gemma(config):
        x = x * np.sqrt(config["hidden_size"])
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        h = _norm(x, w[f"{at}.input_layernorm.weight"], config)
        q, k, v = (_linear(h, w, f"{at}.self_attn.{part}_proj") for part in "qkv")
        q, k = _heads(q, heads), _heads(k, kv_heads)
        if f"{at}.self_attn.q_norm.weight" in w:
            q = _norm(q, w[f"{at}.self_attn.q_norm.weight"], config)
            k = _norm(k, w[f"{at}.self_attn.k_norm.weight"], config)
        window, theta, factor = _span(config, layer)
        q, k = (_rotate(y, theta, factor) for y in (q, k))
        k, v = (np.repeat(y, heads // kv_heads, axis=0) for y in (k, _heads(v, kv_heads)))
        scores = (
            q @ k.transpose(0, 2, 1) / np.sqrt(config.get("query_pre_attn_scalar", q.shape[-1]))
        )
        scores = _capped(scores, config.get("attn_logit_softcapping"))
        y = _softmax(scores + _mask(len(ids), window, config)) @ v
        y = _linear(y.transpose(1, 0, 2).reshape(len(ids), -1), w, f"{at}.self_attn.o_proj")
        after = f"{at}.post_attention_layernorm.weight"
        sandwiched = f"{at}.pre_feedforward_layernorm.weight" in w
        x = x + (_norm(y, w[after], config) if sandwiched else y)
        before = f"{at}.pre_feedforward_layernorm.weight" if sandwiched else after
        h = _norm(x, w[before], config)
        gate, up = (_linear(h, w, f"{at}.mlp.{part}_proj") for part in ("gate", "up"))
        y = _linear(_gate(gate, config) * up, w, f"{at}.mlp.down_proj")
        last = f"{at}.post_feedforward_layernorm.weight"
        x = x + (_norm(y, w[last], config) if sandwiched else y)
    head = w.get("lm_head.weight", w["model.embed_tokens.weight"])
    found = np.asarray(_norm(x, w["model.norm.weight"], config) @ head.T)
    return _capped(found, config.get("final_logit_softcapping"))


def _capped(x: F64, cap: float | None) -> F64:
    return np.asarray(cap * np.tanh(x / cap)) if cap else x


def _linear(x: F64, w: Mapping[str, F64], name: str) -> F64:
    return np.asarray(x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0))


def _is_gemma(config: Mapping[str, Any]) -> bool:
    return str(config["model_type"]).startswith("gemma")


def _gate(x: F64, config: Mapping[str, Any]) -> F64:
    """SiLU, or the tanh form of GELU."""
    if _is_gemma(config):
        return np.asarray(x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))))
    return np.asarray(x / (1 + np.exp(-x)))


def _norm(x: F64, gain: F64, config: Mapping[str, Any]) -> F64:
    gain = 1 + gain if _is_gemma(config) else gain
    mean = (x * x).mean(axis=-1, keepdims=True)
    return np.asarray(x / np.sqrt(mean + config["rms_norm_eps"]) * gain)


def _heads(x: F64, heads: int) -> F64:
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)  # [H, T, D]


def _span(config: Mapping[str, Any], layer: int) -> tuple[int | None, float, float]:
    """A layer's window, and the base of its RoPE with what divides positions."""
    match config["model_type"]:
        case "mistral" | "phi3":
            return config.get("sliding_window"), config["rope_theta"], 1
        case "gemma2":
            return (config["sliding_window"] if layer % 2 == 0 else None), config["rope_theta"], 1
        case "gemma3_text" if (layer + 1) % config["sliding_window_pattern"]:
            return config["sliding_window"], config["rope_local_base_freq"], 1
        case "gemma3_text":
            return None, config["rope_theta"], config["rope_scaling"]["factor"]
    return None, config["rope_theta"], 1


def _rotate(x: F64, theta: float, factor: float) -> F64:
    """Pairs (i, i + D / 2) as complex numbers, turned by position / factor * theta^(-2 i / D)."""
    half = x.shape[-1] // 2
    turns = np.arange(x.shape[1])[:, None] / factor * theta ** (-np.arange(half) / half)
    z = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * turns)
    return np.concatenate([z.real, z.imag], axis=-1)


def _mask(count: int, window: int | None, config: Mapping[str, Any]) -> F64:
    distance = np.arange(count)[:, None] - np.arange(count)
    seen = (distance >= 0) & (distance < (window or count))
    seen |= config.get("is_causal") is False
    return np.where(seen, 0.0, -np.inf)


def _softmax(x: F64) -> F64:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True))
