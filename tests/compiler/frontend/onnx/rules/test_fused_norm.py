"""Norms as one node, alone and over a sum, agree with onnxruntime and become one op each."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import HIDDEN, IDS, Step, Writer, decoder
from support.raised import compare, raised, reasons

from hearth.compiler.ir.graph import Graph
from hearth.compiler.ir.ops import LayerNorm, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order


def count(graph: Graph, kind: type[RMSNorm] | type[LayerNorm]) -> int:
    return sum(isinstance(op, kind) for op in order(all_outputs(graph)))


def layer_norm(w: Writer, x: str) -> str:
    return w.op("LayerNormalization", x, w.gain(HIDDEN), w.bias(HIDDEN), epsilon=1e-5)


def plain_layer_norm(w: Writer, x: str) -> str:
    return w.op("LayerNormalization", x, w.gain(HIDDEN), axis=-1)


def rms_norm(w: Writer, x: str) -> str:
    return w.op("RMSNormalization", x, w.gain(HIDDEN), epsilon=1e-6)


@pytest.mark.parametrize("norm", [layer_norm, plain_layer_norm])
def test_layer_normalization(tmp_path: Path, norm: Step) -> None:
    model = decoder(tmp_path, norm=norm)
    graph = raised(model).graph
    compare(graph, model, IDS)
    assert count(graph, LayerNorm) == 3


def test_rms_normalization(tmp_path: Path) -> None:
    model = decoder(tmp_path, norm=rms_norm, opset=23)
    graph = raised(model).graph
    compare(graph, model, IDS)
    assert count(graph, RMSNorm) == 3


def test_a_norm_of_two_axes_is_refused(tmp_path: Path) -> None:
    model = decoder(
        tmp_path, norm=lambda w, x: w.op("LayerNormalization", x, w.gain(HIDDEN), axis=1)
    )
    assert "more than the last axis" in reasons(model)


@pytest.mark.parametrize("epsilon", [-1.0, float("nan"), float("inf")])
def test_an_absurd_epsilon_is_refused(tmp_path: Path, epsilon: float) -> None:
    def norm(w: Writer, x: str) -> str:
        return w.op("LayerNormalization", x, w.gain(HIDDEN), epsilon=epsilon)

    assert "epsilon" in reasons(decoder(tmp_path, norm=norm))


def test_no_epsilon(tmp_path: Path) -> None:
    def norm(w: Writer, x: str) -> str:
        return w.op("LayerNormalization", x, w.gain(HIDDEN), epsilon=0.0)

    model = decoder(tmp_path, norm=norm)
    compare(raised(model).graph, model, IDS)
