"""Sums and products with constants: biases, gains, scales, positions; and what is none of these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support.contrib import CONTEXT, HIDDEN, IDS, VOCAB, Step, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import Form, attention, number, places

from hearth.compiler.ir.ops import PositionEmbedding
from hearth.compiler.ir.rewrite import all_outputs, order


def plain(w: Writer, x: str) -> str:
    return attention(w, x, Form())


def product(w: Writer, x: str) -> str:
    return w.product(x, HIDDEN, HIDDEN)


STEPS: dict[str, Step] = {
    "bias": lambda w, x: w.op("Add", w.bias(HIDDEN), product(w, x)),
    "nothing": lambda w, x: w.op("Add", product(w, x), number(w, 0.0)),
    "scale": lambda w, x: product(w, w.op("Mul", number(w, 0.25), w.op("Div", x, number(w, 0.25)))),
    "negated": lambda w, x: w.op("Neg", product(w, w.op("Neg", x))),
    "through": lambda w, x: w.op("Identity", w.op("Cast", product(w, x), to=TensorProto.FLOAT)),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_with_constants(tmp_path: Path, step: Step) -> None:
    model = decoder(tmp_path, plain, mlp=step)
    compare(raised(model).graph, model, IDS)


def sinusoidal(w: Writer, ids: str) -> str:
    """Words, and positions computed from shapes."""
    table = w.tensor(w.rng.standard_normal((VOCAB, HIDDEN)).astype(np.float32), "table")
    frequencies = w.tensor((0.9 ** np.arange(HIDDEN)).astype(np.float32), "frequencies")
    rows = w.op("Cast", places(w)[0], to=TensorProto.FLOAT)
    return w.op("Add", w.op("Gather", table, ids), w.op("Sin", w.op("Mul", rows, frequencies)))


def test_computed_positions(tmp_path: Path) -> None:
    model = decoder(tmp_path, plain, embedding=sinusoidal)
    graph = raised(model).graph
    compare(graph, model, IDS)
    (op,) = [op for op in order(all_outputs(graph)) if isinstance(op, PositionEmbedding)]
    assert op.type.shape[1] == HIDDEN  # type: ignore[union-attr]


def test_positions_behind_a_few_unused_rows(tmp_path: Path) -> None:
    def offset(w: Writer, ids: str) -> str:
        words, rows = (
            w.tensor(w.rng.standard_normal((n, HIDDEN)).astype(np.float32), "table")
            for n in (VOCAB, CONTEXT + 2)
        )
        at = w.input("position_ids", TensorProto.INT64, ["batch", "tokens"])
        moved = w.op("Add", at, w.tensor(np.array(2), "two"))
        return w.op("Add", w.op("Gather", words, ids), w.op("Gather", rows, moved))

    model = decoder(tmp_path, plain, embedding=offset)
    compare(raised(model).graph, model, IDS)


REFUSED: dict[str, tuple[Step, str]] = {
    "a scaled residual": (
        lambda w, x: w.op("Mul", product(w, x), number(w, 3.0)),
        "is scaled by 3.0",
    ),
    "a gain without a norm": (
        lambda w, x: w.op("Mul", product(w, x), w.gain(HIDDEN)),
        "no gain of a norm",
    ),
    "division by zero": (lambda w, x: w.op("Div", product(w, x), number(w, 0.0)), "divides by 0"),
    "a number added": (lambda w, x: w.op("Add", product(w, x), number(w, 1.0)), "adds [] to rows"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_refused(tmp_path: Path, case: tuple[Step, str]) -> None:
    step, why = case
    assert why in reasons(decoder(tmp_path, plain, mlp=step))
