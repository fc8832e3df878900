"""The columns of a linear's result in another order, by another order of its weight's rows."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.compiler.frontend.onnx.coded import reordered
from hearth.compiler.frontend.onnx.constants import Constants
from hearth.compiler.frontend.onnx.values import Mismatch
from hearth.compiler.frontend.onnx.weights import OrderedRows
from hearth.compiler.ir.ops import Add, Constant, Linear, Op, Slice
from hearth.compiler.ir.tensors import Source


def permuted(op: Op, order: Sequence[int], constants: Constants) -> Op:
    """op[:, order]."""
    match op:
        case Slice(x=x, start=start):
            return permuted(x, [start + i for i in order], constants)
        case Add(a=a, b=Constant() as bias):
            return Add(permuted(a, order, constants), _rows(bias, order, constants))
        case Linear(x=x, weight=Constant() as weight, bias=None, residual=None):
            return Linear(x, _rows(weight, order, constants))
    raise Mismatch(
        f"turns neighbouring elements of a {type(op).__name__}, whose columns cannot be moved"
    )


def _rows(constant: Constant, order: Sequence[int], constants: Constants) -> Constant:
    value = constant.value
    if isinstance(value, Source):
        return constants.named(constant.name, OrderedRows(value, tuple(order)))
    return constants.named(constant.name, reordered(value, order))
