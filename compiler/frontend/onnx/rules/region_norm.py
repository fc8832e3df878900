"""A region that normalises rows: RMSNorm, LayerNorm or length 1, its epsilon among the numbers it computes with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import ROWWISE, Region, close
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import HeadNorm, L2Normalize, LayerNorm, Op, RMSNorm, tensor

F64 = NDArray[np.float64]
BOUND = 1e-5  # of the largest element: float32 sums of a row
LARGEST_EPSILON = 0.1
TINY = 1e-30  # in place of no epsilon: the same for every row that is not all zeros


def _rms(x: F64, eps: float) -> Any:
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps)


def _layer(x: F64, eps: float) -> Any:
    return _rms(x - np.mean(x, -1, keepdims=True), eps)


def _length(x: F64, eps: float) -> Any:
    return x / np.maximum(np.sqrt(np.sum(x * x, -1, keepdims=True)), eps)


@dataclass(frozen=True)
class Form:
    """A norm in float64, its op, and a row length at which its epsilon shows."""

    compute: Callable[[F64, float], Any]
    make: Callable[[Op, float], Op]
    spread: Callable[[float, int], float]


def _root(eps: float, width: int) -> float:
    return float(eps**0.5)


def _below(eps: float, width: int) -> float:
    return float(eps / width**0.5 / 4)


FORMS = (
    Form(_rms, lambda x, eps: RMSNorm(x, None, eps), _root),
    Form(_layer, lambda x, eps: LayerNorm(x, None, None, eps), _root),
    Form(_length, L2Normalize, _below),
)


def _of_heads(heads: int) -> tuple[Form, ...]:
    """The norms that heads have by themselves."""
    return (Form(_rms, lambda x, eps: HeadNorm(x, None, eps, heads), _root),)


def norm(region: Region, raising: Raising) -> View:
    """x, or each head of it, normalised, without gain and bias."""
    if not any(node.op_type in ROWWISE for node in region.nodes):
        raise Mismatch("sums no rows")
    width = region.view.dims[-1]
    op = matrix(region.view)
    columns = tensor(op).shape[1]
    if not isinstance(width, int) or not isinstance(columns, int) or columns % width:
        raise Mismatch(f"normalises parts of rows {shown(region.view.dims)}")
    x, y = region.sample
    if x.shape != y.shape:
        raise Mismatch("sums rows, but is no norm")
    epsilons = {float(np.float32(c)) for c in region.constants() if 0 < c <= LARGEST_EPSILON}
    for form in FORMS if width == columns else _of_heads(columns // width):
        for eps in (*sorted(epsilons), 0.0):
            if close(y.astype(np.float64), form.compute(x.astype(np.float64), eps), BOUND) and (
                not eps or _fits_small(region, form, eps, x.shape[-1])
            ):
                return as_view(form.make(op, eps or TINY), region.view.dims)
    raise Mismatch("sums rows, but is no RMSNorm, LayerNorm or length norm")


def _fits_small(region: Region, form: Form, eps: float, width: int) -> bool:
    """Whether rows so short that epsilon shows give what the form gives."""
    point = region.raising.probes.points[0]
    spread = form.spread(eps, width)
    small = region.draw(point, spread) + np.float32(spread)
    made = region.run((point,), (small,))[0].astype(np.float64)
    return close(made, form.compute(small.astype(np.float64), eps), BOUND)
