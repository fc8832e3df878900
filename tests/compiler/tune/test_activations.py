"""Activations of linears: gradients are the slopes of what the archive computes."""

from __future__ import annotations

import numpy as np
import pytest

from hearth.compiler.ir.arithmetic import activate, gated
from hearth.compiler.ir.tensors import F32
from hearth.compiler.tune.activations import ACTIVATIONS
from hearth.schemas.commands import GATES, Activation

STEP = np.float32(2.0**-6)
Z = np.linspace(-6, 6, 258, dtype=np.float32).reshape(3, 86)  # none within a step of 0
NEAR = 2e-4  # step^2 / 6 of the largest third derivative, and what rounding leaves of a difference


def defined(activation: Activation, z: F32) -> F32:
    """As docs/arithmetic.md has it."""
    if activation in GATES:
        gate, up = np.split(z, 2, axis=1)
        return gated(gate, up, activation)
    return activate(z, activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_function_is_the_runtimes(activation: Activation) -> None:
    found = ACTIVATIONS[activation].forward(Z)
    np.testing.assert_allclose(found, defined(activation, Z), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_gradient_is_the_slope(activation: Activation) -> None:
    change = (
        np.random.default_rng(0).standard_normal(defined(activation, Z).shape).astype(np.float32)
    )
    found = ACTIVATIONS[activation].back(Z, change)
    parts = 2 if activation in GATES else 1
    for part in range(parts):
        moved = np.zeros_like(Z)
        half = slice(part * Z.shape[1] // parts, (part + 1) * Z.shape[1] // parts)
        moved[:, half] = STEP
        slope = (defined(activation, Z + moved) - defined(activation, Z - moved)) / (2 * STEP)
        np.testing.assert_allclose(found[:, half], change * slope, rtol=0, atol=6 * NEAR)
