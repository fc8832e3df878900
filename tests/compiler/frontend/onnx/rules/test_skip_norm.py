"""SkipLayerNormalization and SkipSimplifiedLayerNormalization agree with onnxruntime, their sums too."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import HIDDEN, IDS, Writer, decoder, gated
from support.raised import compare, raised

from hearth.compiler.ir.ops import LayerNorm, RMSNorm
from hearth.compiler.ir.rewrite import all_outputs, order


def skipping(w: Writer, x: str, simplified: bool, biased: bool, linear_first: bool) -> str:
    """norm(x + y) + (x + y), y a linear of x."""
    y = w.product(x, HIDDEN, HIDDEN)
    first, second = (y, x) if linear_first else (x, y)
    bias = [w.bias(HIDDEN)] if biased else []
    if simplified:
        z = w.fused(
            "SkipSimplifiedLayerNormalization", first, second, w.gain(HIDDEN), *bias,
            outputs=4, epsilon=1e-5,
        )  # fmt: skip
    else:
        z = w.fused(
            "SkipLayerNormalization", first, second, w.gain(HIDDEN), w.bias(HIDDEN), *bias,
            outputs=4, epsilon=1e-5,
        )  # fmt: skip
    return w.op("Add", gated(w, z), f"{z}.3")


@pytest.mark.parametrize("simplified", [False, True], ids=["layer", "simplified"])
@pytest.mark.parametrize("biased", [False, True], ids=["plain", "biased"])
@pytest.mark.parametrize("linear_first", [False, True], ids=["skip_is_linear", "input_is_linear"])
def test_skip_norm(tmp_path: Path, simplified: bool, biased: bool, linear_first: bool) -> None:
    model = decoder(tmp_path, mlp=lambda w, x: skipping(w, x, simplified, biased, linear_first))
    graph = raised(model).graph
    compare(graph, model, IDS)
    kinds = [type(op) for op in order(all_outputs(graph))]
    assert kinds.count(LayerNorm) == (0 if simplified else 1)
    assert kinds.count(RMSNorm) == (4 if simplified else 3)
