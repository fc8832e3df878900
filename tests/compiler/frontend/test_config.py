"""config.json in both spellings: what published models say is read, what would change the maths is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from support.checkpoints import LLAMA, MISTRAL, QWEN2
from support.configs import parse_config

from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.families import FAMILIES
from hearth.compiler.frontend.rope_config import RopeConfig, RopeKind
from hearth.compiler.frontend.rotary_names import Part
from hearth.schemas.errors import CheckpointError, UsageError

QKV = (Part.Q, Part.K, Part.V)

BASE = ModelConfig(
    family="llama",
    layers=2,
    hidden=24,
    heads=4,
    kv_heads=2,
    head_dim=8,
    ffn=37,
    vocab=53,
    context=64,
    tied=False,
    norm_eps=1e-5,
    window=0,
    rope=RopeConfig(10000.0),
)


def _without(config: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


LLAMA3_SCALING = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
LLAMA3_ROPE = RopeConfig(500000.0, RopeKind.LLAMA3, 32.0, 1.0, 4.0, 8192)
FULL, SLIDING = "full_attention", "sliding_attention"

READ: dict[str, tuple[dict[str, Any], ModelConfig]] = {
    "transformers 4": ({**LLAMA}, BASE),
    "transformers 5": (
        {
            **_without(LLAMA, "rope_theta", "torch_dtype"),
            "dtype": "bfloat16",
            "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"},
            "layer_types": [FULL, FULL],
            "transformers_version": "5.0.0",
        },
        replace(BASE, rope=RopeConfig(5e5)),
    ),
    "both spellings that agree": (
        {**LLAMA, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
        BASE,
    ),
    "no theta": (_without(LLAMA, "rope_theta"), BASE),
    "theta as a whole number": ({**LLAMA, "rope_theta": 10000}, BASE),
    "no KV heads: MHA": (
        _without(LLAMA, "num_key_value_heads"),
        replace(BASE, kv_heads=4),
    ),
    "MQA": ({**LLAMA, "num_key_value_heads": 1}, replace(BASE, kv_heads=1)),
    "no head_dim": (_without(LLAMA, "head_dim"), replace(BASE, head_dim=6)),
    "head_dim null": ({**LLAMA, "head_dim": None}, replace(BASE, head_dim=6)),
    "linear, type": (
        {**LLAMA, "rope_scaling": {"type": "linear", "factor": 4.0}},
        replace(BASE, rope=RopeConfig(10000.0, RopeKind.LINEAR, 4.0)),
    ),
    "linear, rope_type and type": (
        {**LLAMA, "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 4}},
        replace(BASE, rope=RopeConfig(10000.0, RopeKind.LINEAR, 4.0)),
    ),
    "linear, transformers 5": (
        {
            **_without(LLAMA, "rope_theta"),
            "rope_parameters": {"rope_theta": 1e4, "rope_type": "linear", "factor": 4.0},
        },
        replace(BASE, rope=RopeConfig(10000.0, RopeKind.LINEAR, 4.0)),
    ),
    "llama3, transformers 4": (
        {**LLAMA, "rope_theta": 5e5, "rope_scaling": LLAMA3_SCALING},
        replace(BASE, rope=LLAMA3_ROPE),
    ),
    "llama3, transformers 5": (
        {
            **_without(LLAMA, "rope_theta"),
            "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 5e5},
        },
        replace(BASE, rope=LLAMA3_ROPE),
    ),
    "llama3 without original context": (
        {
            **LLAMA,
            "rope_theta": 5e5,
            "rope_scaling": _without(LLAMA3_SCALING, "original_max_position_embeddings"),
        },
        replace(BASE, rope=replace(LLAMA3_ROPE, original_context=64)),
    ),
    "attention bias": (
        {**LLAMA, "attention_bias": True},
        replace(BASE, biased=(Part.Q, Part.K, Part.V, Part.O)),
    ),
    "mlp bias": (
        {**LLAMA, "mlp_bias": True},
        replace(BASE, biased=(Part.GATE, Part.UP, Part.DOWN)),
    ),
    "tied": ({**LLAMA, "tie_word_embeddings": True}, replace(BASE, tied=True)),
    "neutral and harmless keys": (
        {
            **LLAMA,
            "pretraining_tp": 1,
            "partial_rotary_factor": 1.0,
            "attention_bias": False,
            "quantization_config": None,
            "use_mrope": False,
            "never_heard_of": None,
            "nor_of_this": False,
            "_name_or_path": "x/y",
            "_anything": [1],
            "is_llama_config": True,
            "rope_interleaved": False,
            "temperature": 0.7,
            "transformers.js_config": {"dtype": "q4"},
        },
        BASE,
    ),
    "mistral, window": ({**MISTRAL}, replace(BASE, family="mistral", window=16)),
    "mistral, window null": (
        {**MISTRAL, "sliding_window": None},
        replace(BASE, family="mistral"),
    ),
    "mistral, window absent": (
        _without(MISTRAL, "sliding_window"),
        replace(BASE, family="mistral", window=4096),
    ),
    "mistral, layer_types": (
        {**MISTRAL, "layer_types": [SLIDING, SLIDING]},
        replace(BASE, family="mistral", window=16),
    ),
    "qwen2, window off": ({**QWEN2}, replace(BASE, family="qwen2", tied=True, biased=QKV)),
    "qwen2, window null": (
        {**QWEN2, "sliding_window": None, "use_sliding_window": True},
        replace(BASE, family="qwen2", tied=True, biased=QKV),
    ),
    "qwen2, window above the last layer": (
        {**QWEN2, "use_sliding_window": True},
        replace(BASE, family="qwen2", tied=True, biased=QKV),
    ),
    "qwen2, window everywhere": (
        {**QWEN2, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 0},
        replace(BASE, family="qwen2", tied=True, biased=QKV, window=9),
    ),
    "qwen2, layer_types before max_window_layers": (
        {
            **QWEN2,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 1,
            "layer_types": [SLIDING, SLIDING],
        },
        replace(BASE, family="qwen2", tied=True, biased=QKV, window=9),
    ),
}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    values, expected = READ[case]
    assert parse_config(values) == expected


PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "Llama 2 7B": (
        {
            "_name_or_path": "meta-llama/Llama-2-7b-hf",
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 11008,
            "max_position_embeddings": 4096,
            "model_type": "llama",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": None,
            "rope_theta": 10000.0,
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "transformers_version": "4.38.0",
            "use_cache": True,
            "vocab_size": 32000,
        },
        {"heads": 32, "kv_heads": 32, "head_dim": 128, "context": 4096},
    ),
    "Llama 3.2 1B": (
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 128000,
            "eos_token_id": [128001, 128008, 128009],
            "head_dim": 64,
            "hidden_act": "silu",
            "hidden_size": 2048,
            "initializer_range": 0.02,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 32,
            "num_hidden_layers": 16,
            "num_key_value_heads": 8,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_scaling": LLAMA3_SCALING,
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.45.0.dev0",
            "use_cache": True,
            "vocab_size": 128256,
        },
        {"kv_heads": 8, "head_dim": 64, "tied": True, "rope": LLAMA3_ROPE, "context": 4096},
    ),
    "SmolLM2 135M": (
        {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 576,
            "initializer_range": 0.041666666666666664,
            "intermediate_size": 1536,
            "is_llama_config": True,
            "max_position_embeddings": 8192,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": 9,
            "num_hidden_layers": 30,
            "num_key_value_heads": 3,
            "pad_token_id": 2,
            "pretraining_tp": 1,
            "rms_norm_eps": 1e-05,
            "rope_interleaved": False,
            "rope_scaling": None,
            "rope_theta": 100000,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
            "transformers_version": "4.42.3",
            "use_cache": True,
            "vocab_size": 49152,
        },
        {"heads": 9, "kv_heads": 3, "head_dim": 64, "tied": True},
    ),
    "Mistral 7B v0.1": (
        {
            "architectures": ["MistralForCausalLM"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "hidden_size": 4096,
            "initializer_range": 0.02,
            "intermediate_size": 14336,
            "max_position_embeddings": 32768,
            "model_type": "mistral",
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "rms_norm_eps": 1e-05,
            "rope_theta": 10000.0,
            "sliding_window": 4096,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.34.0.dev0",
            "use_cache": True,
            "vocab_size": 32000,
        },
        {"window": 4096, "kv_heads": 8, "head_dim": 128},
    ),
    "Qwen2.5 1.5B": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "hidden_act": "silu",
            "hidden_size": 1536,
            "initializer_range": 0.02,
            "intermediate_size": 8960,
            "max_position_embeddings": 32768,
            "max_window_layers": 21,
            "model_type": "qwen2",
            "num_attention_heads": 12,
            "num_hidden_layers": 28,
            "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0,
            "sliding_window": 32768,
            "tie_word_embeddings": True,
            "torch_dtype": "bfloat16",
            "transformers_version": "4.43.1",
            "use_cache": True,
            "use_mrope": False,
            "use_sliding_window": False,
            "vocab_size": 151936,
        },
        {"window": 0, "kv_heads": 2, "head_dim": 128, "biased": QKV, "rope": RopeConfig(1e6)},
    ),
}


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_models(model: str) -> None:
    values, expected = PUBLISHED[model]
    config = parse_config(values)
    assert {key: getattr(config, key) for key in expected} == expected


UNSUPPORTED: dict[str, Any] = {
    "hidden_act": "gelu",
    "pretraining_tp": 2,
    "partial_rotary_factor": 0.5,
    "quantization_config": {"quant_method": "gptq"},
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.015625,
    "logits_scaling": 8.0,
    "logit_scale": 0.0625,
    "query_pre_attn_scalar": 256,
    "clip_qkv": 8.0,
    "rope_interleaved": True,
    "num_local_experts": 8,
    "use_qk_norm": True,
    "is_causal": False,
    "sliding_window": 128,
    "layer_types": [FULL, "linear_attention"],
}


@pytest.mark.parametrize("key", UNSUPPORTED)
def test_a_key_that_changes_the_maths_is_refused_by_name(key: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_config({**LLAMA, key: UNSUPPORTED[key]}, where="some/config.json")
    assert caught.value.code == "config.unsupported"
    assert caught.value.found.startswith(f"{key} = ")
    assert caught.value.expected
    assert str(caught.value).startswith("some/config.json: ")


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown key": ({**LLAMA, "new_trick": 0.5}, "config.key_unknown", "new_trick"),
    "unknown key, true": ({**LLAMA, "new_trick": True}, "config.key_unknown", "new_trick"),
    "unknown key, zero": ({**LLAMA, "new_trick": 0}, "config.key_unknown", "new_trick = 0"),
    "unknown key, empty": ({**LLAMA, "new_trick": {}}, "config.key_unknown", "new_trick"),
    "a switch where a number is due": (
        {**LLAMA, "pretraining_tp": True},
        "config.unsupported",
        "pretraining_tp",
    ),
    "unknown family": ({**LLAMA, "model_type": "mamba"}, "family.unknown", "llama or mistral"),
    "no family": (_without(LLAMA, "model_type"), "config.key_missing", "model_type"),
    "a classifier": (
        {**LLAMA, "architectures": ["LlamaForSequenceClassification"]},
        "family.architecture",
        "LlamaForCausalLM",
    ),
    "bias where the family has none": (
        {**MISTRAL, "attention_bias": True},
        "config.unsupported",
        "attention_bias",
    ),
    "no layers": (_without(LLAMA, "num_hidden_layers"), "config.key_missing", "num_hidden_layers"),
    "zero layers": ({**LLAMA, "num_hidden_layers": 0}, "config.value_invalid", "num_hidden_layers"),
    "fractional size": ({**LLAMA, "hidden_size": 24.0}, "config.value_invalid", "hidden_size"),
    "size true": ({**LLAMA, "hidden_size": True}, "config.value_invalid", "hidden_size"),
    "size as text": ({**LLAMA, "vocab_size": "53"}, "config.value_invalid", "vocab_size"),
    "theta tiny": ({**LLAMA, "rope_theta": 1e-300}, "config.value_invalid", "rope_theta"),
    "theta huge": ({**LLAMA, "rope_theta": 1e300}, "config.value_invalid", "rope_theta"),
    "eps zero": ({**LLAMA, "rms_norm_eps": 0}, "config.value_invalid", "rms_norm_eps"),
    "eps NaN": ({**LLAMA, "rms_norm_eps": float("nan")}, "config.value_invalid", "rms_norm_eps"),
    "tied as text": (
        {**LLAMA, "tie_word_embeddings": "yes"},
        "config.value_invalid",
        "tie_word_embeddings",
    ),
    "KV heads that do not divide": (
        {**LLAMA, "num_key_value_heads": 3},
        "config.value_invalid",
        "num_key_value_heads",
    ),
    "heads that do not divide": (
        {**_without(LLAMA, "head_dim"), "hidden_size": 26},
        "config.value_invalid",
        "num_attention_heads",
    ),
    "odd head_dim": ({**LLAMA, "head_dim": 7}, "config.value_invalid", "head_dim"),
    "KV heads missing where transformers would guess": (
        _without(QWEN2, "num_key_value_heads"),
        "config.key_missing",
        "num_key_value_heads",
    ),
    "rope type": (
        {**LLAMA, "rope_scaling": {"type": "yarn", "factor": 4.0}},
        "config.unsupported",
        "type = 'yarn'",
    ),
    "rope type, transformers 5": (
        {**LLAMA, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}},
        "config.unsupported",
        "rope_type = 'dynamic'",
    ),
    "rope types differ": (
        {**LLAMA, "rope_scaling": {"type": "linear", "rope_type": "llama3", "factor": 4.0}},
        "config.conflict",
        "'linear'",
    ),
    "rope thetas differ": (
        {**LLAMA, "rope_parameters": {"rope_theta": 5e5}},
        "config.conflict",
        "rope_theta",
    ),
    "rope spellings differ": (
        {
            **LLAMA,
            "rope_scaling": {"type": "linear", "factor": 2.0},
            "rope_parameters": {"rope_type": "linear", "factor": 4.0},
        },
        "config.conflict",
        "rope_scaling",
    ),
    "rope per layer type": (
        {**LLAMA, "rope_parameters": {FULL: {"rope_theta": 1e4}}},
        "config.unsupported",
        FULL,
    ),
    "rope sections": (
        {**LLAMA, "rope_scaling": {"type": "default", "mrope_section": [16, 24, 24]}},
        "config.unsupported",
        "mrope_section",
    ),
    "partial rotary in rope_parameters": (
        {**LLAMA, "rope_parameters": {"partial_rotary_factor": 0.5}},
        "config.unsupported",
        "partial_rotary_factor",
    ),
    "linear without factor": (
        {**LLAMA, "rope_scaling": {"type": "linear"}},
        "config.key_missing",
        "factor",
    ),
    "llama3 bands reversed": (
        {**LLAMA, "rope_scaling": {**LLAMA3_SCALING, "high_freq_factor": 0.5}},
        "config.value_invalid",
        "high_freq_factor",
    ),
    "rope_scaling as text": ({**LLAMA, "rope_scaling": "linear"}, "config.value_invalid", "rope"),
    "mixed windows by max_window_layers": (
        {**QWEN2, "use_sliding_window": True, "max_window_layers": 1},
        "config.unsupported",
        "max_window_layers = 1",
    ),
    "mixed windows by layer_types": (
        {**QWEN2, "use_sliding_window": True, "layer_types": [FULL, SLIDING]},
        "config.unsupported",
        "layer_types",
    ),
    "layer_types of another length": (
        {**LLAMA, "layer_types": [FULL]},
        "config.value_invalid",
        "layer_types",
    ),
    "layer_types against sliding_window": (
        {**MISTRAL, "layer_types": [FULL, FULL]},
        "config.unsupported",
        "layer_types",
    ),
    "window zero": ({**MISTRAL, "sliding_window": 0}, "config.value_invalid", "sliding_window"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    values, code, named = REFUSED[case]
    with pytest.raises(CheckpointError) as caught:
        parse_config(values)
    assert caught.value.code == code
    assert named in str(caught.value)
    assert "config.json" in str(caught.value)


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(CheckpointError) as caught:
        parse_config({**LLAMA, "model_type": "mamba"})
    assert all(name in str(caught.value) for name in FAMILIES)
    assert "to add one" in str(caught.value)


@pytest.mark.parametrize(
    ("longest", "scaling", "asked", "context"),
    [
        (64, None, None, 64),
        (64, None, 64, 64),
        (64, None, 1, 1),
        (64, None, 65, None),
        (64, None, 0, None),
        (64, None, -1, None),
        (32768, None, None, 4096),
        (32768, None, 32768, 32768),
        (64, {"type": "linear", "factor": 4.0}, 256, 256),
        (64, {"type": "linear", "factor": 4.0}, 257, None),
        (131072, LLAMA3_SCALING, 8192 * 32, 8192 * 32),
        (131072, LLAMA3_SCALING, 8192 * 32 + 1, None),
    ],
)
def test_context(
    longest: int, scaling: dict[str, Any] | None, asked: int | None, context: int | None
) -> None:
    values = {**LLAMA, "max_position_embeddings": longest, "rope_scaling": scaling}
    if context is not None:
        assert parse_config(values, context=asked).context == context
        return
    with pytest.raises(UsageError, match=f"context {asked}") as caught:
        parse_config(values, context=asked)
    assert caught.value.code == "context.out_of_range"
