"""GroupQueryAttention: packed or separate q, k, v, turned by stored tables, over a cache."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer, optional_input
from hearth.compiler.frontend.onnx.rules.heads import (
    check_counts,
    heads_of,
    presents,
    refuse,
    repeated,
    rows_again,
    scale_of,
    seen,
    stored,
)
from hearth.compiler.frontend.onnx.rules.turning import caches, check_positions, turned
from hearth.compiler.frontend.onnx.values import Mismatch, Size, View
from hearth.compiler.frontend.onnx.views import matrix, shown, slice_axis
from hearth.compiler.ir.ops import Op

REFUSED_ATTRIBUTES = (
    ("smooth_softmax", "a smooth softmax"),
    ("softcap", "capped scores"),
    ("qk_output", "an output of scores"),
    ("k_quant_type", "a quantised cache"),
    ("v_quant_type", "a quantised cache"),
)
REFUSED_INPUTS = (
    (10, "a bias of the scores"),
    (11, "a sink of the softmax"),
    (12, "scales of a quantised cache"),
    (13, "scales of a quantised cache"),
)


@dataclass(frozen=True)
class Heads:
    """Query heads, key and value heads."""

    queries: int
    keys: int


def group_query_attention(node: Node, raising: Raising) -> tuple[View, View, View]:
    """Causal attention; a window of the last positions where the attribute says so."""
    refuse(node, REFUSED_ATTRIBUTES, REFUSED_INPUTS)
    heads = Heads(integer(node, "num_heads", 0), integer(node, "kv_num_heads", 0))
    if heads.queries < 1 or heads.keys < 1 or heads.queries % heads.keys:
        raise Mismatch(f"{heads.queries} heads over {heads.keys}")
    check_counts(node.inputs[5], "last", raising)
    check_counts(node.inputs[6], "total", raising)
    (q, k, v), dims, head_dim = _operands(node, heads, raising)
    if integer(node, "do_rotary", 0):
        q, k = _turned(node, q, k, heads, raising)
    keys = stored(k, heads.keys, optional_input(node, 3), 0, raising)
    values = stored(v, heads.keys, optional_input(node, 4), 0, raising)
    window = integer(node, "local_window_size", -1)
    result = raising.layers.attend(
        heads_of(q, heads.queries),
        repeated(keys, heads.queries // heads.keys),
        repeated(values, heads.queries // heads.keys),
        scale_of(node, head_dim),
        seen(True, max(window, 0)),
    )
    return rows_again(result, dims), *presents(keys, values)


def _operands(
    node: Node, heads: Heads, raising: Raising
) -> tuple[tuple[Op, Op, Op], tuple[Size, ...], int]:
    """(q, k, v), the result's dims, D."""
    first = raising.view(node.inputs[0])
    width = first.dims[-1]
    if len(first.dims) != 3 or not isinstance(width, int):
        raise Mismatch(f"queries {shown(first.dims)} are no rows")
    key, value = optional_input(node, 1), optional_input(node, 2)
    if key is not None and value is not None:
        parts = (first, raising.view(key), raising.view(value))
        head_dim = width // heads.queries
    else:
        head_dim, rest = divmod(width, heads.queries + 2 * heads.keys)
        if rest:
            raise Mismatch(f"{width} columns are no {heads.queries} + 2 * {heads.keys} heads")
        ends = [heads.queries, heads.queries + heads.keys, heads.queries + 2 * heads.keys]
        starts = [0, *ends[:2]]
        parts = tuple(
            slice_axis(first, 2, start * head_dim, end * head_dim)
            for start, end in zip(starts, ends, strict=True)
        )
    q, k, v = (matrix(part) for part in parts)
    return (q, k, v), (*first.dims[:2], heads.queries * head_dim), head_dim


def _turned(node: Node, q: Op, k: Op, heads: Heads, raising: Raising) -> tuple[Op, Op]:
    positions = optional_input(node, 9)
    if positions is not None:
        check_positions(positions, raising)
    tables = caches(node.inputs[7], node.inputs[8], 0, raising)
    interleaved = bool(integer(node, "rotary_interleaved", 0))
    return (
        turned(q, heads.queries, tables, interleaved, raising),
        turned(k, heads.keys, tables, interleaved, raising),
    )
