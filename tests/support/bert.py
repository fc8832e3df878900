"""BERT and its kin for tests: tiny configs, tensors by an independent table, and the encoder in float64."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from support.gpt2 import ACTIVATIONS, F32, F64, attend, draw, layer_norm

BERT: Mapping[str, Any] = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 24,
    "intermediate_size": 37,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 40,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "type_vocab_size": 2,
    "vocab_size": 53,
    "torch_dtype": "float32",
}
ROBERTA: Mapping[str, Any] = {
    **BERT,
    "architectures": ["RobertaModel"],
    "model_type": "roberta",
    "pad_token_id": 1,
    "type_vocab_size": 1,
}
DISTILBERT: Mapping[str, Any] = {
    "architectures": ["DistilBertModel"],
    "model_type": "distilbert",
    "activation": "gelu",
    "dim": 24,
    "hidden_dim": 37,
    "max_position_embeddings": 40,
    "n_heads": 3,
    "n_layers": 2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "vocab_size": 53,
}
FIRST = {"bert": 0, "roberta": 2, "distilbert": 0}  # the row of the first position
_BERT = {
    "q": "attention.self.query", "k": "attention.self.key", "v": "attention.self.value",
    "o": "attention.output.dense", "n1": "attention.output.LayerNorm",
    "up": "intermediate.dense", "down": "output.dense", "n2": "output.LayerNorm",
}  # fmt: skip
_DISTIL = {
    "q": "attention.q_lin", "k": "attention.k_lin", "v": "attention.v_lin",
    "o": "attention.out_lin", "n1": "sa_layer_norm",
    "up": "ffn.lin1", "down": "ffn.lin2", "n2": "output_layer_norm",
}  # fmt: skip


def _layer(config: Mapping[str, Any], layer: int) -> tuple[str, Mapping[str, str]]:
    if config["model_type"] == "distilbert":
        return f"transformer.layer.{layer}", _DISTIL
    return f"encoder.layer.{layer}", _BERT


def _size(config: Mapping[str, Any], *keys: str) -> int:
    return int(next(config[key] for key in keys if key in config))


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes as the bare model's checkpoint has them."""
    width = _size(config, "hidden_size", "dim")
    inner = _size(config, "intermediate_size", "hidden_dim")
    found: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config["vocab_size"], width),
        "embeddings.position_embeddings.weight": (config["max_position_embeddings"], width),
    }
    if "type_vocab_size" in config:
        found["embeddings.token_type_embeddings.weight"] = (config["type_vocab_size"], width)
    names = {"embeddings.LayerNorm": (width,)}
    for layer in range(_size(config, "num_hidden_layers", "n_layers")):
        at, part = _layer(config, layer)
        sizes = {"up": (inner, width), "down": (width, inner), "n1": (width,), "n2": (width,)}
        names |= {f"{at}.{part[key]}": sizes.get(key, (width, width)) for key in part}
    for name, shape in names.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return found


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, F32]:
    return draw(shapes(config), seed)


def hidden(
    config: Mapping[str, Any],
    tensors: Mapping[str, F32],
    ids: list[int],
    types: list[int] | None = None,
) -> F64:
    """f64[T, E]."""
    t = {name: values.astype(np.float64) for name, values in tensors.items()}
    eps = config.get("layer_norm_eps", 1e-12)
    heads = _size(config, "num_attention_heads", "n_heads")
    activation = ACTIVATIONS[config.get("hidden_act") or config["activation"]]
    first = FIRST[config["model_type"]]
    x = t["embeddings.word_embeddings.weight"][ids]
    x = x + t["embeddings.position_embeddings.weight"][first : first + len(ids)]
    if "type_vocab_size" in config:
        x = x + t["embeddings.token_type_embeddings.weight"][types or [0] * len(ids)]

    def norm(y: F64, name: str) -> F64:
        return layer_norm(y, t[f"{name}.weight"], t[f"{name}.bias"], eps)

    def linear(y: F64, name: str) -> F64:
        return y @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    x = norm(x, "embeddings.LayerNorm")
    for layer in range(_size(config, "num_hidden_layers", "n_layers")):
        at, part = _layer(config, layer)
        q, k, v = (linear(x, f"{at}.{part[key]}") for key in "qkv")
        y = attend(q, k, v, heads, (x.shape[1] // heads) ** -0.5, causal=False)
        x = norm(x + linear(y, f"{at}.{part['o']}"), f"{at}.{part['n1']}")
        y = linear(activation(linear(x, f"{at}.{part['up']}")), f"{at}.{part['down']}")
        x = norm(x + y, f"{at}.{part['n2']}")
    return x
