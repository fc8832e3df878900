"""The standard's Attention agrees with onnxruntime: heads apart or side by side, a past of its own, masks, groups."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import HEAD_DIM, HEADS, HIDDEN, IDS, KV_HEADS, Writer, decoder, past, present
from support.raised import compare, raised, reasons
from support.spelled import ints, number, split_heads, visible

from hearth.compiler.ir.ops import Attention
from hearth.compiler.ir.rewrite import all_outputs, order

OPSET = 23


def attention(
    w: Writer,
    x: str,
    flat: bool = False,
    inner: bool = True,
    mask: str = "bool",
    **attributes: float,
) -> str:
    """`flat`: heads side by side; `inner`: the node joins the past."""
    q = w.product(x, HIDDEN, HEADS * HEAD_DIM)
    k, v = (w.product(x, HIDDEN, KV_HEADS * HEAD_DIM) for _ in range(2))
    if flat:
        attributes |= {"q_num_heads": HEADS, "kv_num_heads": KV_HEADS}
    else:
        q = split_heads(w, q, HEADS)
        k, v = (split_heads(w, each, KV_HEADS) for each in (k, v))
    pasts = [past(w, "0.key"), past(w, "0.value")]
    if not inner:
        k, v = (w.op("Concat", *pair, axis=2) for pair in zip(pasts, (k, v), strict=True))
    hidden = ""
    if mask:
        hidden = visible(w)
    if mask == "float":
        hidden = w.op("Where", hidden, number(w, 0.0), number(w, -1e9))
    given = [q, k, v, hidden, *(pasts if inner else [])]
    y = w.op("Attention", *given, outputs=3 if inner else 1, **attributes)
    present(w, f"{y}.1" if inner else k, "0.key")
    present(w, f"{y}.2" if inner else v, "0.value")
    if not flat:
        y = w.op("Transpose", y, perm=[0, 2, 1, 3])
    return w.product(w.op("Reshape", y, ints(w, 0, 0, HIDDEN)), HIDDEN, HIDDEN)


@pytest.mark.parametrize("flat", [False, True], ids=["apart", "side_by_side"])
@pytest.mark.parametrize("mask", ["bool", "float"])
def test_with_a_past_of_its_own(tmp_path: Path, flat: bool, mask: str) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, flat, mask=mask), opset=OPSET)
    graph = raised(model).graph
    compare(graph, model, IDS)


def test_with_a_joined_past(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, inner=False, scale=0.3), opset=OPSET)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (op,) = [op for op in order(all_outputs(graph)) if isinstance(op, Attention)]
    assert op.scale == pytest.approx(0.3)


def test_is_causal_with_a_past_of_its_own(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, mask="", is_causal=1), opset=OPSET)
    compare(raised(model).graph, model, IDS)


def test_a_causal_node_after_a_joined_past_is_refused(tmp_path: Path) -> None:
    """The standard aligns such a node to the first row: not what a decoder computes."""
    model = decoder(
        tmp_path, lambda w, x: attention(w, x, inner=False, mask="", is_causal=1), opset=OPSET
    )
    assert "is causal from the first row on" in reasons(model)


def test_soft_capping_is_refused(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, softcap=30.0), opset=OPSET)
    assert "softcap" in reasons(model)
