"""RotaryEmbedding as one node, before attention, agrees with onnxruntime."""

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
    KV_HEADS,
    Writer,
    decoder,
    lengths,
    past,
    present,
    rotations,
)
from support.raised import compare, raised, reasons


def attention(w: Writer, x: str, contrib: bool, interleaved: int) -> str:
    """q and k turned by nodes of their own."""
    q, k, v = (w.product(x, HIDDEN, heads * HEAD_DIM) for heads in (HEADS, KV_HEADS, KV_HEADS))
    cos, sin = (w.tensor(table, "table") for table in rotations())
    ids = w.input("position_ids", TensorProto.INT64, ["batch", "tokens"])

    def turn(x: str, heads: int) -> str:
        form = {"interleaved": interleaved, "num_heads": heads}
        if contrib:
            return w.fused("RotaryEmbedding", x, ids, cos, sin, **form)
        return w.op("RotaryEmbedding", x, cos, sin, ids, **form)

    given = [past(w, "0.key"), past(w, "0.value")]
    y = w.fused(
        "GroupQueryAttention", turn(q, HEADS), turn(k, KV_HEADS), v, *given, *lengths(w),
        outputs=3, num_heads=HEADS, kv_num_heads=KV_HEADS,
    )  # fmt: skip
    present(w, f"{y}.1", "0.key")
    present(w, f"{y}.2", "0.value")
    return w.product(y, HEADS * HEAD_DIM, HIDDEN)


@pytest.mark.parametrize("interleaved", [0, 1], ids=["halves", "interleaved"])
@pytest.mark.parametrize("contrib", [False, True], ids=["standard", "contrib"])
def test_rotary_embedding(tmp_path: Path, contrib: bool, interleaved: int) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, contrib, interleaved), opset=23)
    compare(raised(model).graph, model, IDS)


def test_positions_that_are_not_the_tokens_are_refused(tmp_path: Path) -> None:
    def shifted(w: Writer, x: str) -> str:
        y = attention(w, x, True, 0)
        moved = w.op("Add", "position_ids", w.tensor(np.array(1), "one"))
        w.nodes.insert(0, w.nodes.pop())
        for node in w.nodes:
            if node.op_type == "RotaryEmbedding":
                node.input[1] = moved
        return y

    assert "no positions of the tokens" in reasons(decoder(tmp_path, shifted))
