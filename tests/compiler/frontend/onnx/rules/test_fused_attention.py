"""Attention and MultiHeadAttention of com.microsoft agree with onnxruntime, with a past and without."""

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
    Writer,
    decoder,
    past,
    present,
)
from support.raised import compare, info, raised, reasons

WIDTH = HEADS * HEAD_DIM


def stacked(w: Writer, x: str, negated: bool = False) -> str:
    mask = w.op("Cast", "attention_mask", to=TensorProto.INT32)
    shape: list[int | str] = [2, "batch", HEADS, "past", HEAD_DIM]
    given = w.input("past_0", TensorProto.FLOAT, shape)
    if negated:
        given = w.op("Neg", given)
    y = w.fused(
        "Attention", x, w.weight(HIDDEN, 3 * WIDTH), w.bias(3 * WIDTH), mask, given,
        outputs=2, num_heads=HEADS, unidirectional=1,
    )  # fmt: skip
    (node,) = [node for node in w.nodes if node.op_type == "Attention"]
    node.output[1] = "present_0"
    w.outputs.append(info("present_0", TensorProto.FLOAT, [*shape[:3], "total", HEAD_DIM]))
    return w.product(y, WIDTH, HIDDEN)


def test_attention_with_a_stacked_past(tmp_path: Path) -> None:
    model = decoder(tmp_path, stacked)
    compare(raised(model).graph, model, IDS)


def test_a_past_that_is_changed_before_it_is_read_is_refused(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: stacked(w, x, negated=True))
    assert "in another order than it is stored" in reasons(model)


def multi_head(w: Writer, x: str, biased: bool = False, masked: bool = False) -> str:
    q, k, v = (w.product(x, HIDDEN, WIDTH) for _ in range(3))
    bias = w.bias(3 * WIDTH) if biased else ""
    given = [past(w, "0.key", HEADS), past(w, "0.value", HEADS)]
    added = _causal(w) if masked else ""
    y = w.fused(
        "MultiHeadAttention", q, k, v, bias, "", added, *given,
        outputs=3, num_heads=HEADS, unidirectional=0 if masked else 1,
    )  # fmt: skip
    present(w, f"{y}.1", "0.key", HEADS)
    present(w, f"{y}.2", "0.value", HEADS)
    return w.product(y, WIDTH, HIDDEN)


def _causal(w: Writer) -> str:
    """[1, 1, T, S] of 0 and a large negative number, from the shapes of ids and mask."""
    at = w.tensor(np.array(1), "place")
    total = w.op("Gather", w.op("Shape", "attention_mask"), at)
    count = w.op("Gather", w.op("Shape", "input_ids"), at)
    zero, one = w.tensor(np.array(0), "zero"), w.tensor(np.array(1), "one")
    t = w.op("Range", zero, total, one)
    row = w.op("Add", w.op("Range", zero, count, one), w.op("Sub", total, count))
    row = w.op("Unsqueeze", row, w.tensor(np.array([1]), "axis"))
    hidden = w.op("Greater", t, row)
    low = w.tensor(np.array(-1e9, np.float32), "low")
    mask = w.op("Where", hidden, low, w.tensor(np.array(0, np.float32), "zero"))
    return w.op("Unsqueeze", mask, w.tensor(np.array([0, 1]), "axes"))


@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("masked", [False, True], ids=["unidirectional", "mask"])
def test_multi_head_attention(tmp_path: Path, biased: bool, masked: bool) -> None:
    model = decoder(tmp_path, lambda w, x: multi_head(w, x, biased, masked))
    compare(raised(model).graph, model, IDS)


def test_rope_inside_attention_is_refused(tmp_path: Path) -> None:
    def attention(w: Writer, x: str) -> str:
        weights = w.weight(HIDDEN, 3 * WIDTH), w.bias(3 * WIDTH)
        y = w.fused("Attention", x, *weights, num_heads=HEADS, unidirectional=1, do_rotary=1)
        return w.product(y, WIDTH, HIDDEN)

    assert "do_rotary" in reasons(decoder(tmp_path, attention))
