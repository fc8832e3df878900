"""FusedMatMul: alpha * x @ y or y^T; by a weight, of queries and keys, or of attention weights and values."""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, number
from hearth.compiler.frontend.onnx.rules import attention
from hearth.compiler.frontend.onnx.rules.linear import apply
from hearth.compiler.frontend.onnx.values import Mismatch, Scores, View


def by_weight(node: Node, raising: Raising) -> View:
    """Activations times a weight."""
    alpha, transposed = _form(node)
    if raising.is_data(node.inputs[1]):
        raise Mismatch("the second factor is no weight")
    view = raising.view(node.inputs[0])
    result = apply(view, raising.constants.matrix(node.inputs[1], transposed=not transposed))
    return replace(result, scale=result.scale * alpha)


def scores(node: Node, raising: Raising) -> Scores:
    """alpha * q[.., T, D] @ k[.., S, D]^T."""
    alpha, transposed = _form(node)
    found = attention.scores(node, raising, keys_transposed=not transposed)
    return replace(found, scale=found.scale * alpha)


def weighted(node: Node, raising: Raising) -> View:
    """alpha * softmax(scores) @ v."""
    alpha, transposed = _form(node)
    if transposed:
        raise Mismatch("transposes the values")
    found = attention.weighted(node, raising)
    return replace(found, scale=found.scale * alpha)


def _form(node: Node) -> tuple[float, bool]:
    """(alpha, whether the second factor is transposed)."""
    if (
        integer(node, "transA", 0)
        or integer(node, "transBatchA", 0)
        or integer(node, "transBatchB", 0)
    ):
        raise Mismatch("transposes its first factor, or batches")
    return number(node, "alpha", 1.0), bool(integer(node, "transB", 0))
