"""Phi-1, 1.5 and 2: attention beside an ungated MLP, both on one LayerNorm (Li et al. 2023, arXiv:2309.05463)."""

from dataclasses import replace

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import no_window
from hearth.compiler.frontend.rotary_names import LLAMA_NAMES, Part

LINEARS = {
    Part.Q: "model.layers.{layer}.self_attn.q_proj",
    Part.K: "model.layers.{layer}.self_attn.k_proj",
    Part.V: "model.layers.{layer}.self_attn.v_proj",
    Part.O: "model.layers.{layer}.self_attn.dense",
    Part.UP: "model.layers.{layer}.mlp.fc1",
    Part.DOWN: "model.layers.{layer}.mlp.fc2",
}

PHI = RotaryFamily(
    model_type="phi",
    architectures=("PhiForCausalLM",),
    bodies=("PhiModel",),
    windows=no_window,
    biased=frozenset(LINEARS),
    names=replace(
        LLAMA_NAMES,
        head_bias="lm_head.bias",
        final_norm="model.final_layernorm.weight",
        ffn_norm="",
        linears=LINEARS,
    ),
    kv_heads_optional=True,
    partial_rotary=0.5,
    activation="gelu_new",
    layer_norms=True,
)
