"""Phi-3, 3.5 and 4, Phi-4-mini: Llama with q/k/v and gate/up stored as one (Abdin et al. 2024, arXiv:2404.14219)."""

from dataclasses import replace

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import where_given
from hearth.compiler.frontend.rotary_names import LLAMA_NAMES, Part

PHI3 = RotaryFamily(
    model_type="phi3",
    architectures=("Phi3ForCausalLM",),
    bodies=("Phi3Model",),
    windows=where_given,
    names=replace(
        LLAMA_NAMES,
        linears={
            Part.QKV: "model.layers.{layer}.self_attn.qkv_proj",
            Part.O: "model.layers.{layer}.self_attn.o_proj",
            Part.GATE_UP: "model.layers.{layer}.mlp.gate_up_proj",
            Part.DOWN: "model.layers.{layer}.mlp.down_proj",
        },
    ),
    kv_heads_optional=True,
    partial_rotary=1.0,
)
