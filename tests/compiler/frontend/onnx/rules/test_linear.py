"""MatMul and Gemm by a constant, in either orientation; one weight in two roles is one constant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto
from support.contrib import HIDDEN, IDS, VOCAB, Step, Writer, decoder
from support.raised import compare, raised, reasons
from support.spelled import ints

from hearth.compiler.ir.ops import Embedding, Linear
from hearth.compiler.ir.rewrite import all_outputs, order


def flat(w: Writer, x: str, **attributes: float) -> str:
    """Gemm takes matrices: [B, T, E] as [B * T, E] and back."""
    rows = w.op("Reshape", x, ints(w, -1, HIDDEN))
    weight, bias = w.weight(HIDDEN, HIDDEN), w.bias(HIDDEN)
    y = w.op("Gemm", rows, weight, *([bias] if not attributes.get("alpha") else []), **attributes)
    return w.op("Reshape", y, w.op("Shape", x))


def biased(w: Writer, x: str) -> str:
    return w.op("Add", w.bias(HIDDEN), w.product(x, HIDDEN, HIDDEN))


def transposed(w: Writer, x: str) -> str:
    return w.op("MatMul", x, w.op("Transpose", w.weight(HIDDEN, HIDDEN), perm=[1, 0]))


def scaled(w: Writer, x: str) -> str:
    half = w.tensor(np.array(0.5, np.float32), "half")
    return w.op("Mul", flat(w, x, alpha=2.0), half)


FORMS: dict[str, Step] = {
    "gemm": flat,
    "gemm_transposed": lambda w, x: flat(w, x, transB=1),
    "gemm_scaled": scaled,
    "matmul_biased": biased,
    "matmul_transposed": transposed,
}


@pytest.mark.parametrize("step", FORMS.values(), ids=FORMS)
def test_linear(tmp_path: Path, step: Step) -> None:
    model = decoder(tmp_path, mlp=step)
    compare(raised(model).graph, model, IDS)


def test_a_tied_head_is_the_table(tmp_path: Path) -> None:
    def logits(w: Writer, x: str) -> str:
        return w.op("MatMul", x, w.op("Transpose", "table", perm=[1, 0]))

    def table(w: Writer, ids: str) -> str:
        w.tensors["table"] = w.rng.standard_normal((VOCAB, HIDDEN)).astype(np.float32)
        return w.op("Gather", "table", ids)

    model = decoder(tmp_path, embedding=table, logits=logits)
    graph = raised(model).graph
    compare(graph, model, IDS)
    ops = order(all_outputs(graph))
    (embedding,) = [op for op in ops if isinstance(op, Embedding)]
    assert any(isinstance(op, Linear) and op.weight is embedding.table for op in ops)


def test_what_is_no_linear_is_refused(tmp_path: Path) -> None:
    def batched(w: Writer, x: str) -> str:
        weights = w.tensor(np.ones((1, HIDDEN, HIDDEN), np.float32))
        return w.op("MatMul", x, weights)

    assert "is no constant matrix" in reasons(
        decoder(tmp_path, mlp=batched)
    ) or "no matrix" in reasons(decoder(tmp_path, mlp=batched))


def test_a_weight_that_a_cast_rounds_is_not_taken_as_it_was(tmp_path: Path) -> None:
    def rounded(w: Writer, x: str) -> str:
        whole = w.op("Cast", w.weight(HIDDEN, HIDDEN), to=TensorProto.INT64)
        return w.op("MatMul", x, w.op("Cast", whole, to=TensorProto.FLOAT))

    assert "is no constant matrix" in reasons(decoder(tmp_path, mlp=rounded))


def test_a_head_with_a_bias(tmp_path: Path) -> None:
    def logits(w: Writer, x: str) -> str:
        return w.op("Add", w.product(x, HIDDEN, VOCAB), w.bias(VOCAB))

    model = decoder(tmp_path, logits=logits)
    compare(raised(model).graph, model, IDS)
