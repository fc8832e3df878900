"""A region that normalises rows: RMSNorm, LayerNorm or length 1, its epsilon among the numbers it computes with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import ROWWISE, Region, close
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import L2Normalize, LayerNorm, Op, RMSNorm, tensor

F64 = NDArray[np.float64]
BOUND = 1e-5  # of the largest element: float32 sums of a row
LARGEST_EPSILON = 0.1


def _rms(x: F64, eps: float) -> Any:
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps)


def _layer(x: F64, eps: float) -> Any:
    return _rms(x - np.mean(x, -1, keepdims=True), eps)


def _length(x: F64, eps: float) -> Any:
    return x / np.maximum(np.sqrt(np.sum(x * x, -1, keepdims=True)), eps)


Make = Callable[[Op, float], Op]
FORMS: tuple[tuple[Callable[[F64, float], Any], Make], ...] = (
    (_rms, lambda x, eps: RMSNorm(x, None, eps)),
    (_layer, lambda x, eps: LayerNorm(x, None, None, eps)),
    (_length, lambda x, eps: L2Normalize(x, eps)),
)


def norm(region: Region, raising: Raising) -> View:
    """x normalised, without gain and bias."""
    if not any(node.op_type in ROWWISE for node in region.nodes):
        raise Mismatch("sums no rows")
    width = region.view.dims[-1]
    op = matrix(region.view)
    if tensor(op).shape[1] != width:
        raise Mismatch(f"normalises parts of rows {shown(region.view.dims)}")
    x, y = region.sample
    if x.shape != y.shape:
        raise Mismatch("sums rows, but is no norm")
    epsilons = {float(np.float32(c)) for c in region.constants() if 0 < c <= LARGEST_EPSILON}
    point = raising.probes.points[0]
    for eps in sorted(epsilons | {0.0}):
        for form, make in FORMS:
            if not close(y.astype(np.float64), form(x.astype(np.float64), eps), BOUND):
                continue
            small = region.draw(point, max(eps, 1e-12) ** 0.5) + np.float32(eps**0.5)
            given = region.run((point,), (small,))[0].astype(np.float64)
            if close(given, form(small.astype(np.float64), eps), BOUND):
                return as_view(make(op, eps), region.view.dims)
    raise Mismatch("sums rows, but is no RMSNorm, LayerNorm or length norm")
