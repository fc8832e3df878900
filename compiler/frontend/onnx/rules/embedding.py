"""Gather of a constant table by token ids."""

from __future__ import annotations

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer
from hearth.compiler.frontend.onnx.values import Mismatch, Unsuited, View
from hearth.compiler.frontend.onnx.views import as_view
from hearth.compiler.ir.ops import Constant, Embedding, Tokens


def look_up(table: Constant, ids: View) -> View:
    """Rows of table[V, E]: a view [.., T, E]."""
    if not isinstance(ids.base, Tokens):
        raise Mismatch("the indices are no token ids")
    return as_view(Embedding(table, ids.base), (*ids.dims, table.value.shape[1]))


def gather(node: Node, raising: Raising) -> View:
    """table[ids]."""
    table, ids = node.inputs
    if raising.is_data(table) or integer(node, "axis", 0) != 0:
        raise Unsuited("takes elements of activations")
    return look_up(raising.constants.matrix(table, transposed=False), raising.view(ids))
