"""A region that computes y = s * f(x) elementwise: f is found among the activations of the IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import Region
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix
from hearth.compiler.ir.ops import Activate
from hearth.schemas.commands import Activation

F64 = NDArray[np.float64]

BOUND = 4e-6  # of max(1, |x|): a few roundings of float32; the two gelus differ by 5e-4

_erf = np.vectorize(erf, otypes=[np.float64])


def _sigmoid(x: F64) -> F64:
    return np.asarray(1 / (1 + np.exp(-x)), np.float64)


def _gelu_tanh(x: F64) -> F64:
    inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
    return np.asarray(0.5 * x * (1 + np.tanh(inner)), np.float64)


FUNCTIONS: Mapping[Activation, Callable[[F64], Any]] = {
    Activation.SILU: lambda x: x * _sigmoid(x),
    Activation.GELU: lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    Activation.GELU_TANH: _gelu_tanh,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.TANH: np.tanh,
    Activation.SIGMOID: _sigmoid,
}


def _snapped(scale: float) -> float:
    """The power of two that it is but for rounding: gelu without its factor 1 / 2 is twice gelu."""
    power = float(np.copysign(2.0 ** np.round(np.log2(abs(scale))), scale))
    return power if abs(scale / power - 1) < BOUND else scale


def activation(region: Region, raising: Raising) -> View:
    """s * f(x)."""
    x32, y32 = region.sample
    if y32.shape != x32.shape or not np.all(np.isfinite(y32)):
        raise Mismatch("is no function of single elements")
    x, y = x32.astype(np.float64), y32.astype(np.float64)
    for kind, function in FUNCTIONS.items():
        f = function(x)
        norm = float(np.sum(f * f))
        scale = float(np.sum(y * f)) / norm if norm else 0.0
        if scale and np.all(np.abs(y - scale * f) <= BOUND * abs(scale) * np.maximum(1, np.abs(x))):
            op = Activate(matrix(region.view), kind)
            return replace(as_view(op, region.view.dims), scale=_snapped(scale))
    raise Mismatch("is no known activation")
