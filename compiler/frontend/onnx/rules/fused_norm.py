"""Norms as one node: RMSNormalization and SimplifiedLayerNormalization, LayerNormalization."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, number, optional_input
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import Constant, HeadNorm, LayerNorm, Op, RMSNorm, tensor

LARGEST_EPSILON = 1.0
TINY = 1e-30


def parts_of(view: View, node: Node) -> tuple[Op, int, int]:
    """(the matrix that is normalised, parts of its rows, columns of a part): along the last axis."""
    width, rank = view.dims[-1], len(view.dims)
    if integer(node, "axis", -1) % rank != rank - 1:
        raise Mismatch("normalises more than the last axis")
    op = matrix(view)
    columns = tensor(op).shape[1]
    if not isinstance(width, int) or not isinstance(columns, int) or columns % width:
        raise Mismatch(f"normalises parts of rows {shown(view.dims)}")
    return op, columns // width, width


def rows_of(view: View, node: Node) -> tuple[Op, int]:
    """(the matrix that is normalised, its columns): whole rows."""
    op, parts, width = parts_of(view, node)
    if parts > 1:
        raise Mismatch(f"normalises parts of rows {shown(view.dims)}")
    return op, width


def epsilon(node: Node, default: float) -> float:
    """The attribute; in place of none the smallest that changes no row but one of zeros."""
    found = number(node, "epsilon", default)
    if not 0 <= found <= LARGEST_EPSILON:
        raise Mismatch(f"has an epsilon of {found}")
    return found or TINY


def vector(node: Node, index: int, width: int, raising: Raising) -> Constant | None:
    """A gain or bias, None where it is absent."""
    name = optional_input(node, index)
    return None if name is None else raising.vector(name, width)


def rms_normalization(node: Node, raising: Raising) -> View:
    """x / sqrt(mean(x^2) + eps) * gain, of whole rows or of each head."""
    view = raising.view(node.inputs[0])
    op, heads, width = parts_of(view, node)
    gain, eps = vector(node, 1, width, raising), epsilon(node, 1e-5)
    made = RMSNorm(op, gain, eps) if heads == 1 else HeadNorm(op, gain, eps, heads)
    return as_view(made, view.dims)


def layer_normalization(node: Node, raising: Raising) -> View:
    """(x - mean) / sqrt(var + eps) * gain + bias."""
    view = raising.view(node.inputs[0])
    op, width = rows_of(view, node)
    gain, bias = (vector(node, i, width, raising) for i in (1, 2))
    return as_view(LayerNorm(op, gain, bias, epsilon(node, 1e-5)), view.dims)
