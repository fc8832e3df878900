"""The activation functions of config.json by transformers' names."""

from __future__ import annotations

from collections.abc import Mapping

from hearth.compiler.frontend.fields import Fields
from hearth.schemas.commands import Activation

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": Activation.GELU,
    "gelu_python": Activation.GELU,
    "gelu_new": Activation.GELU_TANH,
    "gelu_fast": Activation.GELU_TANH,
    "gelu_accurate": Activation.GELU_TANH,
    "gelu_pytorch_tanh": Activation.GELU_TANH,
    "gelu_python_tanh": Activation.GELU_TANH,
    "relu": Activation.RELU,
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "tanh": Activation.TANH,
    "sigmoid": Activation.SIGMOID,
}


def read_activation(fields: Fields, key: str, default: str) -> Activation:
    """The function that a key names."""
    name = fields.text(key, default)
    if name not in ACTIVATIONS:
        raise fields.unsupported(key, " or ".join(ACTIVATIONS))
    return ACTIVATIONS[name]
