"""Attention spelled out: q @ k^T, a scale, masks, softmax, @ v."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hearth.compiler.frontend.onnx.masks import seen_by
from hearth.compiler.frontend.onnx.model import Node
from hearth.compiler.frontend.onnx.raising import Raising, integer
from hearth.compiler.frontend.onnx.rules.elementwise import sides
from hearth.compiler.frontend.onnx.values import (
    Mask,
    Mismatch,
    Rows,
    Scores,
    Unsuited,
    View,
)
from hearth.compiler.frontend.onnx.views import shown, transpose


def scores(node: Node, raising: Raising, keys_transposed: bool = True) -> Scores:
    """q[.., T, D] @ k[.., D, S] (or k[.., S, D])."""
    first, second = node.inputs[:2]
    if not raising.is_data(first) or not raising.is_data(second):
        raise Unsuited("one factor is a constant")
    q, k = raising.value(first), raising.value(second)
    if not isinstance(q, View) or not isinstance(k, View) or min(len(q.axes), len(k.axes)) < 2:
        raise Mismatch("one factor is no view of rows")
    rank = len(k.axes)
    keys = transpose(k, (*range(rank - 2), rank - 1, rank - 2)) if keys_transposed else k
    fits = q.dims[-1] == keys.dims[-1] and isinstance(q.dims[-1], int)
    if not fits or q.dims[-2] is not Rows.T or not isinstance(keys.dims[-2], Rows):
        raise Mismatch(f"{shown(q.dims)} @ {shown(k.dims)} is no product of queries and keys")
    return Scores(replace(q, scale=1.0), replace(keys, scale=1.0), q.scale * k.scale)


def mask(node: Node, raising: Raising) -> Scores:
    """Scores plus a position-only value."""
    x, other = sides(node, raising)
    if raising.is_data(other):
        raise Unsuited("adds data")
    return replace(_open(x, raising), masks=(*_open(x, raising).masks, Mask(other)))


def _open(name: str, raising: Raising) -> Scores:
    """Scores before their softmax."""
    value = raising.value(name)
    if not isinstance(value, Scores) or value.softmax:
        raise Unsuited("the operand is no attention score")
    return value


def choose(node: Node, raising: Raising) -> Scores:
    """Where(mask, scores, -inf) or its converse; Where(IsNaN(weights), 0, weights), which never happens here."""
    condition, yes, no = node.inputs
    if raising.is_data(condition):
        return _guard(condition, yes, no, raising)
    kept, hidden, visible = (yes, no, True) if raising.is_data(yes) else (no, yes, False)
    if raising.is_data(hidden):
        raise Mismatch("chooses between two data values")
    value = raising.scalar(hidden)
    if not value <= -1e4:
        raise Mismatch(f"hides with {value}")
    found = _open(kept, raising)
    return replace(found, masks=(*found.masks, Mask(condition, visible)))


def _guard(condition: str, yes: str, no: str, raising: Raising) -> Scores:
    """No row of scores is wholly hidden, so no weight is NaN and the guard gives the weights."""
    test = raising.model.producers.get(condition)
    if test is None or test.op_type != "IsNaN" or raising.is_data(yes):
        raise Mismatch("chooses by data")
    guarded, kept = raising.value(test.inputs[0]), raising.value(no)
    if guarded is not kept or not isinstance(kept, Scores) or not kept.softmax:
        raise Mismatch("guards something else than attention weights")
    return kept


def softmax(node: Node, raising: Raising) -> Scores:
    """Over the stored positions."""
    found = _open(node.inputs[0], raising)
    rank = len(found.dims)
    default = -1 if raising.model.opsets.get("", 1) >= 13 else 1
    if integer(node, "axis", default) % rank != rank - 1:
        raise Mismatch("is not over the last axis")
    return replace(found, softmax=True)


def weighted(node: Node, raising: Raising) -> View:
    """softmax(scores) @ v."""
    first, second = node.inputs[:2]
    if not raising.is_data(first) or not raising.is_data(second):
        raise Unsuited("one factor is a constant")
    found, v = raising.value(first), raising.view(second)
    if not isinstance(found, Scores) or not found.softmax:
        raise Unsuited("the first factor is no softmax of scores")
    if v.dims[-2] != found.dims[-1]:
        raise Mismatch(f"values {shown(v.dims)} for weights {shown(found.dims)}")
    if not np.isfinite(found.scale):
        raise Mismatch(f"scores are scaled by {found.scale}")
    seen = seen_by(found, raising)
    return raising.layers.attend(found.q, found.k, v, found.scale, seen)
