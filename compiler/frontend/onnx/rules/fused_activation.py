"""Gelu, FastGelu and BiasGelu: an activation, perhaps after a bias."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, attribute, optional_input
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import Activate, Add, Op, tensor
from hearth.schemas.commands import Activation


def gelu(node: Node, raising: Raising) -> View:
    """By erf, or by tanh where the attribute says so."""
    approximate = attribute(node, "approximate", "none")
    tanh = approximate in ("tanh", b"tanh")
    return _activated(node, Activation.GELU_TANH if tanh else Activation.GELU, raising)


def fast_gelu(node: Node, raising: Raising) -> View:
    """The tanh form of x + bias."""
    return _activated(node, Activation.GELU_TANH, raising)


def bias_gelu(node: Node, raising: Raising) -> View:
    """By erf, of x + bias."""
    return _activated(node, Activation.GELU, raising)


def _activated(node: Node, activation: Activation, raising: Raising) -> View:
    view = raising.view(node.inputs[0])
    op: Op = matrix(view)
    bias = optional_input(node, 1)
    if bias is not None:
        width = view.dims[-1]
        if not isinstance(width, int) or tensor(op).shape[1] != width:
            raise Mismatch(f"adds a bias to parts of rows {shown(view.dims)}")
        op = Add(op, raising.vector(bias, width))
    return as_view(Activate(op, activation), view.dims)
