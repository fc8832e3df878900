"""Tiny Hugging Face checkpoints, written byte by byte: config.json, safetensors in one file or in shards."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

LLAMA: Mapping[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 24,
    "intermediate_size": 37,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 53,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MISTRAL: Mapping[str, Any] = {
    **LLAMA,
    "architectures": ["MistralForCausalLM"],
    "model_type": "mistral",
    "sliding_window": 16,
}
QWEN2: Mapping[str, Any] = {
    **LLAMA,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "sliding_window": 32768,
    "max_window_layers": 2,
}
QWEN3: Mapping[str, Any] = {
    **QWEN2,
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "head_dim": 10,  # apart from hidden_size / num_attention_heads, as published
    "attention_bias": False,
}
PHI3: Mapping[str, Any] = {
    **{key: value for key, value in LLAMA.items() if key != "head_dim"},
    "architectures": ["Phi3ForCausalLM"],
    "model_type": "phi3",
    "original_max_position_embeddings": 64,
    "sliding_window": 16,
}
PARTLY_TURNED: Mapping[str, Any] = {  # as Phi-4-mini, whose first context was 20
    **PHI3,
    "hidden_size": 32,
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": 20,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0, 1.5, 2],
        "long_factor": [1, 4.0, 20.5],
    },
}


GEMMA: Mapping[str, Any] = {
    **LLAMA,
    "architectures": ["GemmaForCausalLM"],
    "model_type": "gemma",
    "hidden_act": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

GEMMA2: Mapping[str, Any] = {
    **{key: value for key, value in GEMMA.items() if key != "hidden_act"},
    "architectures": ["Gemma2ForCausalLM"],
    "model_type": "gemma2",
    "num_hidden_layers": 3,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 11,
    "sliding_window": 7,
    "attn_logit_softcapping": 0.75,
    "final_logit_softcapping": 1.5,
}
GEMMA3: Mapping[str, Any] = {
    **GEMMA2,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "sliding_window_pattern": 2,
    "rope_theta": 5e4,
    "rope_scaling": {"rope_type": "linear", "factor": 4.0},
    "rope_local_base_freq": 300.0,
}


def shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes, written out independently of the frontend's own table."""
    hidden, ffn, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    dim = config.get("head_dim") or hidden // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    qkv_bias = config["model_type"] == "qwen2" or config.get("attention_bias")
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        found[f"{at}.input_layernorm.weight"] = (hidden,)
        found[f"{at}.post_attention_layernorm.weight"] = (hidden,)
        if config["model_type"] in ("qwen3", "gemma3_text"):
            found[f"{at}.self_attn.q_norm.weight"] = (dim,)
            found[f"{at}.self_attn.k_norm.weight"] = (dim,)
        if config["model_type"] in ("gemma2", "gemma3_text"):
            found[f"{at}.pre_feedforward_layernorm.weight"] = (hidden,)
            found[f"{at}.post_feedforward_layernorm.weight"] = (hidden,)
        linears = {
            "self_attn.q_proj": (queries, hidden, qkv_bias),
            "self_attn.k_proj": (keys, hidden, qkv_bias),
            "self_attn.v_proj": (keys, hidden, qkv_bias),
            "self_attn.o_proj": (hidden, queries, config.get("attention_bias")),
            "mlp.gate_proj": (ffn, hidden, config.get("mlp_bias")),
            "mlp.up_proj": (ffn, hidden, config.get("mlp_bias")),
            "mlp.down_proj": (hidden, ffn, config.get("mlp_bias")),
        }
        if config["model_type"] == "phi3":
            linears = {
                "self_attn.qkv_proj": (queries + 2 * keys, hidden, False),
                "self_attn.o_proj": (hidden, queries, False),
                "mlp.gate_up_proj": (2 * ffn, hidden, False),
                "mlp.down_proj": (hidden, ffn, False),
            }
        for name, (n, k, biased) in linears.items():
            found[f"{at}.{name}.weight"] = (n, k)
            if biased:
                found[f"{at}.{name}.bias"] = (n,)
    found["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        found["lm_head.weight"] = (vocab, hidden)
    return found


def random_tensors(config: Mapping[str, Any], seed: int = 0) -> dict[str, F32]:
    """Values that keep activations of ordinary size."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, F32] = {}
    for name, shape in shapes(config).items():
        values = rng.standard_normal(shape) * shape[-1] ** -0.5
        from_one = str(config["model_type"]).startswith("gemma")  # what is stored is added to 1
        values = values + 1 if "norm" in name and not from_one else values
        tensors[name] = values.astype(np.float32)
    return tensors


def apart(config: Mapping[str, Any], tensors: Mapping[str, F32]) -> dict[str, F32]:
    """The same model with the parts of what Phi-3 stores as one, as Llama names them."""
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    queries, keys = config["num_attention_heads"] * dim, config["num_key_value_heads"] * dim
    cuts = {
        "qkv_proj": {"q_proj": queries, "k_proj": keys, "v_proj": keys},
        "gate_up_proj": dict.fromkeys(("gate_proj", "up_proj"), config["intermediate_size"]),
    }
    found: dict[str, F32] = {}
    for name, values in tensors.items():
        merged = name.split(".")[-2]
        start = 0
        for part, rows in cuts.get(merged, {merged: len(values)}).items():
            found[name.replace(merged, part)] = values[start : start + rows]
            start += rows
    return found


def encode(values: F32, dtype: str) -> bytes:
    """The bytes of f32 values as F32, F16 or BF16 (rounded to nearest even)."""
    match dtype:
        case "F32":
            return values.astype("<f4").tobytes()
        case "F16":
            return values.astype("<f2").tobytes()
        case "BF16":
            bits = values.astype("<f4").view("<u4")
            rounded = bits + 0x7FFF + ((bits >> 16) & 1)
            return bytes((rounded >> 16).astype("<u2").tobytes())
    raise ValueError(dtype)


def safetensors_bytes(tensors: Mapping[str, F32], dtype: str = "F32") -> bytes:
    """A whole file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, values in tensors.items():
        content = encode(values, dtype)
        place = [len(body), len(body) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(values.shape), "data_offsets": place}
        body += content
    return with_header(header, bytes(body))


def with_header(header: object, body: bytes) -> bytes:
    """A file of any header, right or wrong."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def write_checkpoint(
    directory: Path,
    config: Mapping[str, Any] = LLAMA,
    tensors: Mapping[str, F32] | None = None,
    *,
    dtype: str = "F32",
    shards: int = 1,
) -> Path:
    """A directory that loads; `shards` > 1 spreads the tensors and writes an index."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config))
    tensors = random_tensors(config) if tensors is None else tensors
    if shards == 1:
        (directory / "model.safetensors").write_bytes(safetensors_bytes(tensors, dtype))
        return directory
    mapping: dict[str, str] = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {key: tensors[key] for key in list(tensors)[shard::shards]}
        (directory / name).write_bytes(safetensors_bytes(part, dtype))
        mapping |= dict.fromkeys(part, name)
    index = {"metadata": {"total_size": 0}, "weight_map": mapping}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return directory
