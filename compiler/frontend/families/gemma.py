"""Gemma: norms of 1 + gain, embeddings times sqrt(E), GeGLU (Gemma Team 2024, arXiv:2403.08295)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import in_turns, no_window
from hearth.compiler.frontend.rotary_names import ATTENTION, LLAMA_NAMES
from hearth.schemas.commands import Activation

DEFAULTS: Mapping[str, Any] = {"head_dim": 256, "tie_word_embeddings": True, "rms_norm_eps": 1e-6}
GELU_TANH = "gelu_pytorch_tanh"

GEMMA = RotaryFamily(
    model_type="gemma",
    architectures=("GemmaForCausalLM",),
    bodies=("GemmaModel",),
    windows=no_window,
    bias_keys={"attention_bias": ATTENTION},
    defaults=DEFAULTS,
    activation=GELU_TANH,
    # "gelu" of the first files means the tanh form
    former_activations={"gelu": Activation.GELU_TANH},
    gains_from_one=True,
    scaled_embeddings=True,
)

SANDWICH = replace(
    LLAMA_NAMES,
    attention_post_norm="model.layers.{layer}.post_attention_layernorm.weight",
    ffn_norm="model.layers.{layer}.pre_feedforward_layernorm.weight",
    ffn_post_norm="model.layers.{layer}.post_feedforward_layernorm.weight",
)
GEMMA2 = replace(
    GEMMA,
    model_type="gemma2",
    architectures=("Gemma2ForCausalLM",),
    bodies=("Gemma2Model",),
    windows=in_turns,
    names=SANDWICH,
    defaults={
        **DEFAULTS,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
    activation_key="hidden_activation",
    former_activations={},
    query_scalar=True,
    score_cap=True,
    logit_cap=True,
)
"""Gemma 2 (Gemma Team 2024, arXiv:2408.00118)."""

GEMMA3_TEXT = replace(
    GEMMA2,
    model_type="gemma3_text",
    architectures=("Gemma3ForCausalLM",),
    bodies=("Gemma3TextModel",),
    head_norms=True,
    defaults={
        **DEFAULTS,
        "vocab_size": 262_208,
        "hidden_size": 2304,
        "intermediate_size": 9216,
        "num_hidden_layers": 26,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
    theta=1e6,
    local_theta=1e4,
    score_cap=False,
)
"""Gemma 3 (Gemma Team 2025, arXiv:2503.19786); files of the larger ones leave out what is as in Gemma3TextConfig."""
