"""FusedMatMul: alpha and a transposed second factor, by a weight and inside attention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.contrib import HEAD_DIM, HEADS, HIDDEN, IDS, Writer, decoder, past, present
from support.raised import compare, raised, reasons


def attention(w: Writer, x: str) -> str:
    """softmax(alpha * q @ k^T + mask) @ v of fused products."""
    width = HEADS * HEAD_DIM
    shape = w.tensor(np.array([0, 0, HEADS, HEAD_DIM]), "shape")

    def heads(name: str) -> str:
        return w.op("Transpose", w.op("Reshape", name, shape), perm=[0, 2, 1, 3])

    q, k, v = (heads(w.product(x, HIDDEN, width)) for _ in range(3))
    k = w.op("Concat", past(w, "0.key", HEADS), k, axis=2)
    v = w.op("Concat", past(w, "0.value", HEADS), v, axis=2)
    present(w, k, "0.key", HEADS)
    present(w, v, "0.value", HEADS)
    scores = w.fused("FusedMatMul", q, k, alpha=0.25, transB=1)
    scores = w.op("Add", scores, causal(w))
    y = w.fused("FusedMatMul", w.op("Softmax", scores, axis=-1), v)
    rows = w.tensor(np.array([0, 0, width]), "shape")
    return w.product(w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), rows), width, HIDDEN)


def causal(w: Writer) -> str:
    """[T, S] of 0 and a large negative number."""
    at, zero, one = (w.tensor(np.array(i), "i") for i in (1, 0, 1))
    total = w.op("Gather", w.op("Shape", "attention_mask"), at)
    count = w.op("Gather", w.op("Shape", "input_ids"), at)
    row = w.op("Add", w.op("Range", zero, count, one), w.op("Sub", total, count))
    row = w.op("Unsqueeze", row, w.tensor(np.array([1]), "axis"))
    hidden = w.op("Greater", w.op("Range", zero, total, one), row)
    low, none = (w.tensor(np.array(i, np.float32), "f") for i in (-1e9, 0))
    return w.op("Where", hidden, low, none)


def test_attention_of_fused_products(tmp_path: Path) -> None:
    model = decoder(tmp_path, attention)
    compare(raised(model).graph, model, IDS)


def test_by_a_weight(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        weight = w.tensor(w.rng.standard_normal((96, HIDDEN)).astype(np.float32) / 8)
        up = w.fused("FusedMatMul", x, weight, transB=1)
        return w.fused("FusedMatMul", w.op("Relu", up), w.weight(96, HIDDEN))

    model = decoder(tmp_path, mlp=mlp)
    compare(raised(model).graph, model, IDS)


def test_transposed_activations_are_refused(tmp_path: Path) -> None:
    def mlp(w: Writer, x: str) -> str:
        return w.fused("FusedMatMul", x, w.weight(HIDDEN, HIDDEN), transA=1)

    assert "transposes" in reasons(decoder(tmp_path, mlp=mlp))
