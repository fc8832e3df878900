"""Reshape, transpose, slice, expand: algebra on the strides of a View; no element moves."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from hearth.compiler.frontend.onnx.values import (
    Atom,
    Axis,
    Mismatch,
    Rows,
    Size,
    View,
    axis_size,
    fused,
)
from hearth.compiler.ir.ops import Op, Slice, tensor
from hearth.compiler.ir.types import Dim


def as_view(op: Op, dims: Sequence[Size], dtype: int = TensorProto.FLOAT) -> View:
    """An IR matrix as a tensor of these dims: rows first, columns after."""
    rows, width = tensor(op).shape
    assert isinstance(width, int)
    row = (Atom(Rows.T),) if rows is Dim.T else ()
    return reshape(View(op, (row, (Atom(width, 1),)), dtype=dtype), dims)


def transpose(view: View, order: Sequence[int]) -> View:
    """Axes in another order."""
    if sorted(order) != list(range(len(view.axes))):
        raise Mismatch(f"the permutation {list(order)} does not fit {len(view.axes)} axes")
    return view.with_axes(tuple(view.axes[i] for i in order))


def unsqueeze(view: View, places: Sequence[int]) -> View:
    """New axes of size 1 at these places of the result."""
    rank = len(view.axes) + len(places)
    new = {place % rank for place in places}
    old = iter(view.axes)
    return view.with_axes(tuple(() if i in new else next(old) for i in range(rank)))


def squeeze(view: View, places: Sequence[int] | None) -> View:
    """Without axes of size 1, all of them where none is named."""
    rank = len(view.axes)
    ones = [i for i, size in enumerate(view.dims) if size == 1]
    gone = ones if places is None else [place % rank for place in places]
    if not set(gone) <= set(ones):
        raise Mismatch(f"squeezes axes {gone} of {shown(view.dims)}")
    return view.with_axes(tuple(axis for i, axis in enumerate(view.axes) if i not in gone))


def shown(dims: Sequence[Size]) -> str:
    """[1, T, 64]."""
    return f"[{', '.join(str(size) for size in dims)}]"


def reshape(view: View, target: Sequence[Size]) -> View:
    """Axes split and merged; rows stay an axis of their own."""
    left = [atom for axis in view.axes for atom in fused(axis)][::-1]
    axes = tuple(_take(left, size, view, target) for size in target)
    if left:
        raise Mismatch(f"{shown(view.dims)} is no {shown(target)}")
    return view.with_axes(axes)


def _take(left: list[Atom], size: Size, view: View, target: Sequence[Size]) -> Axis:
    """The next atoms whose sizes multiply to `size`; the last may be split."""
    if isinstance(size, Rows):
        if left and left[-1].size == size:
            return (left.pop(),)
        raise Mismatch(f"{shown(view.dims)} to {shown(target)} mixes rows and columns")
    taken: list[Atom] = []
    while size > 1:
        atom = left.pop() if left else None
        if atom is None or isinstance(atom.size, Rows):
            raise Mismatch(f"{shown(view.dims)} to {shown(target)} mixes rows and columns")
        if size % atom.size == 0:
            taken.append(atom)
            size //= atom.size
        elif atom.size % size == 0:
            rest = atom.size // size
            left.append(Atom(rest, atom.stride))
            taken.append(Atom(size, atom.stride * rest))
            size = 1
        else:
            raise Mismatch(f"{shown(view.dims)} cannot be split into {shown(target)}")
    return tuple(taken)


def slice_axis(view: View, place: int, start: int, stop: int, step: int = 1) -> View:
    """Elements start, start + step, ... below stop of a column axis."""
    axis = fused(view.axes[place])
    if start == 0 and step == 1 and stop == axis_size(axis):
        return view
    if len(axis) > 1 or (axis and isinstance(axis[0].size, Rows)):
        raise Mismatch(f"slices axis {place} of {shown(view.dims)}")
    stride = axis[0].stride if axis else 0
    count = len(range(start, stop, step))
    if not count > 0 or step < 1:
        raise Mismatch(f"takes {start}:{stop}:{step} of axis {place} of {shown(view.dims)}")
    axes = list(view.axes)
    axes[place] = (Atom(count, stride * step),)
    return view.with_axes(tuple(axes), start * stride)


def expand(view: View, target: Sequence[Size]) -> View:
    """Axes of size 1 repeated (ONNX's two-way broadcasting)."""
    lead = len(target) - len(view.axes)
    axes = ((),) * max(0, lead) + view.axes
    wanted = (1,) * max(0, -lead) + tuple(target)
    return view.with_axes(
        tuple(_expand(axis, size, view, target) for axis, size in zip(axes, wanted, strict=True))
    )


def _expand(axis: Axis, size: Size, view: View, target: Sequence[Size]) -> Axis:
    if size == 1 or axis_size(axis) == size:
        return axis
    if axis_size(axis) == 1 and isinstance(size, int):
        return (Atom(size, 0),)
    raise Mismatch(f"expands {shown(view.dims)} to {shown(target)}")


def matrix(view: View) -> Op:
    """The IR matrix [T, columns] that a view of shape [1.., T, columns] is, whatever its column axes."""
    if not isinstance(view.base, Op):
        raise Mismatch("reads stored keys or values as activations")
    if view.scale != 1.0:
        raise Mismatch(f"is scaled by {view.scale}, which no op does")
    atoms = [atom for axis in view.axes for atom in fused(axis)]
    if tensor(view.base).shape[0] is Dim.T:
        if not atoms or atoms[0].size is not Rows.T:
            raise Mismatch(f"{shown(view.dims)} is no matrix of rows")
        del atoms[0]
    return columns(view, atoms)


def columns(view: View, atoms: Sequence[Atom]) -> Op:
    """The matrix whose columns the atoms step over, in their order and without gaps."""
    if not isinstance(view.base, Op):
        raise Mismatch("reads stored keys or values as activations")
    single = fused(tuple(atoms))
    count = axis_size(single)
    even = len(single) <= 1 and all(atom.stride == 1 for atom in single)
    if not even or not isinstance(count, int):
        raise Mismatch(f"{shown(view.dims)} has its columns in another order than the matrix")
    width = tensor(view.base).shape[1]
    if view.offset == 0 and count == width:
        return view.base
    return Slice(view.base, view.offset, view.offset + count)
