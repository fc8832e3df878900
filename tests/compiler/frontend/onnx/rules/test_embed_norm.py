"""EmbedLayerNormalization agrees with onnxruntime; positions that do not go on after a past are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto
from support.contrib import CONTEXT, HIDDEN, IDS, VOCAB, Writer, decoder
from support.raised import compare, raised, reasons

from hearth.compiler.ir.ops import PositionEmbedding
from hearth.compiler.ir.rewrite import all_outputs, order


def embedded(w: Writer, ids: str, positions: bool) -> str:
    """Words and positions; the sum is what goes on."""
    words, places = (
        w.tensor(w.rng.standard_normal((n, HIDDEN)).astype(np.float32))
        for n in (VOCAB, CONTEXT + 9)
    )
    at = w.input("position_ids", TensorProto.INT64, ["batch", "tokens"])
    narrow = [w.op("Cast", name, to=TensorProto.INT32) for name in (ids, at)]
    y = w.fused(
        "EmbedLayerNormalization", narrow[0], "", words, places, "", w.gain(HIDDEN), w.bias(HIDDEN), "",
        *([narrow[1]] if positions else []), outputs=3, epsilon=1e-5,
    )  # fmt: skip
    return w.op("Add", y, f"{y}.2")


def test_words_and_positions(tmp_path: Path) -> None:
    model = decoder(tmp_path, embedding=lambda w, ids: embedded(w, ids, True))
    graph = raised(model).graph
    compare(graph, model, IDS)
    assert any(isinstance(op, PositionEmbedding) for op in order(all_outputs(graph)))


def test_positions_that_start_anew_are_refused(tmp_path: Path) -> None:
    model = decoder(tmp_path, embedding=lambda w, ids: embedded(w, ids, False))
    assert "no positions of the tokens" in reasons(model)
