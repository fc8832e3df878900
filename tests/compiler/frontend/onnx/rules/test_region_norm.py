"""Norms in every spelling become RMSNorm and LayerNorm with their own epsilon; half a norm is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.contrib import HIDDEN, IDS, Step, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import ints, number

from hearth.compiler.ir.ops import LayerNorm, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order

EPS = 3e-5


def mean(w: Writer, x: str) -> str:
    return w.op("ReduceMean", x, ints(w, -1), keepdims=1)


def root(w: Writer, squares: str) -> str:
    return w.op("Sqrt", w.op("Add", squares, number(w, EPS)))


def rms_reciprocal(w: Writer, x: str) -> str:
    r = w.op("Reciprocal", root(w, mean(w, w.op("Pow", x, number(w, 2.0)))))
    return w.op("Mul", w.gain(HIDDEN), w.op("Mul", x, r))


def rms_div(w: Writer, x: str) -> str:
    return w.op("Mul", w.op("Div", x, root(w, mean(w, w.op("Mul", x, x)))), w.gain(HIDDEN))


def rms_power(w: Writer, x: str) -> str:
    inner = w.op("Add", mean(w, w.op("Mul", x, x)), number(w, EPS))
    return w.op("Mul", w.op("Mul", x, w.op("Pow", inner, number(w, -0.5))), w.gain(HIDDEN))


def rms_sum(w: Writer, x: str) -> str:
    squares = w.op("ReduceSumSquare", x, ints(w, -1), keepdims=1)
    return w.op("Div", x, root(w, w.op("Div", squares, number(w, HIDDEN))))


def layer(w: Writer, x: str) -> str:
    centred = w.op("Sub", x, mean(w, x))
    y = w.op("Div", centred, root(w, mean(w, w.op("Pow", centred, number(w, 2.0)))))
    return w.op("Add", w.op("Mul", y, w.gain(HIDDEN)), w.bias(HIDDEN))


def layer_moments(w: Writer, x: str) -> str:
    m = mean(w, x)
    variance = w.op("Sub", mean(w, w.op("Mul", x, x)), w.op("Mul", m, m))
    return w.op("Div", w.op("Sub", x, m), root(w, variance))


FORMS: dict[str, tuple[Step, type]] = {
    "rms_reciprocal": (rms_reciprocal, RMSNorm),
    "rms_div": (rms_div, RMSNorm),
    "rms_power": (rms_power, RMSNorm),
    "rms_sum": (rms_sum, RMSNorm),
    "layer": (layer, LayerNorm),
    "layer_moments": (layer_moments, LayerNorm),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_norm(tmp_path: Path, form: tuple[Step, type]) -> None:
    step, kind = form
    model = decoder(tmp_path, norm=step)
    graph = raised(model).graph
    compare(graph, model, IDS)
    norms = [op for op in order(all_outputs(graph)) if isinstance(op, RMSNorm | LayerNorm)]
    assert [type(op) for op in norms] == [kind] * 3
    assert {op.eps for op in norms} == {float(np.float32(EPS))}


def test_a_norm_of_another_power_is_refused(tmp_path: Path) -> None:
    def cubes(w: Writer, x: str) -> str:
        return w.op("Div", x, root(w, mean(w, w.op("Abs", x))))

    assert "is no RMSNorm" in reasons(decoder(tmp_path, norm=cubes))
