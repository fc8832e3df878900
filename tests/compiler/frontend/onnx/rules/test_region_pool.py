"""Pooled rows and vectors of length 1, in every spelling; the encoder they end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.contrib import HEAD_DIM, HEADS, HIDDEN, VOCAB, Writer
from support.raised import info, raised, reasons, save
from support.spelled import ints, number, scores, split_heads

from hearth.compiler.frontend.onnx.whole import Raised
from hearth.compiler.ir.ops import L2Normalize, Pool
from hearth.schemas.commands import Pooling
from hearth.schemas.manifest import ModelKind

Pooler = Callable[[Writer, str], str]


def encoder(path: Path, pooler: Pooler) -> Path:
    """One layer of full attention, then the pooler: [B, E]."""
    w = Writer()
    w.input("input_ids", TensorProto.INT64, ["batch", "tokens"])
    w.input("attention_mask", TensorProto.INT64, ["batch", "tokens"])
    w.outputs.append(info("vector", TensorProto.FLOAT, ["batch", HIDDEN]))
    table = w.tensor(w.rng.standard_normal((VOCAB, HIDDEN)).astype(np.float32), "table")
    x = w.op("Gather", table, "input_ids")
    q, k, v = (split_heads(w, w.product(x, HIDDEN, HEADS * HEAD_DIM), HEADS) for _ in range(3))
    y = w.op("MatMul", w.op("Softmax", scores(w, q, k, "div"), axis=-1), v)
    y = w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), ints(w, 0, 0, HIDDEN))
    x = w.op("Add", x, w.product(y, HIDDEN, HIDDEN))
    w.nodes.append(helper.make_node("Identity", [pooler(w, x)], ["vector"]))
    read = {name for node in w.nodes for name in node.input}
    given = [each for each in w.inputs if each.name in read]
    return save(path / "model.onnx", w.nodes, w.tensors, given, w.outputs)


def masked_mean(w: Writer, x: str) -> str:
    weights = w.op("Cast", w.op("Unsqueeze", "attention_mask", ints(w, -1)), to=TensorProto.FLOAT)
    total = w.op("ReduceSum", w.op("Mul", x, weights), ints(w, 1), keepdims=0)
    count = w.op("ReduceSum", weights, ints(w, 1), keepdims=0)
    return w.op("Div", total, w.op("Clip", count, number(w, 1e-9)))


def mean(w: Writer, x: str) -> str:
    return w.op("ReduceMean", x, ints(w, 1), keepdims=0)


def first(w: Writer, x: str) -> str:
    return w.op("Gather", x, w.tensor(np.array(0), "first"), axis=1)


def last(w: Writer, x: str) -> str:
    return w.op("Gather", x, w.tensor(np.array(-1), "last"), axis=1)


def largest(w: Writer, x: str) -> str:
    return w.op("ReduceMax", x, ints(w, 1), keepdims=0)


def unit(pooler: Pooler) -> Pooler:
    def normalised(w: Writer, x: str) -> str:
        y = pooler(w, x)
        length = w.op("ReduceL2", y, ints(w, 1), keepdims=1)
        return w.op("Div", y, w.op("Clip", length, number(w, 1e-12)))

    return normalised


POOLERS: dict[str, tuple[Pooler, Pooling]] = {
    "masked_mean": (masked_mean, Pooling.MEAN),
    "mean": (mean, Pooling.MEAN),
    "first": (first, Pooling.FIRST),
    "last": (last, Pooling.LAST),
    "max": (largest, Pooling.MAX),
}


def vector(found: Raised) -> tuple[Pool, float | None]:
    """The pooling of `main`, and the epsilon of its length norm."""
    op = found.graph.entries["main"][0]
    eps = None
    if isinstance(op, L2Normalize):
        op, eps = op.x, op.eps
    assert isinstance(op, Pool)
    return op, eps


@pytest.mark.parametrize("pooler", POOLERS.values(), ids=POOLERS)
@pytest.mark.parametrize("normalised", [False, True], ids=["plain", "unit"])
def test_pooling(tmp_path: Path, pooler: tuple[Pooler, Pooling], normalised: bool) -> None:
    step, kind = pooler
    found = raised(encoder(tmp_path, unit(step) if normalised else step))
    op, eps = vector(found)
    assert (found.kind, op.kind) == (ModelKind.ENCODER, kind)
    assert eps == (pytest.approx(1e-12) if normalised else None)
    assert found.embedding is not None and found.embedding.normalised is normalised


def test_another_pooling_is_refused(tmp_path: Path) -> None:
    def smallest(w: Writer, x: str) -> str:
        return w.op("Neg", w.op("ReduceSum", w.op("Exp", x), ints(w, 1), keepdims=0))

    assert "pools rows in no known way" in reasons(encoder(tmp_path, smallest))
