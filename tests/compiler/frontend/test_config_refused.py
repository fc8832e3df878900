"""What would change the maths, or makes no sense, is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from support.checkpoints import GEMMA3, LLAMA, MISTRAL, PHI3, QWEN2
from support.configs import FULL, LLAMA3_SCALING, LONGROPE, parse_config, without

from hearth.compiler.frontend.families import FAMILIES
from hearth.schemas.errors import CheckpointError

UNSUPPORTED: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_activation": "gelu",
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
    "experts": ({**LLAMA, "model_type": "qwen3_moe"}, "family.unknown", "choose among experts"),
    "two blocks on one norm": (
        {
            **without(LLAMA, "rms_norm_eps"),
            "model_type": "stablelm",
            "architectures": ["StableLmForCausalLM"],
            "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 1.0,
            "use_parallel_residual": True,
        },
        "config.unsupported",
        "use_parallel_residual",
    ),
    "blocks left out": ({**LLAMA, "model_type": "phi3small"}, "family.unknown", "Phi-3-mini"),
    "unknown family": ({**LLAMA, "model_type": "mamba"}, "family.unknown", "llama or mistral"),
    "no family": (without(LLAMA, "model_type"), "config.key_missing", "model_type"),
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
    "no layers": (without(LLAMA, "num_hidden_layers"), "config.key_missing", "num_hidden_layers"),
    "zero layers": ({**LLAMA, "num_hidden_layers": 0}, "config.value_invalid", "num_hidden_layers"),
    "fractional size": ({**LLAMA, "hidden_size": 24.0}, "config.value_invalid", "hidden_size"),
    "size true": ({**LLAMA, "hidden_size": True}, "config.value_invalid", "hidden_size"),
    "size as text": ({**LLAMA, "vocab_size": "53"}, "config.value_invalid", "vocab_size"),
    "theta tiny": ({**LLAMA, "rope_theta": 1e-300}, "config.value_invalid", "rope_theta"),
    "theta huge": ({**LLAMA, "rope_theta": 1e300}, "config.value_invalid", "rope_theta"),
    "theta beyond doubles": (
        {**LLAMA, "rope_theta": 10**400},
        "config.value_invalid",
        "rope_theta",
    ),
    "eps beyond doubles": ({**LLAMA, "rms_norm_eps": 10**400}, "config.value_invalid", "rms_norm"),
    "positions beyond doubles": (
        {**LLAMA, "max_position_embeddings": 10**400},
        "config.value_invalid",
        "max_position",
    ),
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
        {**without(LLAMA, "head_dim"), "hidden_size": 26},
        "config.value_invalid",
        "num_attention_heads",
    ),
    "odd head_dim": ({**LLAMA, "head_dim": 7}, "config.value_invalid", "head_dim"),
    "KV heads missing where transformers would guess": (
        without(QWEN2, "num_key_value_heads"),
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
    "longrope of another length": (
        {**PHI3, "rope_scaling": {**LONGROPE, "long_factor": [1.0, 2.0]}},
        "config.value_invalid",
        "3 numbers",
    ),
    "longrope by zero": (
        {**PHI3, "rope_scaling": {**LONGROPE, "short_factor": [1.0, 0, 2.0]}},
        "config.value_invalid",
        "short_factor",
    ),
    "longrope by one number": (
        {**PHI3, "rope_scaling": {**LONGROPE, "short_factor": 1.0}},
        "config.value_invalid",
        "short_factor",
    ),
    "longrope without its numbers": (
        {**PHI3, "rope_scaling": without(LONGROPE, "long_factor")},
        "config.key_missing",
        "long_factor",
    ),
    "longrope without the context it comes from": (
        {**without(PHI3, "original_max_position_embeddings"), "rope_scaling": LONGROPE},
        "config.key_missing",
        "original_max_position_embeddings",
    ),
    "longrope of one position": (
        {**PHI3, "original_max_position_embeddings": 1, "rope_scaling": LONGROPE},
        "config.value_invalid",
        "original_max_position_embeddings",
    ),
    "longrope of two magnitudes": (
        {**PHI3, "rope_scaling": {**LONGROPE, "long_mscale": 1.2}},
        "config.unsupported",
        "long_mscale",
    ),
    "partial rotary, odd": (
        {**PHI3, "partial_rotary_factor": 0.5},
        "config.value_invalid",
        "not 3",
    ),
    "partial rotary of nothing": (
        {**PHI3, "partial_rotary_factor": 0.1},
        "config.value_invalid",
        "not 0",
    ),
    "partial rotary, more than all": (
        {**PHI3, "partial_rotary_factor": 1.5},
        "config.value_invalid",
        "at most 1",
    ),
    "partial rotaries differ": (
        {
            **PHI3,
            "partial_rotary_factor": 0.67,
            "rope_parameters": {"partial_rotary_factor": 1.0},
        },
        "config.conflict",
        "partial_rotary_factor",
    ),
    "rope_scaling as text": ({**LLAMA, "rope_scaling": "linear"}, "config.value_invalid", "rope"),
    "a table of RoPE for all layers of Gemma 3": (
        {**GEMMA3, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        "config.unsupported",
        "rope_parameters",
    ),
    "Gemma 3 without a window": (
        {**GEMMA3, "sliding_window": None},
        "config.key_missing",
        "sliding_window",
    ),
    "Gemma 3 that sees what follows": (
        {**GEMMA3, "use_bidirectional_attention": True},
        "config.unsupported",
        "use_bidirectional_attention",
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
