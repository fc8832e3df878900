"""What fused attention shares: rows as heads, keys and values that go on from a past, sequence lengths and masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hearth.compiler.frontend.onnx.layers import Seen
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import (
    Raising,
    attribute,
    integer,
    number,
    optional_input,
)
from hearth.compiler.frontend.onnx.rules.cache import check_past
from hearth.compiler.frontend.onnx.values import (
    Atom,
    Mismatch,
    Past,
    Rows,
    Size,
    Stored,
    View,
    fused,
)
from hearth.compiler.frontend.onnx.views import as_view, reshape, shown, transpose, unsqueeze
from hearth.compiler.ir.ops import Op, tensor


def heads_of(op: Op, heads: int) -> View:
    """[heads, T, D] of op[T, heads * D]."""
    width = tensor(op).shape[1]
    assert isinstance(width, int)
    if heads < 1 or width % heads:
        raise Mismatch(f"{width} columns are no {heads} heads")
    return transpose(as_view(op, (Rows.T, heads, width // heads)), (1, 0, 2))


def rows_again(view: View, dims: Sequence[Size]) -> View:
    """[heads, T, D] as [1, T, heads * D]."""
    return reshape(transpose(view, (1, 0, 2)), dims)


def stored(op: Op, heads: int, past: str | None, part: int, raising: Raising) -> View:
    """Keys or values [heads, S, D]: op[T, heads * D] after the `part`-th [heads, P, D] of an input, if there is one."""
    width = tensor(op).shape[1]
    assert isinstance(width, int)
    if heads < 1 or width % heads:
        raise Mismatch(f"{width} columns are no {heads} heads")
    head_dim = width // heads
    if past is None:
        found = raising.layers.keep(op, heads, head_dim)
    else:
        found = _continued(op, (heads, head_dim), past, part, raising)
    total = Rows.T if past is None else Rows.S
    axes = (fused((Atom(heads, head_dim),)), (Atom(total),), fused((Atom(head_dim, 1),)))
    return View(found, axes)


def _continued(op: Op, sizes: tuple[int, int], past: str, part: int, raising: Raising) -> Stored:
    view = raising.view(past)
    if not isinstance(view.base, Past):
        raise Mismatch(f"{past!r} is no input of past keys and values")
    known = [size for size in view.dims if isinstance(size, int) and size > 1]
    if not all(size in (*sizes, 2) for size in known):
        raise Mismatch(f"the past {shown(view.dims)} is none of {sizes[0]} heads of {sizes[1]}")
    check_past(view)
    heads, head_dim = sizes
    key = (view.base.name, part * heads * head_dim)
    found = raising.appended.get(key)
    if found is None:
        found = raising.appended[key] = Stored(op, heads, head_dim, view.base)
    elif found.rows is not op:
        raise Mismatch(f"input {past!r} is continued by two different values")
    return found


def repeated(view: View, count: int) -> View:
    """Each head of [heads, S, D] for a group of `count` query heads."""
    first, *others = view.axes
    return view.with_axes(((*first, Atom(count, 0)), *others))


def scale_of(node: Node, head_dim: int) -> float:
    """The attribute; 0 or absent means 1 / sqrt(D)."""
    return number(node, "scale", 0.0) or float(head_dim**-0.5)


def refuse(
    node: Node, attributes: Sequence[tuple[str, str]], inputs: Sequence[tuple[int, str]]
) -> None:
    """Say why a variant is not raised."""
    for name, what in attributes:
        if attribute(node, name, 0) not in (0, 0.0, b"NONE", "NONE", b""):
            raise Mismatch(f"has {what} ({name})")
    for index, what in inputs:
        if optional_input(node, index) is not None:
            raise Mismatch(f"has {what} (input {index})")


def flag(node: Node, name: str) -> bool:
    """An attribute that is 0 or 1."""
    found = integer(node, name, 0)
    if found not in (0, 1):
        raise Mismatch(f"attribute {name} is {found}")
    return found == 1


def check_counts(name: str, wanted: str, raising: Raising) -> None:
    """A length at every point: "last" is P + T - 1, "total" is P + T."""
    for point, array in zip(raising.probes.points, raising.probes.values(name), strict=True):
        total = point.past + point.tokens
        want = total - 1 if wanted == "last" else total
        if array.size != 1 or int(array.reshape(-1)[0]) != want:
            raise Mismatch(f"{name!r} is not the number of positions seen so far")


def check_nothing_hidden(name: str, total: Rows, raising: Raising) -> None:
    """A mask (or lengths) of the stored positions hides none where the attention mask is all ones."""
    name = _mask_of_index(name, raising)
    if raising.is_data(name):
        raise Mismatch(f"the mask {name!r} depends on data")
    for point, array in zip(raising.probes.points, raising.probes.values(name), strict=True):
        count = point.size(total)
        lengths = array.ndim == 1 and array.size == 1 and int(array[0]) == count
        if not lengths and (array.ndim < 2 or not np.all(array != 0)):
            raise Mismatch(f"{name!r} hides positions, or is no mask of them")


def _mask_of_index(name: str, raising: Raising) -> str:
    """EmbedLayerNormalization counts its mask; the mask itself tells as much."""
    node = raising.model.producers.get(name)
    if node is None or node.op_type != "EmbedLayerNormalization" or node.outputs[1] != name:
        return name
    mask = optional_input(node, 7)
    if mask is None:
        raise Mismatch("the lengths of the texts are not known")
    return mask


def seen(causal: bool, window: int = 0) -> Seen:
    """All of the past and, if not causal, all of the call."""
    return Seen(causal=causal, window=window)


def presents(keys: View, values: View) -> tuple[View, View]:
    """[1, heads, S, D] each: what fused attention gives back."""
    return unsqueeze(keys, (0,)), unsqueeze(values, (0,))
