"""SkipLayerNormalization and its simplified form: a norm of a sum, and the sum itself."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.rules.fused_norm import epsilon, rows_of, vector
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import Add, LayerNorm, Linear, Op, RMSNorm

SUM = 3  # the output that is input + skip + bias


def skip_layer_normalization(node: Node, raising: Raising) -> tuple[View | None, ...]:
    """LayerNorm(input + skip + bias); inputs input, skip, gain, norm's bias, bias."""
    total, view, width = _sum(node, 4, raising)
    gain, bias = (vector(node, i, width, raising) for i in (2, 3))
    normed = LayerNorm(total, gain, bias, epsilon(node, 1e-12))
    return _outputs(normed, total, view)


def skip_simplified(node: Node, raising: Raising) -> tuple[View | None, ...]:
    """RMSNorm(input + skip + bias); inputs input, skip, gain, bias."""
    total, view, width = _sum(node, 3, raising)
    normed = RMSNorm(total, vector(node, 2, width, raising), epsilon(node, 1e-12))
    return _outputs(normed, total, view)


def _sum(node: Node, bias_at: int, raising: Raising) -> tuple[Op, View, int]:
    """The bias goes to the operand that is a linear, whose epilogue adds it."""
    view, skip = (raising.view(name) for name in node.inputs[:2])
    op, width = rows_of(view, node)
    lead = len(view.dims) - len(skip.dims)
    if lead < 0 or (1,) * lead + skip.dims != view.dims:
        raise Mismatch(f"adds {shown(skip.dims)} to {shown(view.dims)}")
    other = matrix(skip)
    bias = vector(node, bias_at, width, raising)
    if bias is None:
        return Add(op, other), view, width
    if isinstance(other, Linear) and not isinstance(op, Linear):
        return Add(op, Add(other, bias)), view, width
    return Add(Add(op, bias), other), view, width


def _outputs(normed: Op, total: Op, view: View) -> tuple[View | None, ...]:
    return as_view(normed, view.dims), None, None, as_view(total, view.dims)
