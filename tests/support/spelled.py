"""Attention, norms, activations and rotations spelled out node by node, in the ways that exporters have."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from support.contrib import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, Writer, past, present

LOW = float(np.finfo(np.float32).min)


def number(w: Writer, value: float) -> str:
    return w.tensor(np.array(value, np.float32), "number")


def ints(w: Writer, *values: int) -> str:
    return w.tensor(np.array(values, np.int64), "ints")


def size(w: Writer, value: str, axis: int) -> str:
    """One size of a value, as a scalar."""
    return w.op("Gather", w.op("Shape", value), w.tensor(np.array(axis), "axis"))


def places(w: Writer) -> tuple[str, str]:
    """(positions of the tokens [T, 1], of all that is stored [1, S]), from shapes alone."""
    zero, one = w.tensor(np.array(0), "zero"), w.tensor(np.array(1), "one")
    count, total = size(w, "input_ids", 1), size(w, "attention_mask", 1)
    stored = w.op("Range", zero, total, one)
    rows = w.op("Add", w.op("Range", zero, count, one), w.op("Sub", total, count))
    return w.op("Unsqueeze", rows, ints(w, 1)), w.op("Unsqueeze", stored, ints(w, 0))


def visible(w: Writer, window: int = 0) -> str:
    """bool [1, 1, T, S]: what each row sees."""
    rows, stored = places(w)
    seen = w.op("LessOrEqual", stored, rows)
    if window:
        low = w.op("Sub", rows, w.tensor(np.array(window), "window"))
        seen = w.op("And", seen, w.op("Greater", stored, low))
    return w.op("Unsqueeze", seen, ints(w, 0, 1))


def hidden(w: Writer, scores: str, form: str, window: int = 0) -> str:
    """Scores with what must not be seen made small."""
    seen = visible(w, window)
    match form:
        case "additive":
            mask = w.op("Where", seen, number(w, 0.0), number(w, LOW))
            return w.op("Add", scores, mask)
        case "product":  # (1 - mask) * low
            one = w.op("Sub", number(w, 1.0), w.op("Cast", seen, to=TensorProto.FLOAT))
            return w.op("Add", w.op("Mul", one, number(w, LOW)), scores)
        case "where":
            return w.op("Where", seen, scores, number(w, -np.inf))
        case "where_not":
            return w.op("Where", w.op("Not", seen), number(w, LOW), scores)
    raise ValueError(form)


def split_heads(w: Writer, x: str, heads: int) -> str:
    """[B, heads, T, D]."""
    return w.op("Transpose", w.op("Reshape", x, ints(w, 0, 0, heads, HEAD_DIM)), perm=[0, 2, 1, 3])


def repeated(w: Writer, x: str, form: str) -> str:
    """[B, KV_HEADS, S, D] for every query head."""
    group = HEADS // KV_HEADS
    five = w.op("Unsqueeze", x, ints(w, 2))
    length = w.op("Unsqueeze", size(w, x, 2), ints(w, 0))
    one = ints(w, 1)
    shape = w.op("Concat", one, ints(w, KV_HEADS, group), length, ints(w, HEAD_DIM), axis=0)
    if form == "expand":
        wide = w.op("Expand", five, shape)
        return w.op("Reshape", wide, ints(w, 0, HEADS, -1, HEAD_DIM))
    raise ValueError(form)


@dataclass(frozen=True)
class Form:
    """How attention is written."""

    scale: str = "mul"
    mask: str = "additive"
    window: int = 0
    guard: bool = False
    rope: str = ""
    has_past: bool = True


def turned(w: Writer, x: str, form: str) -> str:
    """x[B, heads, T, D] by the positions of its rows; tables computed from shapes."""
    half = HEAD_DIM // 2
    rows = w.op("Cast", places(w)[0], to=TensorProto.FLOAT)
    frequencies = w.tensor((100.0 ** (-np.arange(half) / half)).astype(np.float32), "frequencies")
    angles = w.op("Mul", rows, frequencies)
    if form == "half":
        both = w.op("Concat", angles, angles, axis=-1)
        cos, sin = w.op("Cos", both), w.op("Sin", both)
        low = w.op("Slice", x, ints(w, 0), ints(w, half), ints(w, 3))
        high = w.op("Slice", x, ints(w, half), ints(w, 1 << 62), ints(w, 3))
        other = w.op("Concat", w.op("Neg", high), low, axis=-1)
        return w.op("Add", w.op("Mul", x, cos), w.op("Mul", other, sin))
    cos, sin = w.op("Cos", angles), w.op("Sin", angles)
    if form == "split":  # halves turned apart, then joined
        low = w.op("Slice", x, ints(w, 0), ints(w, half), ints(w, 3))
        high = w.op("Slice", x, ints(w, half), ints(w, HEAD_DIM), ints(w, 3))
        first = w.op("Sub", w.op("Mul", low, cos), w.op("Mul", high, sin))
        second = w.op("Add", w.op("Mul", high, cos), w.op("Mul", low, sin))
        return w.op("Concat", first, second, axis=3)
    pairs = w.op("Reshape", x, ints(w, 0, 0, -1, half, 2))
    even, odd = (w.op("Gather", pairs, w.tensor(np.array(i), "which"), axis=4) for i in (0, 1))
    first = w.op("Sub", w.op("Mul", even, cos), w.op("Mul", odd, sin))
    second = w.op("Add", w.op("Mul", odd, cos), w.op("Mul", even, sin))
    joined = w.op(
        "Concat", *(w.op("Unsqueeze", each, ints(w, -1)) for each in (first, second)), axis=-1
    )
    return w.op("Reshape", joined, w.op("Shape", x))


def scores(w: Writer, q: str, k: str, form: str) -> str:
    """scale * q @ k^T."""
    turn = {"perm": [0, 1, 3, 2]}
    if form == "both":
        root = number(w, HEAD_DIM**-0.25)
        return w.op("MatMul", w.op("Mul", q, root), w.op("Mul", w.op("Transpose", k, **turn), root))
    if form == "div":
        return w.op(
            "Div", w.op("MatMul", q, w.op("Transpose", k, **turn)), number(w, HEAD_DIM**0.5)
        )
    product = w.op("MatMul", q, w.op("Transpose", k, **turn))
    return w.op("Mul", product, number(w, HEAD_DIM**-0.5))


def attention(w: Writer, x: str, form: Form) -> str:
    """Grouped queries, keys and values joined with a past, softmax, projection."""
    q = split_heads(w, w.product(x, HIDDEN, HEADS * HEAD_DIM), HEADS)
    k, v = (split_heads(w, w.product(x, HIDDEN, KV_HEADS * HEAD_DIM), KV_HEADS) for _ in range(2))
    if form.rope:
        q, k = turned(w, q, form.rope), turned(w, k, form.rope)
    if form.has_past:
        k = w.op("Concat", past(w, "0.key"), k, axis=2)
        v = w.op("Concat", past(w, "0.value"), v, axis=-2)
        present(w, k, "0.key")
        present(w, v, "0.value")
    k, v = (repeated(w, each, "expand") for each in (k, v))
    s = hidden(w, scores(w, q, k, form.scale), form.mask, form.window)
    weights = w.op("Softmax", s, axis=-1)
    if form.guard:
        weights = w.op("Where", w.op("IsNaN", weights), number(w, 0.0), weights)
    y = w.op("Transpose", w.op("MatMul", weights, v), perm=[0, 2, 1, 3])
    y = w.op("Reshape", y, ints(w, 0, 0, HEADS * HEAD_DIM))
    return w.product(y, HEADS * HEAD_DIM, HIDDEN)
