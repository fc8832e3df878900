"""Activations as one node agree with onnxruntime; one that the IR lacks is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import FFN, HIDDEN, IDS, Step, Writer, decoder
from support.raised import compare, raised, reasons

from hearth.compiler.ir.ops import Activate
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.schemas.commands import Activation


def mlp(activation: Step) -> Step:
    return lambda w, x: w.product(activation(w, w.product(x, HIDDEN, FFN)), FFN, HIDDEN)


FORMS: dict[str, tuple[Step, Activation]] = {
    "gelu": (lambda w, x: w.op("Gelu", x), Activation.GELU),
    "gelu_tanh": (lambda w, x: w.op("Gelu", x, approximate="tanh"), Activation.GELU_TANH),
    "contrib_gelu": (lambda w, x: w.fused("Gelu", x), Activation.GELU),
    "fast_gelu": (lambda w, x: w.fused("FastGelu", x), Activation.GELU_TANH),
    "fast_gelu_bias": (lambda w, x: w.fused("FastGelu", x, w.bias(FFN)), Activation.GELU_TANH),
    "bias_gelu": (lambda w, x: w.fused("BiasGelu", x, w.bias(FFN)), Activation.GELU),
    "quick_gelu_1": (lambda w, x: w.fused("QuickGelu", x, alpha=1.0), Activation.SILU),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_activation(tmp_path: Path, form: tuple[Step, Activation]) -> None:
    step, kind = form
    model = decoder(tmp_path, mlp=mlp(step))
    graph = raised(model).graph
    compare(graph, model, IDS)
    found = [op.activation for op in order(all_outputs(graph)) if isinstance(op, Activate)]
    assert found == [kind]


def test_quick_gelu_is_refused(tmp_path: Path) -> None:
    def quick(w: Writer, x: str) -> str:
        return w.fused("QuickGelu", x, alpha=1.702)

    assert "no known activation" in reasons(decoder(tmp_path, mlp=mlp(quick)))
