"""Qwen3, dense: Qwen2 without biases, with a norm of each query and key head (Yang et al. 2025, arXiv:2505.09388)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import later_layers
from hearth.compiler.frontend.rotary_names import ATTENTION

QWEN3 = RotaryFamily(
    model_type="qwen3",
    architectures=("Qwen3ForCausalLM",),
    bodies=("Qwen3Model",),
    windows=later_layers,
    bias_keys={"attention_bias": ATTENTION},
    head_norms=True,
    defaults={"head_dim": 128},
)
