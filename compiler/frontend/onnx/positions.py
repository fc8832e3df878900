"""Rows that depend on the position alone (learned or computed positions, RoPE tables), read at every position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.raising import Raising, integer
from hearth.compiler.frontend.onnx.values import Ends, Mismatch, Point
from hearth.compiler.frontend.sources import RowRange
from hearth.compiler.ir.ops import Constant
from hearth.compiler.ir.tensors import ArraySource, Source

F32 = NDArray[np.float32]
CHUNK = 256  # positions of one run, where there is a past


@dataclass(frozen=True, eq=False)
class PositionRows:
    """table[S, E] by position, or one vector [E] for all of them."""

    table: Constant
    is_vector: bool


def all_positions(raising: Raising) -> Iterator[Point]:
    """Runs that together cover every position of the context once."""
    context = raising.layers.context
    if not raising.ports.has_past:
        yield Point(context, 0)
        return
    for start in range(0, context, CHUNK):
        yield Point(min(CHUNK, context - start), start)


def position_rows(name: str, width: int, raising: Raising) -> PositionRows:
    """A value [1.., T, E] or [1.., 1, E] as rows by position."""
    points = raising.probes.points
    rows = [_rows(array, width) for array in raising.probes.values(name)]
    if all(np.array_equal(row, rows[0][:1].repeat(len(row), 0)) for row in rows):
        vector = ArraySource(np.ascontiguousarray(rows[0][0], np.float32))
        return PositionRows(raising.constants.named(name, vector), True)
    if any(len(row) != point.tokens for row, point in zip(rows, points, strict=True)):
        raise Mismatch(f"{name!r} has not one row for each token")
    stored = _stored_table(name, rows, raising)
    if stored is not None:
        return PositionRows(stored, False)
    chunks = [_rows(raising.probes.run((name,), (p,))[0][0], width) for p in all_positions(raising)]
    table = np.concatenate(chunks)
    if len(table) < raising.layers.context:  # a slice beyond the table's end gives what there is
        raise Ends(len(table), "the learned positions")
    for row, point in zip(rows, points, strict=True):
        if not np.array_equal(row, table[point.past : point.past + point.tokens]):
            raise Mismatch(f"{name!r} depends on more than the position")
    return PositionRows(raising.constants.named(name, ArraySource(table)), False)


def _rows(array: NDArray[np.generic], width: int) -> F32:
    if array.shape[-1:] != (width,) or array.dtype.kind != "f":
        raise Mismatch(f"adds {list(array.shape)} to rows of {width}")
    if array.ndim > 1 and any(size != 1 for size in array.shape[:-2]):
        raise Mismatch(f"adds {list(array.shape)} to rows of {width}")
    return np.asarray(array, np.float32).reshape(-1, width)


def _stored_table(name: str, rows: list[F32], raising: Raising) -> Constant | None:
    """The stored table of which the value gathers rows P, P + 1, ... (perhaps after a few unused ones)."""
    for _ in range(8):
        node = raising.model.producers.get(name)
        if node is None or node.domain:
            return None
        if node.op_type == "Gather" and integer(node, "axis", 0) == 0:
            break
        if node.op_type not in ("Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze"):
            return None
        name = node.inputs[0]
    else:
        return None
    table = raising.constants.matrix(node.inputs[0], transposed=False)
    indices = [array.reshape(-1) for array in raising.probes.values(node.inputs[1])]
    return stored_rows(table, indices, raising)


def stored_rows(
    table: Constant, indices: list[NDArray[np.generic]], raising: Raising
) -> Constant | None:
    """The table from its first used row on, where the indices are consecutive positions."""
    points = raising.probes.points
    first = int(indices[0][0]) - points[0].past
    for index, point in zip(indices, points, strict=True):
        start = first + point.past
        if list(index) != list(range(start, start + point.tokens)):
            return None
    if not isinstance(table.value, Source) or first < 0:
        return None
    context = raising.layers.context
    if table.value.shape[0] - first < context:
        raise Ends(table.value.shape[0] - first, "the learned positions")
    return raising.constants.named(table.name, RowRange(table.value, first, first + context))
