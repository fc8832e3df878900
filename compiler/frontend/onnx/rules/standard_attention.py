"""The standard's Attention (opset 23 and 24): heads in an axis or side by side, a past, a mask, grouped queries."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.frontend.onnx.layers import Seen
from hearth.compiler.frontend.onnx.masks import seen_by
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, number, optional_input
from hearth.compiler.frontend.onnx.regions import close
from hearth.compiler.frontend.onnx.rules.cache import appended
from hearth.compiler.frontend.onnx.values import Atom, Mask, Mismatch, Rows, Scores, View
from hearth.compiler.frontend.onnx.views import reshape, shown, transpose

BOUND = 1e-5


def attention(node: Node, raising: Raising) -> tuple[View | None, ...]:
    """softmax(scale * q @ k^T + mask) @ v: [B, H, T, D] or [B, T, H * D], then the present keys and values."""
    if number(node, "softcap", 0.0):
        raise Mismatch("caps its scores (softcap)")
    if optional_input(node, 6) is not None:
        raise Mismatch("takes the lengths of padded texts (nonpad_kv_seqlen)")
    if any(node.outputs[3:]):
        raise Mismatch("gives its scores as an output")
    given = [raising.view(name) for name in node.inputs[:3]]
    names = ("q_num_heads", "kv_num_heads", "kv_num_heads")
    q, k, v = (
        _heads(view, integer(node, name, 0)) for view, name in zip(given, names, strict=True)
    )
    k, v = (_continued(view, node, 4 + i, raising) for i, view in enumerate((k, v)))
    width = q.dims[-1]
    if not isinstance(width, int):
        raise Mismatch(f"queries {shown(q.dims)} are no rows of heads")
    scale = number(node, "scale", 0.0) or float(width**-0.5)
    seen = _seen(node, q, k, raising)
    result = raising.layers.attend(q, _grouped(k, q), _grouped(v, q), scale, seen)
    if bool(integer(node, "is_causal", 0)) and k.dims[-2] is not Rows.T:
        _check_aligned(node, raising)
    y = result if len(given[0].dims) == 4 else _side_by_side(result, given[0])
    return (y, k, v)[: len(node.outputs)]


def _heads(view: View, heads: int) -> View:
    """[B, H, T, D] of that or of [B, T, H * D]."""
    if len(view.dims) == 4:
        return view
    width = view.dims[-1] if view.dims else None
    if len(view.dims) != 3 or not isinstance(width, int) or heads < 1 or width % heads:
        raise Mismatch(f"{shown(view.dims)} are no {heads} heads")
    return transpose(reshape(view, (*view.dims[:2], heads, width // heads)), (0, 2, 1, 3))


def _side_by_side(result: View, given: View) -> View:
    """[B, H, T, D] as [B, T, H * D]."""
    heads, width = result.dims[1], result.dims[3]
    assert isinstance(heads, int) and isinstance(width, int)
    return reshape(transpose(result, (0, 2, 1, 3)), (*given.dims[:2], heads * width))


def _continued(view: View, node: Node, index: int, raising: Raising) -> View:
    """The new rows after the past, where the node takes one."""
    past = optional_input(node, index)
    return view if past is None else appended(raising.view(past), view, 2, raising)


def _grouped(view: View, q: View) -> View:
    """Each head for the queries of its group."""
    heads, mine = q.dims[1], view.dims[1]
    if not isinstance(heads, int) or not isinstance(mine, int) or heads % mine:
        raise Mismatch(f"{mine} heads of keys for {heads} of queries")
    axes = list(view.axes)
    axes[1] = (*axes[1], Atom(heads // mine, 0))
    return replace(view, axes=tuple(axes)) if heads > mine else view


def _seen(node: Node, q: View, k: View, raising: Raising) -> Seen:
    name = optional_input(node, 3)
    masks: tuple[Mask, ...] = ()
    if name is not None:
        boolean = raising.probes.values(name)[0].dtype == np.bool_
        masks = (Mask(name, True if boolean else None),)
    seen = seen_by(Scores(q, k, 1.0, masks), raising)
    return seen if seen.causal or not integer(node, "is_causal", 0) else Seen(causal=True)


def _check_aligned(node: Node, raising: Raising) -> None:
    """Whether the last row sees the last position: run with equal scores, each row gives the mean of what it sees.

    The standard aligns `is_causal` to the first row where the past is no input of the node; a graph that means a
    decoder is not written so, and is not raised.
    """
    points = raising.probes.points
    rng = np.random.default_rng(0)
    given: dict[str, list[np.ndarray]] = {}
    for name in (each for i in (0, 1, 2, 4, 5) if (each := optional_input(node, i)) is not None):
        shapes = [point.shape(raising.view(name)) for point in points]
        given[name] = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    given[node.inputs[0]] = [np.zeros_like(array) for array in given[node.inputs[0]]]
    made = raising.probes.run((node.outputs[0],), points, given)[0]
    values = [given[node.inputs[2]]]
    past = optional_input(node, 5)
    if past is not None:
        values.insert(0, given[past])
    rows = raising.view(node.inputs[2]).dims
    for i, (point, y) in enumerate(zip(points, made, strict=True)):
        parts = [each[i] for each in values]
        if len(rows) != 4:
            raise Mismatch("is causal over heads side by side with a past of its own")
        v = np.concatenate(parts, axis=2)
        group = y.shape[1] // v.shape[1]
        at = point.past + np.arange(point.tokens) + 1
        wanted = np.cumsum(v, axis=2)[:, :, at - 1] / at[:, None]
        if not close(y, np.repeat(wanted, group, 1).astype(np.float32), BOUND):
            raise Mismatch("is causal from the first row on, whatever came before")
