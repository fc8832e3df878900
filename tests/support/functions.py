"""The activation functions in float64, as the books have them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from hearth.schemas.commands import Activation

F64 = NDArray[np.float64]


def silu(x: F64) -> F64:
    return x / (1 + np.exp(-x))


EXACT: Mapping[Activation, Callable[[F64], F64]] = {
    Activation.NONE: lambda x: x,
    Activation.SILU: silu,
    Activation.GELU: lambda x: x * np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2)))(x),
    Activation.GELU_TANH: lambda x: (
        0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
    Activation.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
}
