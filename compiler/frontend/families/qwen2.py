"""Qwen2 and Qwen2.5: Llama with a bias on q, k and v (Yang et al. 2024, arXiv:2407.10671)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import later_layers
from hearth.compiler.frontend.rotary_names import Part

QWEN2 = RotaryFamily(
    model_type="qwen2",
    architectures=("Qwen2ForCausalLM",),
    bodies=("Qwen2Model",),
    windows=later_layers,
    biased=frozenset({Part.Q, Part.K, Part.V}),
)
