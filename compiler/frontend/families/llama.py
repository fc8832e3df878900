"""Llama 2 and 3, TinyLlama, SmolLM and their kin (Touvron et al. 2023, arXiv:2307.09288)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import no_window
from hearth.compiler.frontend.rotary_names import ATTENTION, Part

LLAMA = RotaryFamily(
    model_type="llama",
    architectures=("LlamaForCausalLM",),
    bodies=("LlamaModel",),
    windows=no_window,
    bias_keys={
        "attention_bias": ATTENTION,
        "mlp_bias": frozenset({Part.GATE, Part.UP, Part.DOWN}),
    },
    kv_heads_optional=True,
)
