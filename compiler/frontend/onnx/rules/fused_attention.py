"""Attention and MultiHeadAttention of com.microsoft: the whole block of heads as one node."""

from __future__ import annotations

from collections.abc import Sequence

from hearth.compiler.frontend.onnx.layers import Seen
from hearth.compiler.frontend.onnx.masks import seen_by
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, integers, optional_input
from hearth.compiler.frontend.onnx.rules.heads import (
    check_nothing_hidden,
    flag,
    heads_of,
    presents,
    refuse,
    rows_again,
    scale_of,
    stored,
)
from hearth.compiler.frontend.onnx.rules.linear import apply
from hearth.compiler.frontend.onnx.values import Mask, Mismatch, Rows, Scores, View
from hearth.compiler.frontend.onnx.views import matrix, reshape, shown, slice_axis
from hearth.compiler.frontend.sources import RowRange
from hearth.compiler.ir.ops import Add, Constant, Op
from hearth.compiler.ir.tensors import Source


def attention(node: Node, raising: Raising) -> View:
    """x @ w + bias gives q, k, v; the past is [2, B, H, P, D], keys then values."""
    refuse(node, (("do_rotary", "RoPE"),), ((6, "a past of given length"),))
    weight = raising.constants.matrix(node.inputs[1], transposed=True)
    total = weight.value.shape[0]
    sizes = integers(node, "qkv_hidden_sizes") or (total // 3,) * 3
    if sum(sizes) != total or len(sizes) != 3:
        raise Mismatch(f"splits {total} columns into {list(sizes)}")
    bias = optional_input(node, 2)
    view = raising.view(node.inputs[0])
    packed = apply(view, weight, None if bias is None else raising.vector(bias, total))
    ends = (sizes[0], sizes[0] + sizes[1], total)
    starts = (0, *ends[:2])
    parts = [
        slice_axis(packed, len(packed.dims) - 1, start, end)
        for start, end in zip(starts, ends, strict=True)
    ]
    q, k, v = (matrix(part) for part in parts)
    past = optional_input(node, 4)
    mask, added = optional_input(node, 3), optional_input(node, 5)
    pasts = ((past, 0), (past, 1))
    result, keys, values = _attend(node, (q, k, v), pasts, mask, added, raising)
    raising.stacks.update({name: (keys, values) for name in node.outputs[1:] if name})
    return rows_again(result, (*view.dims[:-1], sizes[2]))


def multi_head_attention(node: Node, raising: Raising) -> tuple[View, View, View]:
    """q, k, v [B, T, H * D] (or packed [B, T, H, 3, D]), perhaps biases of all three in one vector."""
    refuse(node, (), ((8, "a past of given length"), (9, "a cache indirection")))
    heads = integer(node, "num_heads", 0)
    q, k, v = _projected(node, heads, raising)
    biases = optional_input(node, 3)
    if biases is not None:
        q, k, v = _biased((q, k, v), biases, raising)
    pasts = ((optional_input(node, 6), 0), (optional_input(node, 7), 0))
    mask, added = optional_input(node, 4), optional_input(node, 5)
    result, keys, values = _attend(node, (q, k, v), pasts, mask, added, raising)
    rows = raising.view(node.inputs[0]).dims[:2]
    width = result.dims[0], result.dims[2]
    assert isinstance(width[0], int) and isinstance(width[1], int)
    return rows_again(result, (*rows, width[0] * width[1])), *presents(keys, values)


def _projected(node: Node, heads: int, raising: Raising) -> tuple[Op, Op, Op]:
    view = raising.view(node.inputs[0])
    others = [optional_input(node, i) for i in (1, 2)]
    if all(name is not None and raising.is_data(name) for name in others):
        views = [view, *(raising.view(name) for name in others if name is not None)]
        if any(len(each.dims) != 3 or each.dims[1] is not Rows.T for each in views):
            raise Mismatch(f"keys or values {[shown(each.dims) for each in views]} are no rows")
        q, k, v = (matrix(each) for each in views)
        return q, k, v
    if others != [None, None] or len(view.dims) != 5:
        raise Mismatch("takes keys and values apart from the queries")
    q, k, v = (_packed(view, i) for i in range(3))
    return q, k, v


def _packed(view: View, index: int) -> Op:
    """q, k or v of [1, T, H, 3, D]."""
    one, rows, heads, _, head_dim = view.dims
    if not isinstance(heads, int) or not isinstance(head_dim, int):
        raise Mismatch(f"{shown(view.dims)} is no packed q, k, v")
    part = slice_axis(view, 3, index, index + 1)
    return matrix(reshape(part, (one, rows, heads * head_dim)))


def _biased(ops: Sequence[Op], name: str, raising: Raising) -> tuple[Op, Op, Op]:
    widths = [int(op.type.shape[1]) for op in ops]  # type: ignore[union-attr]
    whole = raising.vector(name, sum(widths))
    ends = [sum(widths[: i + 1]) for i in range(3)]
    q, k, v = (
        Add(op, _part(whole, end - width, end, raising))
        for op, width, end in zip(ops, widths, ends, strict=True)
    )
    return q, k, v


def _part(vector: Constant, start: int, stop: int, raising: Raising) -> Constant:
    source = vector.value
    if not isinstance(source, Source):
        raise Mismatch(f"{vector.name!r} is quantised")
    key = (vector.name, start, stop)
    return raising.constants.coded(key, vector.name, lambda: RowRange(source, start, stop))


def _attend(
    node: Node,
    ops: tuple[Op, Op, Op],
    pasts: tuple[tuple[str | None, int], tuple[str | None, int]],
    mask: str | None,
    added: str | None,
    raising: Raising,
) -> tuple[View, View, View]:
    """(the result [H, T, D], keys, values)."""
    heads = integer(node, "num_heads", 0)
    q = heads_of(ops[0], heads)
    keys, values = (
        stored(op, heads, past, part, raising)
        for op, (past, part) in zip(ops[1:], pasts, strict=True)
    )
    total = keys.dims[1]
    assert isinstance(total, Rows)
    head_dim = q.dims[2]
    assert isinstance(head_dim, int)
    if mask is not None:
        check_nothing_hidden(mask, total, raising)
    visible = Seen(causal=flag(node, "unidirectional"))
    if added is not None:
        visible = _narrower(visible, seen_by(Scores(q, keys, 1.0, (Mask(added),)), raising))
    result = raising.layers.attend(q, keys, values, scale_of(node, head_dim), visible)
    return result, keys, values


def _narrower(first: Seen, second: Seen) -> Seen:
    """Both hide: causal hides more than nothing, a window more than causal."""
    if not second.causal:
        return first
    return second
