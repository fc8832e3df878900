"""Activations in every spelling are found by what they compute; unknown ones are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.contrib import FFN, HIDDEN, IDS, Step, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import number

from hearth.compiler.ir.ops import Activate
from hearth.compiler.ir.rewrite import all_outputs, order
from hearth.schemas.commands import Activation


def erf(w: Writer, x: str) -> str:
    return w.op("Add", w.op("Erf", w.op("Div", x, number(w, 2**0.5))), number(w, 1.0))


def tanh(w: Writer, x: str) -> str:
    cube = w.op("Mul", w.op("Pow", x, number(w, 3.0)), number(w, 0.044715))
    inner = w.op("Mul", w.op("Add", x, cube), number(w, 0.7978845608))
    return w.op("Add", number(w, 1.0), w.op("Tanh", inner))


def half(w: Writer, x: str) -> str:
    return w.op("Mul", x, number(w, 0.5))


FORMS: dict[str, tuple[Step, Activation]] = {
    "gelu_half_first": (lambda w, x: w.op("Mul", half(w, x), erf(w, x)), Activation.GELU),
    "gelu_half_last": (lambda w, x: half(w, w.op("Mul", x, erf(w, x))), Activation.GELU),
    "gelu_half_inside": (lambda w, x: w.op("Mul", x, half(w, erf(w, x))), Activation.GELU),
    "tanh_half_first": (lambda w, x: w.op("Mul", half(w, x), tanh(w, x)), Activation.GELU_TANH),
    "tanh_half_last": (lambda w, x: half(w, w.op("Mul", x, tanh(w, x))), Activation.GELU_TANH),
    "silu": (lambda w, x: w.op("Mul", w.op("Sigmoid", x), x), Activation.SILU),
    "silu_div": (
        lambda w, x: w.op("Div", x, w.op("Add", w.op("Exp", w.op("Neg", x)), number(w, 1.0))),
        Activation.SILU,
    ),
    "relu": (lambda w, x: w.op("Relu", x), Activation.RELU),
    "clip": (lambda w, x: w.op("Max", x, number(w, 0.0)), Activation.RELU),
    "tanh": (lambda w, x: w.op("Tanh", x), Activation.TANH),
    "sigmoid": (lambda w, x: w.op("Sigmoid", x), Activation.SIGMOID),
}


def mlp(step: Step) -> Step:
    return lambda w, x: w.product(step(w, w.product(x, HIDDEN, FFN)), FFN, HIDDEN)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_activation(tmp_path: Path, form: tuple[Step, Activation]) -> None:
    step, kind = form
    model = decoder(tmp_path, mlp=mlp(step))
    graph = raised(model).graph
    compare(graph, model, IDS)
    found = [op.activation for op in order(all_outputs(graph)) if isinstance(op, Activate)]
    assert found == [kind]


@pytest.mark.parametrize("op", ["Softplus", "Elu", "HardSwish", "Sign"])
def test_unknown_ones_are_refused(tmp_path: Path, op: str) -> None:
    model = decoder(tmp_path, mlp=mlp(lambda w, x: w.op(op, x)))
    assert "is no known activation" in reasons(model)
