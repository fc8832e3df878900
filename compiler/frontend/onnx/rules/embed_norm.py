"""EmbedLayerNormalization: words, positions and token types added, then normalised."""

from __future__ import annotations

import numpy as np

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.positions import stored_rows
from hearth.compiler.frontend.onnx.raising import Raising, optional_input
from hearth.compiler.frontend.onnx.rules.embedding import look_up
from hearth.compiler.frontend.onnx.rules.fused_norm import epsilon, vector
from hearth.compiler.frontend.onnx.values import Mismatch, View
from hearth.compiler.frontend.onnx.views import as_view, matrix
from hearth.compiler.ir.ops import Add, LayerNorm, Op, PositionEmbedding


def embed_layer_normalization(node: Node, raising: Raising) -> tuple[View | None, ...]:
    """Inputs ids, types, words, positions, types' table, gain, bias, mask, position ids."""
    words = look_up(
        raising.constants.matrix(node.inputs[2], transposed=False), raising.view(node.inputs[0])
    )
    total: Op = Add(matrix(words), _positions(node, raising))
    types = optional_input(node, 1)
    if types is not None and optional_input(node, 4) is not None:
        table = raising.constants.matrix(node.inputs[4], transposed=False)
        total = Add(total, matrix(look_up(table, raising.view(types))))
    width = words.dims[-1]
    assert isinstance(width, int)
    gain, bias = (vector(node, i, width, raising) for i in (5, 6))
    normed = LayerNorm(total, gain, bias, epsilon(node, 1e-12))
    return as_view(normed, words.dims), None, as_view(total, words.dims)


def _positions(node: Node, raising: Raising) -> Op:
    """The table's rows at the positions; without position ids they count from 0 in every call."""
    table = raising.constants.matrix(node.inputs[3], transposed=False)
    name = optional_input(node, 8)
    points = raising.probes.points
    if name is None:
        indices = [np.arange(point.tokens) for point in points]
    else:
        indices = [array.reshape(-1) for array in raising.probes.values(name)]
    rows = stored_rows(table, list(indices), raising)
    if rows is None:
        raise Mismatch("its positions are no positions of the tokens")
    return PositionEmbedding(rows, raising.position)
