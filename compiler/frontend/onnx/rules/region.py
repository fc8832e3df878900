"""The region before a value, recognised by what it computes: activation, norm, rotation or pooling."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import recognise
from hearth.compiler.frontend.onnx.rules.region_activation import activation
from hearth.compiler.frontend.onnx.rules.region_norm import norm
from hearth.compiler.frontend.onnx.rules.region_pool import pool
from hearth.compiler.frontend.onnx.rules.region_rope import rope
from hearth.compiler.frontend.onnx.values import View

RECOGNISERS = (activation, norm, rope, pool)


def region(node: Node, raising: Raising) -> View:
    """The node's first output."""
    return recognise(node.outputs[0], raising, RECOGNISERS)
