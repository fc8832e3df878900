"""Attention and its caches: each pair of keys and values that attention reads is a layer, numbered in order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hearth.compiler.frontend.onnx.values import (
    Atom,
    Axis,
    Mismatch,
    Rows,
    Size,
    Stored,
    View,
    axis_size,
    fused,
)
from hearth.compiler.frontend.onnx.views import as_view, columns, shown, transpose
from hearth.compiler.ir.ops import Attention, Cache, KVWrite, Op, Position
from hearth.compiler.ir.types import CacheType
from hearth.schemas.commands import KVKind, KVScheme


@dataclass(frozen=True)
class Seen:
    """Which positions a row sees: all before it (`window` 0) or the last `window`; not causal: every row sees all."""

    causal: bool
    window: int = 0


@dataclass(eq=False)
class Layers:
    """The layers found so far; `context` is S of the caches."""

    context: int
    scheme: KVScheme
    position: Position
    written: list[tuple[KVWrite, KVWrite]] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    _of: dict[tuple[Stored, Stored], int] = field(default_factory=dict)
    _stored: dict[tuple[Op, int, int], Stored] = field(default_factory=dict)

    def attend(self, q: View, k: View, v: View, scale: float, seen: Seen) -> View:
        """softmax(scale * q[.., T, D] @ k[.., S, D]^T, hidden by `seen`) @ v[.., S, Dv]: [.., T, Dv]."""
        queries, heads, head_dim = _queries(q)
        keys, values = self.stored(k, q), self.stored(v, q)
        if keys.head_dim != head_dim or (keys.heads, keys.head_dim) != (
            values.heads,
            values.head_dim,
        ):
            raise Mismatch(
                f"queries {heads} x {head_dim}, keys {keys.heads} x {keys.head_dim} and values "
                f"{values.heads} x {values.head_dim} do not fit together"
            )
        total = scale * q.scale * k.scale
        if not 0 < np.float32(abs(total)) < np.inf or total < 0:
            raise Mismatch(f"scores are scaled by {total}")
        layer = self._of.setdefault((keys, values), len(self.written))
        if layer == len(self.written):
            self.written.append(
                (self._write(keys, layer, KVKind.K), self._write(values, layer, KVKind.V))
            )
        window = seen.window if seen.window < self.context else 0
        op = Attention(
            queries,
            *self.written[layer],
            self.position,
            heads=heads,
            scale=_snapped(total, head_dim),
            window=window,
            causal=seen.causal,
        )
        self.attentions.append(op)
        return _attended(op, q, head_dim, v.scale)

    def _write(self, stored: Stored, layer: int, kind: KVKind) -> KVWrite:
        cache = CacheType(layer, kind, stored.heads, stored.head_dim, self.context, self.scheme)
        return KVWrite(Cache(cache), stored.rows, self.position)

    def stored(self, view: View, q: View) -> Stored:
        """What lies in the cache for keys or values [.., S, D], each head of which serves a group of query heads."""
        heads = _kv_heads(view, q)
        if isinstance(view.base, Stored):
            if (heads, view.dims[-1]) != (view.base.heads, view.base.head_dim) or view.offset:
                raise Mismatch("reads a part of the stored heads")
            return view.base
        row, last = view.dims[-2:]
        if row is not Rows.T or not isinstance(last, int):
            raise Mismatch(f"keys or values {shown(view.dims)} are no rows of heads")
        atoms = [a for a in _head_atoms(view.axes[:-2]) if a.stride]
        rows = columns(view, [*atoms, *view.axes[-1]])
        return self.keep(rows, heads, last)

    def keep(self, rows: Op, heads: int, head_dim: int) -> Stored:
        """This call's rows as all there is: a model without past."""
        key = (rows, heads, head_dim)
        if key not in self._stored:
            self._stored[key] = Stored(rows, heads, head_dim)
        return self._stored[key]


def _snapped(scale: float, head_dim: int) -> float:
    """1 / sqrt(D) where the source means it, whichever way it rounds on its way there."""
    usual = float(np.float32(head_dim**-0.5))
    return usual if abs(scale / usual - 1) < 1e-6 else float(np.float32(scale))


def _head_atoms(axes: tuple[Axis, ...]) -> Axis:
    return fused(tuple(atom for axis in axes for atom in axis))


def _queries(q: View) -> tuple[Op, int, int]:
    """(q as [T, H * D], H, D)."""
    row, head_dim = q.dims[-2:]
    if row is not Rows.T or not isinstance(head_dim, int):
        raise Mismatch(f"queries {shown(q.dims)} are no rows of heads")
    atoms = _head_atoms(q.axes[:-2])
    heads = axis_size(atoms)
    if not isinstance(heads, int):
        raise Mismatch(f"queries {shown(q.dims)} have no heads")
    return columns(q, [*atoms, *q.axes[-1]]), heads, head_dim


def _kv_heads(view: View, q: View) -> int:
    """Hkv of keys or values whose head h // (H / Hkv) serves query head h."""
    lead = max(len(q.axes), len(view.axes)) - 2
    wanted = ((),) * (lead + 2 - len(q.axes)) + q.axes[:-2]
    given = ((),) * (lead + 2 - len(view.axes)) + view.axes[:-2]
    axes = tuple(
        (Atom(axis_size(want), 0),) if axis_size(have) == 1 and axis_size(want) != 1 else have
        for want, have in zip(wanted, given, strict=True)
    )
    atoms = _head_atoms(axes)
    sizes: list[Size] = [axis_size(axis) for axis in axes]
    if sizes != [axis_size(axis) for axis in wanted]:
        raise Mismatch(f"keys or values {shown(view.dims)} for queries {shown(q.dims)}")
    head_dim = view.dims[-1]
    match atoms:
        case ():
            return 1
        case (Atom(size=int(heads), stride=stride),) if stride == head_dim:
            return heads
        case (Atom(size=int(), stride=0),):
            return 1
        case (Atom(size=int(heads), stride=stride), Atom(size=int(), stride=0)) if (
            stride == head_dim
        ):
            return heads
    raise Mismatch(f"the heads of {shown(view.dims)} are in no order that attention reads")


def _attended(op: Attention, q: View, head_dim: int, scale: float) -> View:
    """[T, H * D] as [.., T, D], the axes before T as those of the queries."""
    lead = q.dims[:-2]
    rows_first = as_view(op, (Rows.T, *lead, head_dim))
    count = len(lead)
    view = transpose(rows_first, (*range(1, count + 1), 0, count + 1))
    return View(view.base, view.axes, view.offset, scale)
