"""Add, Mul, Sub and Div: residuals, gates, biases, gains and scales; scales of attention scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.positions import position_rows
from hearth.compiler.frontend.onnx.raising import Raising
from hearth.compiler.frontend.onnx.values import Mismatch, Scores, Size, Unsuited, Value, View
from hearth.compiler.frontend.onnx.views import as_view, matrix, shown
from hearth.compiler.ir.ops import (
    Add,
    Constant,
    HeadNorm,
    LayerNorm,
    Mul,
    Op,
    PositionEmbedding,
    RMSNorm,
    tensor,
)


def sides(node: Node, raising: Raising) -> tuple[str, str]:
    """(the data operand, the other one), of two."""
    a, b = node.inputs
    return (a, b) if raising.is_data(a) else (b, a)


def both(node: Node, raising: Raising) -> tuple[Op, Op, tuple[Size, ...]]:
    """Two matrices of one shape, and that shape."""
    if not all(raising.is_data(name) for name in node.inputs):
        raise Unsuited("one operand is no data")
    a, b = (raising.view(name) for name in node.inputs)
    longer, shorter = (a, b) if len(a.dims) >= len(b.dims) else (b, a)
    lead = len(longer.dims) - len(shorter.dims)
    if (1,) * lead + shorter.dims != longer.dims:
        raise Mismatch(f"{shown(a.dims)} and {shown(b.dims)} differ in shape")
    return matrix(a), matrix(b), longer.dims


def _known(node: Node, raising: Raising) -> tuple[Value, str]:
    """The data operand's value, and the name of the other, which is no data."""
    x, other = sides(node, raising)
    if raising.is_data(other):
        raise Unsuited("both operands are data")
    return raising.value(x), other


def add(node: Node, raising: Raising) -> View:
    """A residual."""
    left, right, dims = both(node, raising)
    return as_view(Add(left, right), dims)


def shift(node: Node, raising: Raising) -> Value:
    """A bias; learned positions; nothing."""
    value, other = _known(node, raising)
    if isinstance(value, Scores):
        raise Unsuited("adds to attention scores")
    if raising.constants.scalar(other) == 0.0:
        return value
    return add_known(value, other, raising)


def add_known(x: View, other: str, raising: Raising) -> View:
    """x plus a vector, or plus rows that depend on the position alone."""
    width = x.dims[-1]
    if not isinstance(width, int):
        raise Mismatch(f"adds a constant to {shown(x.dims)}")
    op = matrix(x)
    if tensor(op).shape[1] != width:
        raise Mismatch(f"adds a constant to heads {shown(x.dims)}")
    vector = raising.constants.vector(other, width)
    if vector is not None:
        return as_view(_biased(op, vector), x.dims)
    rows = position_rows(other, width, raising)
    if rows.is_vector:
        return as_view(_biased(op, rows.table), x.dims)
    return as_view(Add(op, PositionEmbedding(rows.table, raising.position)), x.dims)


def _biased(op: Op, vector: Constant) -> Op:
    match op:
        case LayerNorm(bias=None):
            return replace(op, bias=vector)
    return Add(op, vector)


def mul(node: Node, raising: Raising) -> View:
    """A gate."""
    left, right, dims = both(node, raising)
    return as_view(Mul(left, right), dims)


def gain(node: Node, raising: Raising) -> Value:
    """A gain of a norm; a scale."""
    value, other = _known(node, raising)
    factor = raising.constants.scalar(other)
    if factor is not None:
        return scaled(value, factor)
    if isinstance(value, Scores):
        raise Mismatch("multiplies attention scores by more than a number")
    width = value.dims[-1]
    vector = raising.constants.vector(other, width) if isinstance(width, int) else None
    match matrix(value):
        case LayerNorm(gain=None, bias=None) | RMSNorm(gain=None) as norm if vector is not None:
            return as_view(replace(norm, gain=vector), value.dims)
        case HeadNorm(gain=None, heads=heads) as norm if (
            vector is not None and width * heads == tensor(norm).shape[1]
        ):
            return as_view(replace(norm, gain=vector), value.dims)
    raise Mismatch("multiplies by a constant that is no gain of a norm and no number")


def scaled(value: Value, factor: float) -> Value:
    """The value times a number, kept aside."""
    if not np.isfinite(factor) or factor == 0.0:
        raise Mismatch(f"is scaled by {factor}")
    if isinstance(value, Scores) and (value.softmax or value.masks):
        raise Mismatch("scales attention after its mask")
    return replace(value, scale=value.scale * factor)


def div(node: Node, raising: Raising) -> Value:
    """A scale."""
    x, other = node.inputs
    if raising.is_data(other):
        raise Mismatch("divides by data")
    factor = raising.scalar(other)
    if factor == 0.0:
        raise Mismatch("divides by 0")
    return scaled(raising.value(x), 1.0 / factor)


def neg(node: Node, raising: Raising) -> Value:
    """A scale of -1."""
    return scaled(raising.value(node.inputs[0]), -1.0)
