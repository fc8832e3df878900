"""A region that makes one row of all rows: their mean, maximum, first or last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import Region, close
from hearth.compiler.frontend.onnx.values import Mismatch, Rows, Size, View
from hearth.compiler.frontend.onnx.views import as_view, matrix
from hearth.compiler.ir.ops import Pool
from hearth.schemas.commands import Pooling

BOUND = 1e-5
KINDS: tuple[tuple[Pooling, Callable[[NDArray[Any]], Any]], ...] = (
    (Pooling.MEAN, lambda rows: rows.mean(0)),
    (Pooling.FIRST, lambda rows: rows[0]),
    (Pooling.LAST, lambda rows: rows[-1]),
    (Pooling.MAX, lambda rows: rows.max(0)),
)


def pool(region: Region, raising: Raising) -> View:
    """[.., T, E] to [.., E]."""
    dims = region.view.dims
    width = dims[-1]
    if Rows.T not in dims or not isinstance(width, int):
        raise Mismatch("has no rows to pool")
    op = matrix(region.view)
    points = raising.probes.points[:2]
    given = [region.draw(point) for point in points]
    made = region.run(points, given)
    if len({array.shape for array in made}) != 1 or made[0].size != width:
        raise Mismatch("pools no rows")
    for kind, function in KINDS:
        wanted = [function(x.reshape(-1, width).astype(np.float64)) for x in given]
        pairs = zip(made, wanted, strict=True)
        if all(close(y.reshape(-1).astype(np.float64), w, BOUND) for y, w in pairs):
            shape: tuple[Size, ...] = made[0].shape
            return as_view(Pool(op, kind), shape)
    raise Mismatch("pools rows in no known way")
