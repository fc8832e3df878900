"""MatMul and Gemm by a constant: y = x @ w (+ bias), the weight kept as it is stored."""

from __future__ import annotations

from dataclasses import replace

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, number, optional_input
from hearth.compiler.frontend.onnx.values import Mismatch, Unsuited, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import Add, Constant, Linear, Op, tensor


def apply(x: View, weight: Constant, bias: Constant | None = None) -> View:
    """x[.., K] @ weight[N, K]^T (+ bias[N]): a view [.., N]."""
    n, k = weight.value.shape
    if not x.dims or x.dims[-1] != k:
        raise Mismatch(f"{shown(x.dims)} times a weight of {k} columns")
    if bias is not None and x.scale != 1.0:
        raise Mismatch(f"is scaled by {x.scale} before a bias is added")
    y: Op = Linear(matrix(replace(x, scale=1.0)), weight)
    if tensor(y.operands[0]).shape[1] != k:
        raise Mismatch(f"{shown(x.dims)} is no matrix of {k} columns")
    if bias is not None:
        y = Add(y, bias)
    return replace(as_view(y, (*x.dims[:-1], n)), scale=x.scale)


def matmul(node: Node, raising: Raising) -> View:
    """Activations times a weight [K, N]."""
    x, w = node.inputs
    if raising.is_data(w):
        raise Unsuited("the second factor is no weight")
    view = raising.view(x)
    return apply(view, raising.constants.matrix(w, transposed=True))


def gemm(node: Node, raising: Raising) -> View:
    """alpha * x @ w + bias, w as [K, N] or [N, K]."""
    x, w, c = node.inputs[0], node.inputs[1], optional_input(node, 2)
    if integer(node, "transA", 0) or raising.is_data(w):
        raise Mismatch("multiplies by activations or transposes them")
    weight = raising.constants.matrix(w, transposed=not integer(node, "transB", 0))
    alpha = number(node, "alpha", 1.0)
    view = raising.view(x)
    if c is None:
        result = apply(view, weight)
        return replace(result, scale=result.scale * alpha)
    if alpha != 1.0 or number(node, "beta", 1.0) != 1.0:
        raise Mismatch("alpha and beta of a biased Gemm must be 1")
    return apply(view, weight, raising.vector(c, weight.value.shape[0]))
