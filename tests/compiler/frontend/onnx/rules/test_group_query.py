"""GroupQueryAttention: every form agrees with onnxruntime; what has no op of ours is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.contrib import (
    CONTEXT,
    HEAD_DIM,
    HEADS,
    HIDDEN,
    IDS,
    KV_HEADS,
    Writer,
    decoder,
    grouped_attention,
    lengths,
    past,
    present,
    rotations,
)
from support.raised import compare, raised, reasons

from hearth.compiler.ir.ops import Attention
from hearth.compiler.ir.rewrite import all_outputs, order


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"rotary_interleaved": 1},
        {"scale": 0.7},
        {"local_window_size": 5},
        {"rotary": False},
    ],
    ids=["plain", "interleaved", "scale", "window", "no_rope"],
)
def test_packed(tmp_path: Path, attributes: dict[str, Any]) -> None:
    model = decoder(tmp_path, lambda w, x: grouped_attention(w, x, **attributes))
    compare(raised(model).graph, model, IDS)


def test_the_window_is_that_of_onnxruntime(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: grouped_attention(w, x, local_window_size=5))
    ops = order(all_outputs(raised(model).graph))
    (attention,) = [op for op in ops if isinstance(op, Attention)]
    assert attention.window == 5


def separate(w: Writer, x: str, rotary: int, positions: bool, head_dim: int | str) -> str:
    q = w.op("Add", w.product(x, HIDDEN, HEADS * HEAD_DIM), w.bias(HEADS * HEAD_DIM))
    k, v = (w.product(x, HIDDEN, KV_HEADS * HEAD_DIM) for _ in range(2))
    tables = [w.tensor(table, "table") for table in rotations(rotary, CONTEXT + 10)]
    given = [past(w, "0.key", head_dim=head_dim), past(w, "0.value", head_dim=head_dim)]
    ids = [w.input("position_ids", TensorProto.INT64, ["batch", "tokens"])] if positions else []
    y = w.fused(
        "GroupQueryAttention", q, k, v, *given, *lengths(w), *tables, *ids,
        outputs=3, num_heads=HEADS, kv_num_heads=KV_HEADS, do_rotary=1,
    )  # fmt: skip
    present(w, f"{y}.1", "0.key")
    present(w, f"{y}.2", "0.value")
    return w.product(y, HIDDEN, HIDDEN)


@pytest.mark.parametrize("head_dim", [HEAD_DIM, "size"])
@pytest.mark.parametrize("positions", [False, True])
def test_separate(tmp_path: Path, positions: bool, head_dim: int | str) -> None:
    model = decoder(tmp_path, lambda w, x: separate(w, x, HEAD_DIM, positions, head_dim))
    compare(raised(model).graph, model, IDS)


@pytest.mark.parametrize(
    ("attributes", "word"),
    [({"smooth_softmax": 1}, "smooth"), ({"softcap": 30.0}, "capped")],
    ids=["smooth_softmax", "softcap"],
)
def test_what_is_refused_says_why(tmp_path: Path, attributes: dict[str, Any], word: str) -> None:
    model = decoder(tmp_path, lambda w, x: grouped_attention(w, x, **attributes))
    assert word in reasons(model)


def test_tables_shorter_than_the_context_are_refused(tmp_path: Path) -> None:
    model = decoder(tmp_path)
    assert f"end at {CONTEXT}" in reasons(model, context=CONTEXT + 1)


def test_lengths_that_do_not_count_the_tokens_are_refused(tmp_path: Path) -> None:
    def attention(w: Writer, x: str) -> str:
        y = grouped_attention(w, x)
        node = next(node for node in w.nodes if node.op_type == "GroupQueryAttention")
        node.input[5] = w.tensor(np.array([3], np.int32))
        return y

    assert "number of positions" in reasons(decoder(tmp_path, attention))


@pytest.mark.parametrize("scale", [-0.5, float("nan"), float("inf")])
def test_scales_that_no_attention_has_are_refused(tmp_path: Path, scale: float) -> None:
    model = decoder(tmp_path, lambda w, x: grouped_attention(w, x, scale=scale))
    assert "scaled by" in reasons(model)


@pytest.mark.parametrize("name", ["rotary_interleaved", "do_rotary"])
def test_a_switch_that_is_neither_0_nor_1_is_refused(tmp_path: Path, name: str) -> None:
    def attention(w: Writer, x: str) -> str:
        y = grouped_attention(w, x)
        node = next(node for node in w.nodes if node.op_type == "GroupQueryAttention")
        kept = [each for each in node.attribute if each.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, 1 << 31)])
        return y

    assert name in reasons(decoder(tmp_path, attention))
