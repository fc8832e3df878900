"""Concat(past, new): the keys or values of all positions, which the archive keeps as state."""

from __future__ import annotations

from math import prod

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer
from hearth.compiler.frontend.onnx.values import (
    Atom,
    Axis,
    Mismatch,
    Past,
    Rows,
    Stored,
    Unsuited,
    View,
    axis_size,
    fused,
)
from hearth.compiler.frontend.onnx.views import columns, shown
from hearth.compiler.ir.ops import Op


def append(node: Node, raising: Raising) -> View:
    """past[.., P, ..] followed by this call's rows, along the rows."""
    if len(node.inputs) != 2 or not all(raising.is_data(name) for name in node.inputs):
        raise Unsuited("does not join a past and new rows")
    past, new = (raising.view(name) for name in node.inputs)
    if not isinstance(past.base, Past):
        raise Unsuited("does not begin with an input of past keys or values")
    return appended(past, new, integer(node, "axis", 0) % len(past.axes), raising)


def appended(past: View, new: View, axis: int, raising: Raising) -> View:
    """The view of past and new rows joined at `axis`."""
    if not isinstance(new.base, Op) or not isinstance(past.base, Past):
        raise Mismatch("joins values that are no past and no rows")
    dims = list(new.dims)
    wanted = list(past.dims)
    if dims[axis] is not Rows.T or wanted[axis] is not Rows.P or len(dims) != len(wanted):
        raise Mismatch(f"joins {shown(wanted)} and {shown(dims)} at axis {axis}")
    wanted[axis] = Rows.T
    if dims != wanted:
        raise Mismatch(f"joins {shown(past.dims)} and {shown(dims)}")
    places = [i for i in range(len(dims)) if i != axis]
    heads, head_dim = _sizes(past, places)
    check_past(past)
    key = (past.base.name, past.offset)
    known = raising.appended.get(key)
    rows = columns(new, [atom for i in places for atom in new.axes[i]])
    if known is None:
        known = raising.appended[key] = Stored(rows, heads, head_dim, past.base, new.scale)
    elif known.rows is not rows:
        raise Mismatch(f"input {past.base.name!r} is continued by two different values")
    axes: list[Axis] = [()] * len(dims)
    axes[axis] = (Atom(Rows.S),)
    stride = 1
    for i in reversed(places):
        size = past.dims[i]
        assert isinstance(size, int)
        axes[i] = fused((Atom(size, stride),))
        stride *= size
    return View(known, tuple(axes), scale=new.scale)


def _sizes(past: View, places: list[int]) -> tuple[int, int]:
    """(heads, head_dim): the last axis but the rows is a head's."""
    last = axis_size(past.axes[places[-1]])
    heads = 1
    for i in places[:-1]:
        size = axis_size(past.axes[i])
        assert isinstance(size, int)
        heads *= size
    if not isinstance(last, int):
        raise Mismatch(f"the past {shown(past.dims)} has two axes of rows")
    return heads, last


def check_past(past: View) -> None:
    """The past is read whole, in the order it is stored."""
    sizes = {i: size for i, size in enumerate(past.dims) if isinstance(size, int)}
    count = prod(sizes.values())
    atoms = fused(tuple(atom for i in sizes for atom in past.axes[i]))
    if atoms != fused((Atom(count, 1),)) or past.offset % count or past.scale != 1.0:
        raise Mismatch(f"the past {shown(past.dims)} is read in another order than it is stored")
