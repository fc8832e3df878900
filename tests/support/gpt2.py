"""GPT-2 for tests: a tiny config, its tensors by an independent table, and the model in float64 as the paper has it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32, F64 = NDArray[np.float32], NDArray[np.float64]

GPT2: Mapping[str, Any] = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "activation_function": "gelu_new",
    "n_embd": 24,
    "n_head": 3,
    "n_layer": 2,
    "n_positions": 40,
    "n_ctx": 40,
    "n_inner": None,
    "vocab_size": 53,
    "layer_norm_epsilon": 1e-5,
    "torch_dtype": "float32",
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as a checkpoint has them."""
    width = config["n_embd"]
    inner = config["n_inner"] or 4 * width
    found: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (config["vocab_size"], width),
        "transformer.wpe.weight": (config["n_positions"], width),
    }
    for layer in range(config["n_layer"]):
        at = f"transformer.h.{layer}"
        found |= {
            f"{at}.ln_1.weight": (width,),
            f"{at}.ln_1.bias": (width,),
            f"{at}.attn.c_attn.weight": (width, 3 * width),
            f"{at}.attn.c_attn.bias": (3 * width,),
            f"{at}.attn.c_proj.weight": (width, width),
            f"{at}.attn.c_proj.bias": (width,),
            f"{at}.ln_2.weight": (width,),
            f"{at}.ln_2.bias": (width,),
            f"{at}.mlp.c_fc.weight": (width, inner),
            f"{at}.mlp.c_fc.bias": (inner,),
            f"{at}.mlp.c_proj.weight": (inner, width),
            f"{at}.mlp.c_proj.bias": (width,),
        }
    found |= {"transformer.ln_f.weight": (width,), "transformer.ln_f.bias": (width,)}
    if config.get("tie_word_embeddings") is False:
        found["lm_head.weight"] = (config["vocab_size"], width)
    return found


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, F32]:
    """Values that keep activations of ordinary size; gains near 1."""
    return draw(shapes(config), seed)


def draw(table: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, F32]:
    """A random array per name: gains near 1, vectors small, matrices that keep a row's length."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, F32] = {}
    for name, shape in table.items():
        values = rng.standard_normal(shape)
        if len(shape) == 1:
            gain = name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight", "orm.weight"))
            values = values * 0.2 + gain
        else:
            values = values * (1.0 if "embed" in name or "transformer.w" in name else 0.2)
        tensors[name] = values.astype(np.float32)
    return tensors


ACTIVATIONS = {
    "gelu": lambda x: x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "tanh": np.tanh,
}


def layer_norm(x: F64, gain: F64, bias: F64, eps: float) -> F64:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + eps) * gain + bias


def attend(q: F64, k: F64, v: F64, heads: int, scale: float, causal: bool) -> F64:
    """Rows of q, k, v [T, E], head by head."""
    rows, width = q.shape
    dim, out = width // heads, np.empty_like(q)
    for head in range(heads):
        part = slice(head * dim, (head + 1) * dim)
        scores = q[:, part] @ k[:, part].T * scale
        if causal:
            scores = np.where(np.tril(np.ones((rows, rows), bool)), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        out[:, part] = weights / weights.sum(axis=-1, keepdims=True) @ v[:, part]
    return out


def logits(config: Mapping[str, Any], tensors: Mapping[str, F32], ids: list[int]) -> F64:
    """f64[T, V]."""
    t = {name.removeprefix("transformer."): v.astype(np.float64) for name, v in tensors.items()}
    width, heads, eps = config["n_embd"], config["n_head"], config["layer_norm_epsilon"]
    activation = ACTIVATIONS[config["activation_function"]]
    x = t["wte.weight"][ids] + t["wpe.weight"][: len(ids)]
    for layer in range(config["n_layer"]):

        def norm(y: F64, name: str, at: str = f"h.{layer}") -> F64:
            return layer_norm(y, t[f"{at}.{name}.weight"], t[f"{at}.{name}.bias"], eps)

        def conv(y: F64, name: str, at: str = f"h.{layer}") -> F64:
            return y @ t[f"{at}.{name}.weight"] + t[f"{at}.{name}.bias"]

        scale = 1.0 if config.get("scale_attn_weights") is False else (width // heads) ** -0.5
        if config.get("scale_attn_by_inverse_layer_idx"):
            scale /= layer + 1
        q, k, v = np.split(conv(norm(x, "ln_1"), "attn.c_attn"), 3, axis=1)
        x = x + conv(attend(q, k, v, heads, scale, causal=True), "attn.c_proj")
        x = x + conv(activation(conv(norm(x, "ln_2"), "mlp.c_fc")), "mlp.c_proj")
    x = layer_norm(x, t["ln_f.weight"], t["ln_f.bias"], eps)
    return x @ t.get("lm_head.weight", t["wte.weight"]).T
