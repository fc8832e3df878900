"""A region that turns pairs of a head's elements by the position: RoPE, its tables read from the region itself."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hearth.compiler.frontend.onnx.permute import permuted
from hearth.compiler.frontend.onnx.positions import all_positions
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.regions import Region, close
from hearth.compiler.frontend.onnx.values import Mismatch, Point, Rows, View
from hearth.compiler.frontend.onnx.views import as_view, columns, shown, transpose
from hearth.compiler.ir.ops import Constant, RoPE, tensor
from hearth.compiler.ir.tensors import ArraySource, Source

F32 = NDArray[np.float32]
BOUND = 1e-5


@dataclass(frozen=True)
class Heads:
    """Where rows, heads and a head's elements lie among a view's axes."""

    row: int
    others: tuple[int, ...]

    def rows(self, array: F32) -> F32:
        """[T, H, D] of an array of the view's shape."""
        rank = len(self.others) + 2
        moved = np.transpose(array, (self.row, *self.others, rank - 1))
        return moved.reshape(moved.shape[0], -1, moved.shape[-1])


def _heads(view: View) -> Heads:
    rows = [i for i, size in enumerate(view.dims) if size is Rows.T]
    if len(rows) != 1 or rows[0] == len(view.dims) - 1 or not isinstance(view.dims[-1], int):
        raise Mismatch(f"{shown(view.dims)} are no rows of heads")
    others = tuple(i for i in range(len(view.dims) - 1) if i != rows[0])
    return Heads(rows[0], others)


@dataclass(frozen=True)
class Pairing:
    """Columns that are turned together: first[i] with second[i]; D - 2 * len(first) are copied."""

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    head_dim: int

    @property
    def order(self) -> tuple[int, ...]:
        """The columns in half-split order."""
        rotary = 2 * len(self.first)
        return (*self.first.tolist(), *self.second.tolist(), *range(rotary, self.head_dim))

    def turned(self, x: F32, cos: F32, sin: F32) -> F32:
        """x[T, H, D] by cos, sin [T, D / 2]."""
        y = x.copy()
        a, b = x[..., self.first], x[..., self.second]
        y[..., self.first] = a * cos[:, None] - b * sin[:, None]
        y[..., self.second] = b * cos[:, None] + a * sin[:, None]
        return y


def rope(region: Region, raising: Raising) -> View:
    """Rows of heads, turned."""
    x, y = region.sample
    if x.shape != y.shape or not np.all(np.isfinite(y)):
        raise Mismatch("turns nothing")
    heads = _heads(region.view)
    head_dim = x.shape[-1]
    changed = np.flatnonzero(np.any(heads.rows(x) != heads.rows(y), axis=(0, 1)))
    rotary = 2 * ((int(changed[-1]) + 2) // 2) if len(changed) else 0
    if not 0 < rotary <= head_dim:
        raise Mismatch("turns nothing")
    for pairing in _pairings(rotary, head_dim):
        tables = _tables(region, heads, pairing, raising)
        if tables is not None:
            return _turned(region.view, heads, pairing, tables, raising)
    raise Mismatch("is no rotation of pairs by the position")


def _pairings(rotary: int, head_dim: int) -> tuple[Pairing, ...]:
    every = np.arange(rotary)
    half = rotary // 2
    return (
        Pairing(every[:half], every[half:], head_dim),
        Pairing(every[::2], every[1::2], head_dim),
    )


def _tables(
    region: Region, heads: Heads, pairing: Pairing, raising: Raising
) -> tuple[Constant, Constant] | None:
    """The tables that explain the region at every point: known ones, or its own."""
    points = raising.probes.points
    far = Point(1, raising.layers.context - 1)
    if raising.ports.has_past and far.past >= 0:
        points = (*points, far)
    points = tuple(point for point in points if point.past + point.tokens <= raising.layers.context)
    given = [region.draw(point) for point in points]
    made = [heads.rows(y) for y in region.run(points, given)]
    rows = [heads.rows(x) for x in given]

    def explain(cos: F32, sin: F32) -> bool:
        if cos.shape[1] != len(pairing.first):
            return False
        spans = [slice(point.past, point.past + point.tokens) for point in points]
        turned = [pairing.turned(x, cos[s], sin[s]) for x, s in zip(rows, spans, strict=True)]
        return all(close(y, t, BOUND) for y, t in zip(made, turned, strict=True))

    for known in raising.tables:
        if explain(*(array(table) for table in known)):
            return known
    cos, sin = _read_tables(region, heads, pairing, raising)
    finite = np.all(np.isfinite(cos)) and np.all(np.isfinite(sin))
    if not finite or not np.any(sin) or not explain(cos, sin):
        return None
    count = len(raising.tables)
    prefix = f"rope.{count}" if count else "rope"
    found = tuple(
        raising.constants.named(f"{prefix}.{name}", ArraySource(table))
        for name, table in (("cos", cos), ("sin", sin))
    )
    raising.tables.append((found[0], found[1]))
    return found[0], found[1]


def array(table: Constant) -> F32:
    """All of a table."""
    assert isinstance(table.value, Source)
    return table.value.rows(0, table.value.shape[0])


def _read_tables(
    region: Region, heads: Heads, pairing: Pairing, raising: Raising
) -> tuple[F32, F32]:
    """cos and sin [S, D / 2]: what becomes of 1 in the first of a pair and 0 in the second."""
    chunks: list[tuple[F32, F32]] = []
    for point in all_positions(raising):
        x = np.zeros(point.shape(region.view), np.float32)
        x[..., pairing.first] = 1
        y = heads.rows(region.run((point,), (x,))[0])
        chunks.append((y[:, 0, pairing.first], y[:, 0, pairing.second]))
    cos, sin = (np.ascontiguousarray(np.concatenate(parts)) for parts in zip(*chunks, strict=True))
    return cos, sin


def _turned(
    view: View, heads: Heads, pairing: Pairing, tables: tuple[Constant, Constant], raising: Raising
) -> View:
    """RoPE of the matrix that the heads lie in, seen as the leaf was."""
    atoms = [atom for i in heads.others for atom in view.axes[i]]
    head_dim = pairing.head_dim
    op = columns(view, [*atoms, *view.axes[-1]])
    width = tensor(op).shape[1]
    assert isinstance(width, int)
    count = width // head_dim
    if pairing.order != tuple(range(head_dim)):
        order = tuple(head * head_dim + i for head in range(count) for i in pairing.order)
        op = permuted(op, order, raising.constants)
    turned = RoPE(op, *tables, raising.position, count)
    others = tuple(view.dims[i] for i in heads.others)
    rows_first = as_view(turned, (Rows.T, *others, head_dim))
    places = (heads.row, *heads.others, len(view.dims) - 1)
    result = transpose(rows_first, tuple(places.index(i) for i in range(len(places))))
    return replace(result, scale=view.scale)
