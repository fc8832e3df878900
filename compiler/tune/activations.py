"""The activations of linears: the function of what a linear sums, and its gradient for that of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.ir.arithmetic import GELU_CUBE, GELU_SLOPE, ROOT_HALF, erf, gelu, gelu_tanh
from hearth.schemas.commands import GATES, Activation

F32 = NDArray[np.float32]
DENSITY = np.float32(0.3989423)  # of the normal distribution at 0


@dataclass(frozen=True)
class Curve:
    """`forward(z)`; `back(z, change)` is the gradient of z f32[T, N] for that of forward(z)."""

    forward: Callable[[F32], F32]
    back: Callable[[F32, F32], F32]


def _sigmoid(x: F32) -> F32:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5, np.float32)


def _silu(z: F32) -> F32:
    return z * _sigmoid(z)


def _silu_back(z: F32, change: F32) -> F32:
    s = _sigmoid(z)
    return change * s * (1 + z * (1 - s))


def _gelu_back(z: F32, change: F32) -> F32:
    """Of z Phi(z): Phi(z) + z phi(z)."""
    below = np.float32(0.5) * (1 + erf(z * ROOT_HALF))
    slope = below + z * np.exp(np.float32(-0.5) * z * z) * DENSITY
    return np.asarray(change * slope, np.float32)


def _gelu_tanh_back(z: F32, change: F32) -> F32:
    """Of z s, s = sigmoid(a z + b z^3): s + z s (1 - s) (a + 3 b z^2)."""
    square = z * z
    s = _sigmoid(z * (GELU_SLOPE + GELU_CUBE * square))
    slope = s * (1 + z * (1 - s) * (GELU_SLOPE + 3 * GELU_CUBE * square))
    return np.asarray(change * slope, np.float32)


def _gated(gate: Curve) -> Curve:
    """gate(z[:, :N]) * z[:, N:]."""

    def forward(z: F32) -> F32:
        left, up = np.split(z, 2, axis=1)
        return gate.forward(left) * up

    def back(z: F32, change: F32) -> F32:
        left, up = np.split(z, 2, axis=1)
        parts = [gate.back(left, change * up), change * gate.forward(left)]
        return np.concatenate(parts, axis=1)

    return Curve(forward, back)


FUNCTIONS: Mapping[Activation, Curve] = {
    Activation.NONE: Curve(lambda z: z, lambda z, change: change),
    Activation.SILU: Curve(_silu, _silu_back),
    Activation.GELU: Curve(gelu, _gelu_back),
    Activation.GELU_TANH: Curve(gelu_tanh, _gelu_tanh_back),
    Activation.RELU: Curve(lambda z: np.maximum(z, 0), lambda z, change: change * (z > 0)),
}
ACTIVATIONS: Mapping[Activation, Curve] = {
    **FUNCTIONS,
    **{gated: _gated(FUNCTIONS[function]) for gated, function in GATES.items()},
}
