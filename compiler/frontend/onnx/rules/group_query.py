"""GroupQueryAttention: packed or separate q, k, v, turned by stored tables, over a cache."""

from __future__ import annotations

from dataclasses import dataclass

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.permute import permuted
from hearth.compiler.frontend.onnx.raising import Raising, integer, optional_input
from hearth.compiler.frontend.onnx.rules.heads import (
    check_counts,
    flag,
    heads_of,
    presents,
    refuse,
    repeated,
    rows_again,
    scale_of,
    seen,
    stored,
)
from hearth.compiler.frontend.onnx.rules.turning import (
    Tables,
    caches,
    check_positions,
    halves,
    turned,
)
from hearth.compiler.frontend.onnx.values import Mismatch, Size, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown, slice_axis
from hearth.compiler.ir.ops import Op, tensor

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
    tables = _tables(node, raising)
    (q, k, v), dims, head_dim = _operands(node, heads, tables, raising)
    if tables is not None:
        q = turned(q, heads.queries, tables, False, raising)
        k = turned(k, heads.keys, tables, False, raising)
    keys = stored(k, heads.keys, optional_input(node, 3), 0, raising)
    values = stored(v, heads.keys, optional_input(node, 4), 0, raising)
    window = integer(node, "local_window_size", -1)
    if not -1 <= window < 1 << 31:
        raise Mismatch(f"has a window of {window}")
    result = raising.layers.attend(
        heads_of(q, heads.queries),
        repeated(keys, heads.queries // heads.keys),
        repeated(values, heads.queries // heads.keys),
        scale_of(node, head_dim),
        seen(True, max(window, 0)),
    )
    return rows_again(result, dims), *presents(keys, values)


def _operands(
    node: Node, heads: Heads, tables: Tables | None, raising: Raising
) -> tuple[tuple[Op, Op, Op], tuple[Size, ...], int]:
    """(q, k, v), what is turned of them in halves; the result's dims; D."""
    first = raising.view(node.inputs[0])
    width = first.dims[-1]
    if len(first.dims) != 3 or not isinstance(width, int):
        raise Mismatch(f"queries {shown(first.dims)} are no rows")
    key, value = optional_input(node, 1), optional_input(node, 2)
    interleaved = tables is not None and flag(node, "rotary_interleaved")
    rotary = 2 * int(tensor(tables[0]).shape[1]) if tables is not None and interleaved else 0
    parts: tuple[View, ...]
    if key is not None and value is not None:
        head_dim = width // heads.queries
        k = _in_halves(raising.view(key), heads.keys, head_dim, rotary, raising)
        first = _in_halves(first, heads.queries, head_dim, rotary, raising)
        parts = (first, k, raising.view(value))
    else:
        head_dim, rest = divmod(width, heads.queries + 2 * heads.keys)
        if rest:
            raise Mismatch(f"{width} columns are no {heads.queries} + 2 * {heads.keys} heads")
        both = heads.queries + heads.keys  # one order for all rows keeps the weight one
        first = _in_halves(first, both, head_dim, rotary, raising)
        ends = [heads.queries, heads.queries + heads.keys, heads.queries + 2 * heads.keys]
        starts = [0, *ends[:2]]
        parts = tuple(
            slice_axis(first, 2, start * head_dim, end * head_dim)
            for start, end in zip(starts, ends, strict=True)
        )
    q_rows, k_rows, v_rows = (matrix(part) for part in parts)
    return (q_rows, k_rows, v_rows), (*first.dims[:2], heads.queries * head_dim), head_dim


def _in_halves(view: View, heads: int, head_dim: int, rotary: int, raising: Raising) -> View:
    """The first `heads` with their turned neighbours in halves; the columns after them as they are."""
    width = view.dims[-1]
    if not rotary or not isinstance(width, int):
        return view
    order = [*halves(heads, head_dim, rotary), *range(heads * head_dim, width)]
    return as_view(permuted(matrix(view), order, raising.constants), view.dims)


def _tables(node: Node, raising: Raising) -> Tables | None:
    if not flag(node, "do_rotary"):
        return None
    positions = optional_input(node, 9)
    if positions is not None:
        check_positions(positions, raising)
    return caches(node.inputs[7], node.inputs[8], 0, raising)
