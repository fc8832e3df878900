"""Nodes that only move: packed q, k, v cut in every way agree with onnxruntime; what moves rows is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support.contrib import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    IDS,
    Step,
    Writer,
    decoder,
    looked_up,
    past,
    present,
)
from support.raised import compare, raised, reasons
from support.spelled import hidden, ints, scores, split_heads

WIDTH = HEADS * HEAD_DIM


def split(w: Writer, x: str) -> list[str]:
    y = w.op("Split", x, ints(w, WIDTH, WIDTH, WIDTH), axis=2, outputs=3)
    return [split_heads(w, name, HEADS) for name in (y, f"{y}.1", f"{y}.2")]


def slices(w: Writer, x: str) -> list[str]:
    ends = [(0, WIDTH), (WIDTH, 2 * WIDTH), (-WIDTH, 1 << 60)]
    parts = [w.op("Slice", x, ints(w, a), ints(w, b), ints(w, -1)) for a, b in ends]
    return [split_heads(w, part, HEADS) for part in parts]


def gathered(w: Writer, x: str) -> list[str]:
    """[B, T, 3, H, D] turned to [3, B, H, T, D], then one index each."""
    five = w.op("Reshape", x, ints(w, 0, 0, 3, HEADS, HEAD_DIM))
    turned = w.op("Transpose", five, perm=[2, 0, 3, 1, 4])
    return [w.op("Gather", turned, w.tensor(np.array(i), "i"), axis=0) for i in range(3)]


def squeezed(w: Writer, x: str) -> list[str]:
    five = w.op("Reshape", x, ints(w, 0, -1, 3, HEADS, HEAD_DIM))
    part = w.op("Split", five, axis=2, outputs=3, num_outputs=3)
    parts = [w.op("Squeeze", name, ints(w, 2)) for name in (part, f"{part}.1", f"{part}.2")]
    return [w.op("Transpose", each, perm=[0, 2, 1, 3]) for each in parts]


def packed(cut: object) -> Step:
    def attention(w: Writer, x: str) -> str:
        q, k, v = cut(w, w.product(x, HIDDEN, 3 * WIDTH))  # type: ignore[operator]
        k = w.op("Concat", past(w, "0.key", HEADS), k, axis=2)
        v = w.op("Concat", past(w, "0.value", HEADS), v, axis=2)
        present(w, k, "0.key", HEADS)
        present(w, v, "0.value", HEADS)
        weights = w.op("Softmax", hidden(w, scores(w, q, k, "mul"), "additive"), axis=-1)
        y = w.op("Transpose", w.op("MatMul", weights, v), perm=[0, 2, 1, 3])
        return w.product(w.op("Flatten", w.op("Squeeze", y, ints(w, 0)), axis=1), WIDTH, HIDDEN)

    return attention


@pytest.mark.parametrize("cut", [split, slices, gathered, squeezed])
def test_packed_projections(tmp_path: Path, cut: object) -> None:
    def attention(w: Writer, x: str) -> str:
        return w.op("Unsqueeze", packed(cut)(w, x), ints(w, 0))

    model = decoder(tmp_path, attention)
    compare(raised(model).graph, model, IDS)


@pytest.mark.parametrize("what", ["reversed", "some rows", "other columns"])
def test_what_moves_elements_is_refused(tmp_path: Path, what: str) -> None:
    def move(w: Writer, x: str) -> str:
        match what:
            case "reversed":
                return w.op("Slice", x, ints(w, -1), ints(w, -1000), ints(w, 2), ints(w, -1))
            case "some rows":
                return w.op("Slice", x, ints(w, 1), ints(w, 1 << 60), ints(w, 1))
        return w.op("Gather", x, ints(w, *reversed(range(HIDDEN))), axis=2)

    found = reasons(decoder(tmp_path, mlp=lambda w, x: w.product(move(w, x), HIDDEN, HIDDEN)))
    assert "takes" in found


def test_ids_that_a_cast_may_cut_are_refused(tmp_path: Path) -> None:
    def narrowed(w: Writer, ids: str) -> str:
        wide = w.op("Cast", w.op("Cast", ids, to=TensorProto.INT8), to=TensorProto.INT64)
        return looked_up(w, wide)

    assert "casts ids" in reasons(decoder(tmp_path, embedding=narrowed))
