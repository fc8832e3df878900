"""config.json of rotary decoders in both spellings, read into what is typed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from support.checkpoints import GEMMA, GEMMA2, GEMMA3, LLAMA, MISTRAL, PHI3, QWEN2, QWEN3
from support.configs import FULL, LLAMA3_SCALING, LONGROPE, SLIDING, parse_config, without

from hearth.compiler.frontend.config import ModelConfig
from hearth.compiler.frontend.rope_config import RopeConfig, RopeKind, context_limit
from hearth.compiler.frontend.rotary_names import Part
from hearth.schemas.commands import Activation

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
    windows=(0, 0),
    rope=RopeConfig(10000.0),
)


GEMMA_BASE = replace(
    BASE,
    family="gemma",
    tied=True,
    activation=Activation.GELU_TANH,
    gains_from_one=True,
    scaled_embeddings=True,
)
GEMMA2_BASE = replace(
    GEMMA_BASE,
    family="gemma2",
    layers=3,
    windows=(7, 0, 7),
    query_scalar=11.0,
    score_cap=0.75,
    logit_cap=1.5,
)
GEMMA3_BASE = replace(
    GEMMA_BASE,
    family="gemma3_text",
    layers=3,
    windows=(7, 0, 7),
    head_norms=True,
    rope=RopeConfig(5e4, RopeKind.LINEAR, 4.0),
    local_rope=RopeConfig(300.0),
    query_scalar=11.0,
)
LLAMA3_ROPE = RopeConfig(500000.0, RopeKind.LLAMA3, 32.0, 1.0, 4.0, 8192)

PHI3_BASE = replace(BASE, family="phi3", head_dim=6, windows=(16, 16))
LONGER = {"max_position_embeddings": 128}
LONG_ROPE = RopeConfig(
    10000.0,
    RopeKind.LONGROPE,
    original_context=64,
    short=(1.0, 1.5, 2.0),
    long=(1.0, 4.0, 20.5),
    magnitude=math.sqrt(1 + 1 / 6),  # 64 = 2^6 became 128
)
LONG_PHI3 = replace(PHI3_BASE, context=128, rope=LONG_ROPE)

STABLELM = {
    **without(LLAMA, "rms_norm_eps"),
    "architectures": ["StableLmForCausalLM"],
    "model_type": "stablelm",
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.25,
    "qk_layernorm": False,
    "use_parallel_residual": False,
    "use_qkv_bias": True,
}

READ: dict[str, tuple[dict[str, Any], ModelConfig]] = {
    "transformers 4": ({**LLAMA}, BASE),
    "transformers 5": (
        {
            **without(LLAMA, "rope_theta", "torch_dtype"),
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
    "no theta": (without(LLAMA, "rope_theta"), BASE),
    "theta as a whole number": ({**LLAMA, "rope_theta": 10000}, BASE),
    "no KV heads: MHA": (
        without(LLAMA, "num_key_value_heads"),
        replace(BASE, kv_heads=4),
    ),
    "MQA": ({**LLAMA, "num_key_value_heads": 1}, replace(BASE, kv_heads=1)),
    "no head_dim": (without(LLAMA, "head_dim"), replace(BASE, head_dim=6)),
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
            **without(LLAMA, "rope_theta"),
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
            **without(LLAMA, "rope_theta"),
            "rope_parameters": {**LLAMA3_SCALING, "rope_theta": 5e5},
        },
        replace(BASE, rope=LLAMA3_ROPE),
    ),
    "llama3 without original context": (
        {
            **LLAMA,
            "rope_theta": 5e5,
            "rope_scaling": without(LLAMA3_SCALING, "original_max_position_embeddings"),
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
    "mistral, window": ({**MISTRAL}, replace(BASE, family="mistral", windows=(16, 16))),
    "mistral, window null": (
        {**MISTRAL, "sliding_window": None},
        replace(BASE, family="mistral"),
    ),
    "mistral, window absent": (
        without(MISTRAL, "sliding_window"),
        replace(BASE, family="mistral", windows=(4096, 4096)),
    ),
    "mistral, layer_types": (
        {**MISTRAL, "layer_types": [SLIDING, SLIDING]},
        replace(BASE, family="mistral", windows=(16, 16)),
    ),
    "stablelm": (
        STABLELM,
        replace(
            BASE,
            family="stablelm",
            biased=QKV,
            layer_norms=True,
            rope=RopeConfig(10000.0, share=0.25),
        ),
    ),
    "phi3, window": ({**PHI3}, PHI3_BASE),
    "phi3, window absent": (
        without(PHI3, "sliding_window"),
        replace(PHI3_BASE, windows=(0, 0)),
    ),
    "phi3, transformers 5": (
        {
            **without(PHI3, "rope_theta", "num_key_value_heads"),
            "sliding_window": None,
            "rope_parameters": {
                "partial_rotary_factor": 1.0,
                "rope_theta": 5e5,
                "rope_type": "default",
            },
        },
        replace(BASE, family="phi3", kv_heads=4, head_dim=6, rope=RopeConfig(5e5)),
    ),
    "phi3, longrope": ({**PHI3, **LONGER, "rope_scaling": LONGROPE}, LONG_PHI3),
    "phi3, longrope as su": (
        {**PHI3, **LONGER, "rope_scaling": {**LONGROPE, "type": "su"}},
        LONG_PHI3,
    ),
    "phi3, longrope, transformers 5": (
        {
            **without(PHI3, "rope_theta"),
            **LONGER,
            "rope_parameters": {
                **without(LONGROPE, "type"),
                "original_max_position_embeddings": 64,
                "partial_rotary_factor": 1.0,
                "rope_theta": 1e4,
                "rope_type": "longrope",
            },
        },
        LONG_PHI3,
    ),
    "phi3, longrope, factors given": (
        {**PHI3, "rope_scaling": {**LONGROPE, "factor": 1.0}},
        replace(LONG_PHI3, context=64, rope=replace(LONG_ROPE, magnitude=1.0)),
    ),
    "phi3, longrope, attention factor given": (
        {**PHI3, "rope_scaling": {**LONGROPE, "attention_factor": 1.19}},
        replace(LONG_PHI3, context=64, rope=replace(LONG_ROPE, magnitude=1.19)),
    ),
    "phi3, partial": (
        {**PHI3, "partial_rotary_factor": 0.67},
        replace(PHI3_BASE, rope=RopeConfig(10000.0, share=0.67)),
    ),
    "phi3, partial, transformers 5": (
        {**PHI3, "rope_parameters": {"partial_rotary_factor": 0.67, "rope_theta": 1e4}},
        replace(PHI3_BASE, rope=RopeConfig(10000.0, share=0.67)),
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
        replace(BASE, family="qwen2", tied=True, biased=QKV, windows=(9, 9)),
    ),
    "qwen2, layer_types before max_window_layers": (
        {
            **QWEN2,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 1,
            "layer_types": [SLIDING, SLIDING],
        },
        replace(BASE, family="qwen2", tied=True, biased=QKV, windows=(9, 9)),
    ),
    "qwen2, windows in later layers": (
        {**QWEN2, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
        replace(BASE, family="qwen2", tied=True, biased=QKV, windows=(0, 9)),
    ),
    "qwen2, windows by layer_types": (
        {
            **QWEN2,
            "use_sliding_window": True,
            "sliding_window": 9,
            "layer_types": [SLIDING, FULL],
        },
        replace(BASE, family="qwen2", tied=True, biased=QKV, windows=(9, 0)),
    ),
    "gemma": ({**GEMMA}, GEMMA_BASE),
    "gemma, the first files' word for the tanh form": ({**GEMMA, "hidden_act": "gelu"}, GEMMA_BASE),
    "gemma, what may be absent": (
        without(GEMMA, "hidden_act", "tie_word_embeddings", "rms_norm_eps", "head_dim"),
        replace(GEMMA_BASE, head_dim=256, norm_eps=1e-6),
    ),
    "gemma2": ({**GEMMA2}, GEMMA2_BASE),
    "gemma2, caps as they are by default": (
        without(GEMMA2, "attn_logit_softcapping", "final_logit_softcapping"),
        replace(GEMMA2_BASE, score_cap=50.0, logit_cap=30.0),
    ),
    "gemma2, without caps": (
        {**GEMMA2, "attn_logit_softcapping": None, "final_logit_softcapping": None},
        replace(GEMMA2_BASE, score_cap=0.0, logit_cap=0.0),
    ),
    "gemma3, transformers 4": ({**GEMMA3}, GEMMA3_BASE),
    "gemma3, transformers 5": (
        {
            **without(GEMMA3, "rope_theta", "rope_scaling", "rope_local_base_freq"),
            "layer_types": [SLIDING, FULL, SLIDING],
            "rope_parameters": {
                FULL: {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e4},
                SLIDING: {"rope_type": "default", "rope_theta": 300.0},
            },
            "_sliding_window_pattern": 6,
        },
        GEMMA3_BASE,
    ),
    "gemma3, bases and windows as they are by default": (
        {
            **without(GEMMA3, "rope_theta", "rope_scaling", "rope_local_base_freq"),
            "num_hidden_layers": 6,
            "sliding_window_pattern": 6,
        },
        replace(
            GEMMA3_BASE,
            layers=6,
            windows=(7, 7, 7, 7, 7, 0),
            rope=RopeConfig(1e6),
            local_rope=RopeConfig(1e4),
        ),
    ),
    "qwen3": (
        {**QWEN3},
        replace(BASE, family="qwen3", tied=True, head_dim=10, head_norms=True),
    ),
    "qwen3, head_dim absent": (
        without(QWEN3, "head_dim"),
        replace(BASE, family="qwen3", tied=True, head_dim=128, head_norms=True),
    ),
    "qwen3, biases": (
        {**QWEN3, "attention_bias": True},
        replace(
            BASE, family="qwen3", tied=True, head_dim=10, head_norms=True, biased=(*QKV, Part.O)
        ),
    ),
}


@pytest.mark.parametrize("case", READ)
def test_read(case: str) -> None:
    values, expected = READ[case]
    assert parse_config(values) == expected


def test_a_factor_without_bounds_bounds_no_context() -> None:
    assert context_limit(RopeConfig(1e4, RopeKind.LINEAR, factor=1e308), 64) >= 64
