"""Reshape, Transpose, Slice and their kin: only the view changes. Scores are reshaped by reshaping both factors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from onnx import TensorProto

from hearth.compiler.frontend.onnx import views
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import (
    Raising,
    integer,
    integers,
    optional_input,
)
from hearth.compiler.frontend.onnx.subgraphs import HALVES
from hearth.compiler.frontend.onnx.values import (
    Mismatch,
    Rows,
    Size,
    Unsuited,
    Value,
    View,
)
from hearth.compiler.ir.ops import Tokens

FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *HALVES)
IDS = (TensorProto.INT32, TensorProto.INT64, TensorProto.FLOAT, TensorProto.DOUBLE)


def same(node: Node, raising: Raising) -> Value:
    """Identity, and Dropout at inference."""
    return raising.value(node.inputs[0])


def cast(node: Node, raising: Raising) -> Value:
    """Between float types: the IR computes in float32. Ids stay whole."""
    value = raising.value(node.inputs[0])
    to = integer(node, "to", 0)
    if isinstance(value, View) and isinstance(value.base, Tokens):
        if to not in IDS:
            raise Mismatch("casts ids to a type that may not hold them")
        return replace(value, dtype=to)
    if to not in FLOATS:
        raise Mismatch("casts activations to integers")
    return replace(value, dtype=TensorProto.FLOAT)


def reshape(node: Node, raising: Raising) -> Value:
    """To sizes that are constants, T or P + T; -1 and 0 are read from the result's element count."""
    value = raising.value(node.inputs[0])
    target = _resolved(raising.probes.sizes(node.inputs[1]), value.dims, node)
    if isinstance(value, View):
        return views.reshape(value, target)
    if tuple(target[-2:]) != value.dims[-2:]:
        raise Mismatch("reshapes attention scores")
    return replace(
        value,
        q=views.reshape(value.q, (*target[:-1], value.q.dims[-1])),
        k=views.reshape(value.k, (*target[:-2], *value.k.dims[-2:])),
    )


def _resolved(target: Sequence[Size], dims: Sequence[Size], node: Node) -> tuple[Size, ...]:
    """The target with 0 (the same size) and -1 (what is left) replaced."""
    if not integer(node, "allowzero", 0):
        target = [dims[i] if size == 0 else size for i, size in enumerate(target)]
    if -1 not in target:
        return tuple(target)
    left = list(dims)
    count = 1
    for size in target:
        if isinstance(size, Rows):
            if size not in left:
                raise Mismatch(f"{views.shown(dims)} to {views.shown(target)}")
            left.remove(size)
        elif size > 0:
            count *= size
    rows = [size for size in left if isinstance(size, Rows)]
    total = 1
    for size in left:
        total *= 1 if isinstance(size, Rows) else size
    if len(rows) > 1 or total % count or (rows and total != count):
        raise Mismatch(f"{views.shown(dims)} to {views.shown(target)} mixes rows and columns")
    rest: Size = rows[0] if rows else total // count
    return tuple(rest if size == -1 else size for size in target)


def flatten(node: Node, raising: Raising) -> View:
    """Two axes: those before `axis`, and the rest."""
    view = raising.view(node.inputs[0])
    axis = integer(node, "axis", 1) % (len(view.dims) + 1)
    return views.reshape(view, [_joined(view.dims[:axis]), _joined(view.dims[axis:])])


def _joined(dims: Sequence[Size]) -> Size:
    rows = [size for size in dims if isinstance(size, Rows)]
    count = 1
    for size in dims:
        count *= 1 if isinstance(size, Rows) else size
    if len(rows) > 1 or (rows and count != 1):
        raise Mismatch(f"joins rows and columns of {views.shown(dims)}")
    return rows[0] if rows else count


def transpose(node: Node, raising: Raising) -> View:
    """Axes in another order."""
    view = raising.view(node.inputs[0])
    rank = len(view.axes)
    return views.transpose(view, integers(node, "perm") or tuple(reversed(range(rank))))


def _axes(node: Node, raising: Raising) -> tuple[int, ...] | None:
    """Axes as an attribute (older operators) or an input."""
    name = optional_input(node, 1)
    if name is None:
        return integers(node, "axes")
    array = raising.probes.constant(name)
    if array is None:
        raise Mismatch("the axes are no constants")
    return tuple(int(item) for item in array.reshape(-1))


def unsqueeze(node: Node, raising: Raising) -> View:
    """New axes of size 1."""
    return views.unsqueeze(raising.view(node.inputs[0]), _axes(node, raising) or ())


def squeeze(node: Node, raising: Raising) -> View:
    """Without axes of size 1."""
    return views.squeeze(raising.view(node.inputs[0]), _axes(node, raising))


def expand(node: Node, raising: Raising) -> View:
    """Heads repeated for grouped queries."""
    return views.expand(raising.view(node.inputs[0]), raising.probes.sizes(node.inputs[1]))


def slice_(node: Node, raising: Raising) -> View:
    """Some columns; all rows."""
    view = raising.view(node.inputs[0])
    starts, ends, axes, steps = _bounds(node, raising, len(view.axes))
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        view = _sliced(view, start, end, axis % len(view.axes), step)
    return view


def _bounds(
    node: Node, raising: Raising, rank: int
) -> tuple[Sequence[Size], Sequence[Size], Sequence[int], Sequence[int]]:
    if len(node.inputs) == 1:  # before opset 10
        starts: Sequence[Size] = integers(node, "starts") or ()
        ends: Sequence[Size] = integers(node, "ends") or ()
        axes = integers(node, "axes") or tuple(range(len(starts)))
        return starts, ends, axes, (1,) * len(starts)
    starts, ends = (raising.probes.sizes(name) for name in node.inputs[1:3])
    named = [optional_input(node, i) for i in (3, 4)]
    arrays = [None if name is None else raising.probes.constant(name) for name in named]
    places = range(rank) if arrays[0] is None else [int(item) for item in arrays[0].reshape(-1)]
    steps = [1] * len(starts) if arrays[1] is None else [int(i) for i in arrays[1].reshape(-1)]
    return starts, ends, list(places)[: len(starts)], steps


def _sliced(view: View, start: Size, end: Size, axis: int, step: int) -> View:
    size = view.dims[axis]
    if isinstance(size, Rows) or isinstance(start, Rows) or isinstance(end, Rows):
        endless = isinstance(end, int) and end >= 1 << 30
        if start == 0 and step == 1 and (end == size or endless):
            return view
        raise Mismatch(f"takes rows {start}:{end}:{step} of {views.shown(view.dims)}")
    start, end, step = slice(start, end, step).indices(size)
    return views.slice_axis(view, axis, start, end, step)


def split(node: Node, raising: Raising) -> tuple[View, ...]:
    """Columns in parts."""
    view = raising.view(node.inputs[0])
    axis = integer(node, "axis", 0) % len(view.axes)
    size = view.dims[axis]
    if isinstance(size, Rows):
        raise Mismatch("splits rows")
    count = len(node.outputs)
    sizes = _split_sizes(node, raising) or [
        min(-(-size // count), size - i * -(-size // count)) for i in range(count)
    ]
    if len(sizes) != count or sum(sizes) != size:
        raise Mismatch(f"splits {size} columns into {list(sizes)}")
    starts = [sum(sizes[:i]) for i in range(count)]
    return tuple(
        views.slice_axis(view, axis, start, start + n)
        for start, n in zip(starts, sizes, strict=True)
    )


def _split_sizes(node: Node, raising: Raising) -> list[int] | None:
    name = optional_input(node, 1)
    if name is None:
        found = integers(node, "split")
        return None if found is None else list(found)
    array = raising.probes.constant(name)
    if array is None:
        raise Mismatch("the parts are no constants")
    return [int(item) for item in array.reshape(-1)]


def gather(node: Node, raising: Raising) -> View:
    """One index, or neighbours, along an axis of columns."""
    view = raising.view(node.inputs[0])
    axis = integer(node, "axis", 0) % len(view.axes)
    index = None if raising.is_data(node.inputs[1]) else raising.probes.constant(node.inputs[1])
    size = view.dims[axis]
    if index is None or index.ndim > 1 or isinstance(size, Rows):
        raise Mismatch("takes rows, or elements by changing indices")
    places = [int(item) % size for item in index.reshape(-1)]
    if places != list(range(places[0], places[0] + len(places))):
        raise Mismatch("takes columns in another order")
    taken = views.slice_axis(view, axis, places[0], places[0] + len(places))
    return views.squeeze(taken, (axis,)) if index.ndim == 0 else taken


def concat(node: Node, raising: Raising) -> Value:
    """One value joined with empty constants, as a cache that starts with nothing is written."""
    data = [name for name in node.inputs if raising.is_data(name)]
    if len(data) != 1:
        raise Unsuited("joins several data values")
    for name in node.inputs:
        if name != data[0] and any(array.size for array in raising.probes.values(name)):
            raise Mismatch("joins data and a constant")
    return raising.value(data[0])
