"""Rotations in every spelling become RoPE over the tables that the graph itself computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import spelled
from support.contrib import HEAD_DIM, IDS, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import Form, attention, places

from hearth.compiler.ir.ops import Constant, RoPE
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.compiler.ir.tensors import Source, read


@pytest.mark.parametrize("rope", ["half", "split", "interleaved"])
def test_rotation(tmp_path: Path, rope: str) -> None:
    model = decoder(tmp_path, lambda w, x: attention(w, x, Form(rope=rope)))
    graph = raised(model).graph
    compare(graph, model, IDS)
    turned = [op for op in order(all_outputs(graph)) if isinstance(op, RoPE)]
    assert len(turned) == 2
    assert len({op.cos for op in turned}) == 1, "both read one table"
    half = HEAD_DIM // 2
    angles = np.arange(64)[:, None] * 100.0 ** (-np.arange(half) / half)
    for table, wanted in ((turned[0].cos, np.cos(angles)), (turned[0].sin, np.sin(angles))):
        assert isinstance(table, Constant) and isinstance(table.value, Source)
        np.testing.assert_allclose(read(table.value), wanted, atol=4e-6)


def test_what_stretches_but_does_not_turn_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stretched(w: Writer, x: str, form: str) -> str:
        rows = w.op("Cast", places(w)[0], to=1)
        return w.op("Mul", x, w.op("Add", rows, spelled.number(w, 1.0)))

    monkeypatch.setattr(spelled, "turned", stretched)
    model = decoder(tmp_path, lambda w, x: attention(w, x, Form(rope="half")))
    assert "is no rotation of pairs" in reasons(model)
