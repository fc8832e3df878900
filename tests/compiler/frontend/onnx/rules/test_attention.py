"""Attention spelled out: every way to scale, hide and guard gives what onnxruntime gives; others are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import HEAD_DIM, HEADS, HIDDEN, IDS, KV_HEADS, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import Form, attention, number, scores, split_heads

from hearth.compiler.ir.ops import Attention
from hearth.compiler.ir.rewrite import all_outputs, order

FORMS = [
    *(Form(scale=scale) for scale in ("mul", "div", "both")),
    *(Form(mask=mask) for mask in ("product", "where", "where_not")),
    Form(guard=True),
    Form(window=5),
    Form(window=5, mask="where"),
    Form(rope="half"),
]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_attention(tmp_path: Path, form: Form) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, form))
    graph = raised(model).graph
    compare(graph, model, IDS)
    (op,) = [op for op in order(all_outputs(graph)) if isinstance(op, Attention)]
    assert (op.window, op.causal, op.scale) == (form.window, True, 0.25)


def test_a_window_longer_than_the_probes_is_seen(tmp_path: Path) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, Form(window=30)))
    found = raised(model)
    windows = {op.window for op in order(all_outputs(found.graph)) if isinstance(op, Attention)}
    assert windows == {30}
    full = raised(model, context=30)
    assert {op.window for op in order(all_outputs(full.graph)) if isinstance(op, Attention)} == {0}


def test_without_a_past_the_cache_is_derived(tmp_path: Path) -> None:
    form = Form(has_past=False)
    found = raised(decoder(tmp_path, lambda w, x: attention(w, x, form)))
    assert (found.dims.layers, found.dims.kv_heads) == (1, KV_HEADS)


def test_what_no_kernel_does_is_refused(tmp_path: Path) -> None:
    def capped(w: Writer, x: str) -> str:
        q, k = (split_heads(w, w.product(x, HIDDEN, HEADS * HEAD_DIM), HEADS) for _ in range(2))
        s = w.op("Tanh", scores(w, q, k, "mul"))
        y = w.op("MatMul", w.op("Softmax", s, axis=-1), k)
        y = w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), w.op("Shape", x))
        return w.product(y, HIDDEN, HIDDEN)

    assert "Tanh" in reasons(decoder(tmp_path, capped))


def test_a_mask_that_is_none_is_refused(tmp_path: Path) -> None:
    def added(w: Writer, x: str) -> str:
        q, k = (split_heads(w, w.product(x, HIDDEN, HEADS * HEAD_DIM), HEADS) for _ in range(2))
        s = w.op("Add", scores(w, q, k, "mul"), number(w, 1.5))
        y = w.op("MatMul", w.op("Softmax", s, axis=-1), k)
        y = w.op("Reshape", w.op("Transpose", y, perm=[0, 2, 1, 3]), w.op("Shape", x))
        return w.product(y, HIDDEN, HIDDEN)

    assert "adds numbers that are no mask" in reasons(decoder(tmp_path, added))
