"""Gemma: norms of 1 + gain, embeddings times sqrt(E), GeGLU (Gemma Team 2024, arXiv:2403.08295)."""

from hearth.compiler.frontend.families.rotary import RotaryFamily
from hearth.compiler.frontend.families.windows import no_window
from hearth.compiler.frontend.rotary_names import ATTENTION
from hearth.schemas.commands import Activation

GEMMA = RotaryFamily(
    model_type="gemma",
    architectures=("GemmaForCausalLM",),
    bodies=("GemmaModel",),
    window=no_window,
    bias_keys={"attention_bias": ATTENTION},
    defaults={"head_dim": 256, "tie_word_embeddings": True, "rms_norm_eps": 1e-6},
    activation="gelu_pytorch_tanh",
    former_activations={
        "gelu": Activation.GELU_TANH
    },  # of the first files, which mean the tanh form
    gains_from_one=True,
    scaled_embeddings=True,
)
