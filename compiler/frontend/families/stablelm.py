"""StableLM 2 and 3B: Llama with LayerNorm, a quarter of each head turned (Bellagente et al. 2024, arXiv:2402.17834)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import no_window
from hearth.compiler.frontend.rotary_names import Part

STABLELM = RotaryFamily(
    model_type="stablelm",
    architectures=("StableLmForCausalLM",),
    bodies=("StableLmModel",),
    windows=no_window,
    bias_keys={"use_qkv_bias": frozenset({Part.Q, Part.K, Part.V})},
    partial_rotary=0.25,
    layer_norms=True,
)
