"""Mistral, with and without sliding window (Jiang et al. 2023, arXiv:2310.06825)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import every_layer

MISTRAL = RotaryFamily(
    model_type="mistral",
    architectures=("MistralForCausalLM",),
    bodies=("MistralModel",),
    windows=every_layer,
)
